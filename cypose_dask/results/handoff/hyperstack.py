"""TrackMate's input: an ImageJ hyperstack of the movie whose last channel is the label image.

TrackMate's label image detector takes a channel, and its calibration from the image. ImageJ reads
integers of 16 bits and no wider ones, and the pixels behind 4 GB of a file in which they lie in one
piece (Source: ImageJ's TiffDecoder; `tifffile`, "ImageJ hyperstack > 4 GB"), so that nothing is
compressed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.errors import ResultError, SettingsError
from cypose_dask.movies import Movie
from cypose_dask.results.atomic import whole_file
from cypose_dask.results.handoff.choice import explained
from cypose_dask.results.naming import SOFTWARE, with_position
from cypose_dask.results.pages import LabelPages
from cypose_dask.results.source import frame_or_blank, movie_of
from cypose_dask.results.store import Result, Status
from cypose_dask.results.tif import (
    Ids,
    imagej_scale,
    label_pages,
    require_complete,
    require_files,
    require_ids,
    resolution,
)

__all__ = ["export_trackmate"]

# Types of pixels, and the ImageJ type that holds each of their values.
_STACK_TYPES = {
    "bool": "uint16", "uint8": "uint16", "uint16": "uint16",
    "int8": "float32", "int16": "float32", "float16": "float32", "float32": "float32",
}  # fmt: skip
# The largest whole number up to which a float32 holds all of them.
_LARGEST_LABEL = {"uint16": 2**16 - 1, "float32": 2**24}
# ImageJ shows no more channels in one picture.
_MOST_COMPOSITE = 7
# Offsets of a classic TIFF have 32 bits; the rest is room for tags.
_LARGEST_CLASSIC_BYTES = 2**32 - 2**25
_CHECKED_PAGES = 3


def export_trackmate(
    result: Result | str | Path,
    path: str | Path,
    *,
    ids: Ids = "frame",
    movie: str | Path | None = None,
    allow_incomplete: bool = False,
) -> list[Path]:
    """Write the movie and its labels as hyperstacks for TrackMate, one a position.

    Memory does not grow with the length of the movie.

    Parameters
    ----------
    result : Result, str or Path
    path : str or Path
        ``x.tif``. A movie of several positions gives ``x_p000.tif``, ``x_p001.tif``.
    ids : "frame" or "movie"
        As in `export_tif`. TrackMate makes one spot of every label of a frame, so that numbers of
        cells may return in other frames.
    movie : str, Path or None
        Where the movie lies now; None looks where it was, and beside the result.
    allow_incomplete : bool
        Write blank labels where frames were not segmented instead of refusing.

    Returns
    -------
    list of Path
        ImageJ hyperstacks (T, Z, C, Y, X) of the selected frames. The channels are those of the
        movie and then the labels, uint16; float32 where the movie has signed or broken numbers.
        Pixel size (um), distance of planes (um) and time between frames (s) are set where known.

    Raises
    ------
    IncompleteResultError
        If frames have no labels and `allow_incomplete` is False.
    MovieNotFoundError
        If the movie is gone.
    MovieError
        If it cannot be read.
    SettingsError
        If the pixels or labels do not fit into a type that ImageJ knows, or `ids` is another word.
    ResultError
        If the result is damaged, or a file cannot be written. No file is left then.
    """
    require_ids(ids)
    result = require_complete(result, allow_incomplete)
    opened, paths = movie_of(result, movie), with_position(Path(path), result.n_positions)
    for position, labels in enumerate(label_pages(result, ids)):
        require_files(result, position, labels)
        stack = _Stack(opened, labels, position, _stack_type(opened))
        stack.require_room()
        with explained(paths[position]), whole_file(paths[position]) as partial:
            _write(partial, stack)
            _check(partial, stack)
    return paths


def _stack_type(movie: Movie) -> np.dtype[Any]:
    name = _STACK_TYPES.get(movie.info.dtype.name)
    if name is None:
        raise SettingsError(
            f"{movie.info.path} has pixels of type {movie.info.dtype}, which ImageJ does not "
            "know. Save the movie as uint16 or float32 first and segment that; or take --to tif, "
            "which holds the labels alone."
        )
    return np.dtype(name)


@dataclass(frozen=True, slots=True)
class _Stack:
    """The pages of one position: for each T and Z the movie's channels, then the labels."""

    movie: Movie
    labels: LabelPages
    position: int
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """T, Z, C, Y, X."""
        t, z, y, x = self.labels.array.shape
        return t, z, self.movie.info.sizes["C"] + 1, y, x

    def require_room(self) -> None:
        """Raise SettingsError if the type does not hold the highest label."""
        highest, most = self.labels.highest, _LARGEST_LABEL[self.dtype.name]
        if highest > most:
            raise SettingsError(
                f"{self.labels.store} numbers cells up to {highest}, and a hyperstack of "
                f"{self.dtype} holds {most}. Number the cells of each frame (--ids frame), or take "
                "--to tif, which can be uint32."
            )

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (Y, X) pages in file order, reading one frame at a time."""
        frames = np.ndindex(self.shape[:2])
        for (t, z), labels in zip(frames, self.labels, strict=True):
            for channel in self._frame(t, z):
                yield channel.astype(self.dtype, copy=False)
            yield labels.astype(self.dtype, copy=False)

    def _frame(self, t: int, z: int) -> np.ndarray:
        place = (self.labels.first + t, self.position, z)
        done = self.labels.status[t, z] == Status.DONE
        return frame_or_blank(self.movie, place, may_be_damaged=not done)

    def page(self, number: int) -> np.ndarray:
        """Return one page, read on its own."""
        t, z, c = (int(i) for i in np.unravel_index(number, self.shape[:3]))
        is_labels = c == self.shape[2] - 1
        page = self.labels[t * self.shape[1] + z] if is_labels else self._frame(t, z)[c]
        return page.astype(self.dtype, copy=False)


def _write(path: Path, stack: _Stack) -> None:
    import tifffile

    size = int(np.prod(stack.shape, dtype=int)) * stack.dtype.itemsize
    layout = stack.labels.layout
    names = [*stack.movie.info.channel_names, "labels"]
    with tifffile.TiffWriter(path, imagej=True) as tif:
        tif.write(
            iter(stack),
            shape=stack.shape,
            dtype=stack.dtype,
            photometric="minisblack",
            software=SOFTWARE,
            # Beyond 4 GB no other page can be pointed to; ImageJ counts on from the first.
            truncate=size > _LARGEST_CLASSIC_BYTES,
            metadata={
                "axes": "TZCYX",
                "mode": "composite" if len(names) <= _MOST_COMPOSITE else "grayscale",
                "Info": "\n".join(f"channel {i}: {name}" for i, name in enumerate(names, 1)),
                **imagej_scale(layout),
            },
            **resolution(layout.pixel_size_um, per_cm=False),
        )


def _check(path: Path, stack: _Stack) -> None:
    """Read the file again before it gets its name: shape and sampled pages."""
    import tifffile

    pages = int(np.prod(stack.shape[:3], dtype=int))
    mapped = tifffile.memmap(path, mode="r").reshape(pages, *stack.shape[3:])
    for number in sorted({int(i) for i in np.linspace(0, pages - 1, _CHECKED_PAGES)}):
        if not np.array_equal(mapped[number], stack.page(number), equal_nan=True):
            raise ResultError(
                f"{path}: page {number} differs from the result after writing. The disk may be "
                "faulty; nothing was kept."
            )
