"""OME-Zarr 0.5 with the movie and its labels in one store: all that a viewer needs.

A result holds labels alone. Here each position is an image (T, C, Z, Y, X) whose labels
(T, Z, Y, X) lie in its group and name it as their source (Source: OME-NGFF 0.5, "image-label").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.errors import ResultError
from cypose_dask.movies import Movie, MovieInfo
from cypose_dask.results.atomic import whole_folder
from cypose_dask.results.handoff.choice import explained, frames_without_labels
from cypose_dask.results.image import create_image, write_frames
from cypose_dask.results.naming import SOFTWARE
from cypose_dask.results.pages import LabelPages
from cypose_dask.results.source import frame_or_blank, movie_of
from cypose_dask.results.store import ATTRIBUTES, LABELS, Result, Status
from cypose_dask.results.tif import label_pages, require_complete, require_files
from cypose_dask.results.writing import create_labels, write_block

__all__ = ["export_ome_zarr"]

# From labels/cells to the group of the image.
_IMAGE_LABEL = {"source": {"image": "../../"}}
# Percentiles of a frame that viewers show as black and white; a few hot pixels are left out.
_SHOWN = (0.1, 99.9)


def export_ome_zarr(
    result: Result | str | Path,
    place: str | Path,
    *,
    movie: str | Path | None = None,
    allow_incomplete: bool = False,
) -> list[Path]:
    """Write the movie and its labels as one OME-Zarr store, a group a position.

    One block is held at a time: memory does not grow with the length of the movie.

    Parameters
    ----------
    result : Result, str or Path
    place : str or Path
        The ``.ome.zarr`` folder; must not exist.
    movie : str, Path or None
        Where the movie lies now; None looks where it was, and beside the result.
    allow_incomplete : bool
        Write blank labels where frames were not segmented instead of refusing. The store lists
        these frames in its attributes.

    Returns
    -------
    list of Path
        The folder. Images ``N/0`` (T, C, Z, Y, X) of the selected frames have the movie's type;
        labels ``N/labels/cells/0`` (T, Z, Y, X) are uint32. Scales are in s and um where known.

    Raises
    ------
    IncompleteResultError
        If frames have no labels and `allow_incomplete` is False.
    MovieNotFoundError
        If the movie is gone.
    MovieError
        If it cannot be read.
    ResultError
        If `place` exists, the result is damaged, or the folder cannot be written. Nothing is left
        of it then.
    """
    place = Path(place)
    result = require_complete(result, allow_incomplete)
    opened = movie_of(result, movie)
    with explained(place), whole_folder(place) as partial:
        _create(partial, result, opened)
        for position, labels in enumerate(label_pages(result, "frame")):
            require_files(result, position, labels)
            source = _Source(opened, labels, position)
            _write(partial, source)
            _check(partial, source)
    return [place]


def _create(path: Path, result: Result, movie: Movie) -> None:
    import zarr

    create_image(path, _chosen(movie.info, result), result.layout.frames_per_block)
    root = zarr.open_group(path, mode="r+")
    # Tells a search for movies that this is no new one.
    about = {"software": SOFTWARE, "result": result.path.name}
    root.attrs[ATTRIBUTES] = {**about, "without_labels": frames_without_labels(result)}
    for position in range(result.n_positions):
        create_labels(root[str(position)], result.layout, _IMAGE_LABEL)


def _chosen(info: MovieInfo, result: Result) -> MovieInfo:
    """Return what is known about the selected frames, with the result's scale."""
    layout = result.layout
    return replace(
        info,
        sizes={**info.sizes, "T": layout.frames},
        position_names=layout.position_names,
        pixel_size_um=layout.pixel_size_um,
        z_step_um=layout.z_step_um,
        interval_s=layout.interval_s,
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """The frames and labels of one position, block by block."""

    movie: Movie
    labels: LabelPages
    position: int

    def blocks(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield first frame, pixels (t, Z, C, Y, X) and labels (t, Z, Y, X) of each block."""
        pages, (frames, planes) = iter(self.labels), self.labels.status.shape
        step = self.labels.layout.frames_per_block
        for first in range(0, frames, step):
            times = range(first, min(first + step, frames))
            labels = np.stack(list(islice(pages, len(times) * planes)))
            pixels = np.stack([self.pixels(t) for t in times])
            yield first, pixels, labels.reshape(len(times), planes, *labels.shape[1:])

    def pixels(self, t: int) -> np.ndarray:
        """Read all planes (Z, C, Y, X) of a frame of the result."""
        first, done = self.labels.first, self.labels.status[t] == Status.DONE
        return np.stack(
            [
                frame_or_blank(
                    self.movie, (first + t, self.position, z), may_be_damaged=not labelled
                )
                for z, labelled in enumerate(done)
            ]
        )


def _write(path: Path, source: _Source) -> None:
    for first, pixels, labels in source.blocks():
        place = (source.position, first)
        write_frames(path, place, pixels)
        write_block(path, place, {"labels": labels.astype(np.uint32, copy=False)})
        if first == 0:
            _set_windows(path, source.position, pixels[0])


def _set_windows(path: Path, position: int, frame: np.ndarray) -> None:
    """Let viewers show what the first frame (Z, C, Y, X) has: 12 bits of 16 would look black."""
    import zarr

    group = zarr.open_group(path, mode="r+")[str(position)]
    ome: dict[str, Any] = dict(group.attrs["ome"])
    for channel, pixels in zip(ome["omero"]["channels"], frame.swapaxes(0, 1), strict=True):
        low, high = (float(limit) for limit in np.nanpercentile(pixels.astype(float), _SHOWN))
        if np.isfinite([low, high]).all() and low < high:
            channel["window"].update(start=low, end=high)
    group.attrs["ome"] = ome


def _check(path: Path, source: _Source) -> None:
    """Read the first and last frame again before the folder gets its name."""
    import zarr

    group = zarr.open_group(path, mode="r")[str(source.position)]
    frames, planes = source.labels.status.shape
    for t in {0, frames - 1}:
        labels = [source.labels[t * planes + z] for z in range(planes)]
        same = np.array_equal(group["0"][t].swapaxes(0, 1), source.pixels(t), equal_nan=True)
        if not (same and np.array_equal(group[LABELS][t], labels)):
            raise ResultError(
                f"{path}: frame {t} of position {source.position} differs from its source after "
                "writing. The disk may be faulty; nothing was kept."
            )
