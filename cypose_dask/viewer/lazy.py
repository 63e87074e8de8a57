"""Arrays (T, P, Z, Y, X) that read a plane when a viewer shows it.

A viewer must not stop at a damaged frame: it is shown as zeros, and one warning says so. Whoever
computes with a frame takes `LazyPlanes.plane`, which raises.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.errors import CyposeError, ResultError
from cypose_dask.movies import Movie, MovieInfo
from cypose_dask.results import Result
from cypose_dask.results.pages import read_array
from cypose_dask.results.store import LABELS, READ_ERRORS
from cypose_dask.results.tif import Ids, label_pages

__all__ = ["ExportedPlanes", "ImagePlanes", "LabelPlanes", "LazyPlanes", "OneWarning"]


class OneWarning:
    """Warns once, of the first frame that cannot be read; napari shows warnings to its user."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, error: CyposeError) -> None:
        """Say what happened, unless something was said before."""
        if not self._said:
            self._said = True
            warnings.warn(
                f"Shown as zeros, like any frame that cannot be read: {error}", stacklevel=2
            )


class LazyPlanes(ABC):
    """Planes of (T, P, Z, Y, X), indexed as numpy does with integers and slices.

    Parameters
    ----------
    shape : tuple of int
        Sizes of T, P, Z, Y and X.
    dtype : numpy.dtype
    warn : OneWarning
    """

    ndim = 5

    def __init__(self, shape: tuple[int, ...], dtype: Any, warn: OneWarning) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._warn = warn

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    @abstractmethod
    def plane(self, t: int, p: int, z: int) -> np.ndarray:
        """Read a plane (Y, X).

        Raises
        ------
        CyposeError
            If it is damaged or cannot be read.
        """

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        keys = _expanded(key, self.ndim)
        picks = [np.arange(n)[k] for n, k in zip(self.shape, keys[:3], strict=False)]
        grid = np.stack(np.meshgrid(*picks, indexing="ij"), axis=-1).reshape(-1, 3)
        planes = np.empty((len(grid), *self.shape[3:]), self.dtype)
        for i, (t, p, z) in enumerate(grid.tolist()):
            planes[i] = self._shown(t, p, z)
        kept = [n for pick in picks for n in pick.shape]
        return planes.reshape(*kept, *self.shape[3:])[(..., *keys[3:])]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("Unread planes cannot become an array without a copy.")
        return self[...].astype(dtype or self.dtype, copy=False)

    def _shown(self, t: int, p: int, z: int) -> np.ndarray:
        try:
            return self.plane(t, p, z)
        except CyposeError as error:
            self._warn(error)
            return np.zeros(self.shape[3:], self.dtype)


class ImagePlanes(LazyPlanes):
    """The first channel of a movie."""

    def __init__(self, movie: Movie, warn: OneWarning) -> None:
        sizes = movie.info.sizes
        super().__init__(tuple(sizes[axis] for axis in "TPZYX"), movie.info.dtype, warn)
        self._movie = movie

    def plane(self, t: int, p: int, z: int) -> np.ndarray:
        """Read a plane (Y, X); raises MovieError."""
        return self._movie.read_frame(t, p, z)[0]


class LabelPlanes(LazyPlanes):
    """The labels of all positions, uint32, with the checks of an export.

    Frames that are not done are blank: a run that was killed leaves pixels nobody vouches for.

    Parameters
    ----------
    result : Result
    ids : "frame", "movie" or "track"
        How cells are numbered, as in `export_tif`.

    Attributes
    ----------
    status : (T, P, Z) ndarray of uint8

    Raises
    ------
    ResultError
        If the result contradicts itself, or its tracks are asked for and cannot be read.
    """

    def __init__(self, result: Result, ids: Ids = "frame") -> None:
        self._pages = list(label_pages(result, ids))
        self.status = np.stack([pages.status for pages in self._pages], axis=1)
        frame = (result.layout.height, result.layout.width)
        super().__init__((*self.status.shape, *frame), np.uint32, OneWarning())

    def plane(self, t: int, p: int, z: int) -> np.ndarray:
        """Read a plane (Y, X); raises ResultError."""
        return self._pages[p][t * self.shape[2] + z].astype(np.uint32, copy=False)


class ExportedPlanes(LazyPlanes):
    """The labels in an exported OME-Zarr, uint32.

    Raises
    ------
    ResultError
        If they are not there, or not of the shape of the images.
    """

    def __init__(self, store: Path, info: MovieInfo) -> None:
        shape = tuple(info.sizes[axis] for axis in "TPZYX")
        super().__init__(shape, np.uint32, OneWarning())
        self._store = store
        self._arrays = _exported(store, shape)

    def plane(self, t: int, p: int, z: int) -> np.ndarray:
        """Read a plane (Y, X); raises ResultError."""
        return read_array(self._store, self._arrays[p], (t, z)).astype(np.uint32, copy=False)


def _exported(store: Path, shape: tuple[int, ...]) -> list[Any]:
    """Open the labels of every position, zarr arrays (T, Z, Y, X)."""
    import zarr

    expected = (shape[0], *shape[2:])
    try:
        root: Any = zarr.open_group(store, mode="r")
        arrays = [root[f"{p}/{LABELS}"] for p in range(shape[1])]
        found = {array.shape for array in arrays}
    except (*READ_ERRORS, AttributeError) as error:
        raise ResultError(
            f"{store}: its labels cannot be opened ({error!r}). The copy may be incomplete: copy "
            "it, or export the result again."
        ) from error
    if found != {expected}:
        raise ResultError(
            f"{store}: found labels of {sorted(found)}; expected {expected} (T, Z, Y, X), as its "
            "images have. The store was changed or damaged; export the result again."
        )
    return arrays


def _expanded(key: Any, ndim: int) -> tuple[Any, ...]:
    """Fill a key up to `ndim` entries; an Ellipsis stands for as many ``:`` as fit."""
    keys = key if isinstance(key, tuple) else (key,)
    at = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
    before, after = keys[:at], keys[at + 1 :]
    if len(before) + len(after) > ndim:
        raise IndexError(f"Found {len(keys)} indices; expected at most {ndim} (T, P, Z, Y, X).")
    return before + (slice(None),) * (ndim - len(before) - len(after)) + after
