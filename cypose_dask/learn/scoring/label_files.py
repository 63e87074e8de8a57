"""Label images in files, read one frame at a time: TIF, PNG, ``_seg.npy``, zarr and our results.

A label image has no channels, so that every axis in front of Y and X counts frames, in the order
in which the file stores them; what the file calls these axes does not matter.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cypose_dask.errors import MovieError, MovieNotFoundError
from cypose_dask.models.pickled import read_pickled_npy

if TYPE_CHECKING:
    from cypose_dask.movies import Movie
    from cypose_dask.results import Result

__all__ = ["LabelFrames", "read_labels"]

_TIFF = (".tif", ".tiff", ".btf", ".tf8")
_GLOB = "*?["
# Parts smaller than this share of the largest may belong to the same cell.
_CRUMB = 0.1


@dataclass(frozen=True, eq=False)
class LabelFrames:
    """The label images of one file, unread.

    Attributes
    ----------
    path : Path
    grid : tuple of int
        Number of positions, times and planes; frames are in this order, planes fastest.
    places : tuple of (int, int, int)
        Time, position and plane of each frame that has labels, as in the movie it was made from
        where the file knows that.
    not_done : tuple of str
        Frames without labels, which are pending, failed or damaged, in words. They are not empty,
        and reading them gives None.
    from_result : bool
        Whether it is a result of this package.
    """

    path: Path
    grid: tuple[int, int, int]
    places: tuple[tuple[int, int, int], ...]
    _read: Callable[[int], np.ndarray] = field(repr=False)
    not_done: tuple[str, ...] = ()
    from_result: bool = False
    _missing: frozenset[int] = frozenset()

    def __len__(self) -> int:
        """Return the number of frames, with those that have no labels."""
        return len(self.places)

    def has_labels(self, index: int) -> bool:
        """Tell whether a frame was segmented; only a result of this package can say no."""
        return index not in self._missing

    def name(self, index: int) -> str:
        """Return what tells a frame from the others of its file: ``"t=3 z=0"``, or nothing."""
        positions, times, planes = self.grid
        t, p, z = self.places[index]
        parts = ((positions, f"p={p}"), (times, f"t={t}"), (planes, f"z={z}"))
        return " ".join(part for count, part in parts if count > 1)

    def read(self, index: int) -> np.ndarray | None:
        """Read one frame: labels (Y, X), whole numbers with 0 for the background.

        Returns
        -------
        ndarray of int or None
            None if the frame has no labels because it was never segmented.

        Raises
        ------
        MovieError
            If the frame cannot be read, or holds something else than labels.
        """
        if not self.has_labels(index):
            return None
        labels = np.asarray(self._read(index))
        where = f"{self.path} {self.name(index)}".rstrip()
        _require_labels(labels, where, trusted=self.from_result)
        return labels.astype(np.uint8) if labels.dtype.kind == "b" else labels

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        """Read every frame that has labels: its `name` and the labels (Y, X)."""
        for index in range(len(self)):
            labels = self.read(index)
            if labels is not None:
                yield self.name(index), labels


def read_labels(path: str | Path) -> LabelFrames:
    """Open label images without reading them.

    Parameters
    ----------
    path : str or Path
        A TIF of one frame or a stack of any length, a PNG, Cellpose's ``_seg.npy``, a result of
        this package (``.zarr``), another zarr array or OME-Zarr label image, or a pattern such as
        ``"truth/img*.tif"`` for one file a frame.

    Returns
    -------
    LabelFrames
        Iterating over it reads one frame after the other: ``for name, labels in read_labels(...)``.

    Raises
    ------
    MovieNotFoundError
        If there is nothing at `path`.
    MovieError
        If the file cannot be read, or has colours or channels.
    ResultError
        If a result is damaged.
    """
    path = Path(path)
    is_pattern = any(sign in str(path) for sign in _GLOB) and not path.exists()
    if not path.exists() and not is_pattern:
        raise MovieNotFoundError(f"{path}: there is no such file. Check the path.")
    if path.name.lower().endswith(".npy"):
        return _from_npy(path)
    if path.is_dir():
        return _from_zarr(path)
    if path.suffix.lower() in _TIFF and not is_pattern:
        return _from_tiff(path)
    return _from_movie(path, None)


def _from_zarr(path: Path) -> LabelFrames:
    from cypose_dask.results import is_own_output, open_result

    if is_own_output(path):
        return _from_result(open_result(path))
    shape = _array_shape(path)
    return _from_movie(path, None if shape is None else _letters(path, shape))


def _array_shape(path: Path) -> tuple[int, ...] | None:
    """Return the shape of a zarr array; None for a group, which names its axes itself."""
    import zarr

    try:
        opened = zarr.open(path, mode="r")
    except (OSError, LookupError, ValueError, TypeError):
        return None
    return opened.shape if isinstance(opened, zarr.Array) else None


def _from_result(result: Result) -> LabelFrames:
    from cypose_dask.results import Status

    layout = result.layout
    grid = (result.n_positions, layout.frames, layout.planes)
    status = np.stack([result.status(p) for p in range(grid[0])])
    chosen = result.attributes.get("plan", {}).get("positions") or list(range(grid[0]))
    inside = list(np.ndindex(grid))
    missing = frozenset(np.flatnonzero(status.ravel() != Status.DONE).tolist())
    arrays = [result.labels(p) for p in range(grid[0])]

    def read(index: int) -> np.ndarray:
        p, t, z = inside[index]
        return np.asarray(arrays[p][t, z])

    places = tuple((t + result.start_frame, int(chosen[p]), z) for p, t, z in inside)
    words = [Status(int(one)).name.lower() for one in status.ravel()]
    frames = LabelFrames(result.path, grid, places, read, from_result=True, _missing=missing)
    not_done = tuple(f"{frames.name(i)} {words[i]}".strip() for i in sorted(missing))
    return LabelFrames(result.path, grid, places, read, not_done, True, missing)


def _from_tiff(path: Path) -> LabelFrames:
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            kinds = [(series.axes, series.shape) for series in tif.series]
    except (tifffile.TiffFileError, ValueError, OSError, LookupError, TypeError) as error:
        raise MovieError(f"{path}: not a readable TIF ({error}).") from error
    if len(kinds) != 1:
        return _from_movie(path, None)
    axes, shape = kinds[0]
    if axes.endswith("S") and shape[-1] > 1:
        raise MovieError(_colours(path))
    return _from_movie(path, _letters(path, shape[: len(axes.rstrip("S"))]))


def _letters(path: Path, shape: tuple[int, ...]) -> str:
    leading = sum(size > 1 for size in shape[:-2])
    if len(shape) < 2 or leading > 3:
        raise MovieError(
            f"{path}: found an array of {shape}; expected labels (Y, X) and at most three axes in "
            "front of them."
        )
    return ("", "T", "TZ", "PTZ")[leading] + "YX"


def _from_movie(path: Path, axes: str | None) -> LabelFrames:
    from cypose_dask.movies import open_movie

    movie = open_movie(path, axes=axes, rgb="mean")
    sizes = movie.info.sizes
    if movie.source.mean_of_samples:
        raise MovieError(_colours(path))
    if sizes["C"] > 1:
        raise MovieError(
            f"{path}: found {sizes['C']} channels; expected labels, which have none. Save the "
            "label image alone."
        )
    grid = (sizes["P"], sizes["T"], sizes["Z"])
    places = tuple((t, p, z) for p, t, z in np.ndindex(grid))
    return LabelFrames(path, grid, places, _reader(movie, places))


def _reader(movie: Movie, places: tuple[tuple[int, int, int], ...]) -> Callable[[int], np.ndarray]:
    return lambda index: np.asarray(movie.read_frame(*places[index])[0])


def _from_npy(path: Path) -> LabelFrames:
    masks = _masks_of(path)
    if masks.ndim not in (2, 3):
        raise MovieError(f"{path}: found masks of {masks.shape}; expected (Y, X) or (Z, Y, X).")
    if masks.dtype.kind == "i" and masks.min(initial=0) == -1:
        # The first versions of Cellpose stored -1 for the background; its GUI reads them like this.
        masks = masks + 1
    planes = masks.reshape(-1, *masks.shape[-2:])
    places = tuple((0, 0, z) for z in range(len(planes)))
    return LabelFrames(path, (1, 1, len(planes)), places, lambda index: planes[index])


def _masks_of(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError):
        array = None
    if array is not None:
        return np.squeeze(array)
    try:
        content = read_pickled_npy(path)
        return np.squeeze(np.asarray(content["masks"]))
    except (pickle.UnpicklingError, LookupError, TypeError, OSError) as error:
        raise MovieError(
            f"{path}: not a label file of Cellpose ({error}). Expected a dictionary with 'masks' "
            "that holds numbers, text and arrays alone; anything else in the file is refused."
        ) from error


def _require_labels(labels: np.ndarray, where: str, *, trusted: bool) -> None:
    if labels.dtype.kind not in "bui":
        raise MovieError(
            f"{where}: found pixels of type {labels.dtype}; expected whole numbers. Labels are 0 "
            "for the background and one number a cell: check that this is the label image, and "
            "save it as uint16 or uint32."
        )
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0:
        raise MovieError(f"{where}: found a label of {low}; labels are 0 and above.")
    if trusted or not high:
        return
    least = int(labels.min())
    if 0 < least < high:
        raise MovieError(
            f"{where}: no pixel is 0, values go from {least} to {high}. This looks like an image; "
            "expected labels with 0 for the background."
        )
    if not (labels[labels > 0] != high).any():
        _require_one_cell(labels > 0, where)


def _require_one_cell(mask: np.ndarray, where: str) -> None:
    from scipy.ndimage import label

    parts, count = label(mask, np.ones((3, 3)))
    if count < 2:
        return
    area = np.sort(np.bincount(parts.ravel())[1:])
    if count > 2 or area[-2] >= _CRUMB * area[-1]:
        raise MovieError(
            f"{where}: all cells have the same number, in {count} separate parts. This is a mask "
            "of foreground, not labels. Number the cells first, for example with "
            "skimage.measure.label; cells that touch must be separated by hand."
        )


def _colours(path: Path) -> str:
    return (
        f"{path}: found colours; expected labels, one whole number a pixel. Save the label image "
        "itself, not a picture of it."
    )
