"""A window on a movie that can be sliced, sent and tokenized without reading anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from cypose_dask.movies.source import FrameSource

__all__ = ["LazyFrames"]

# What is taken of one axis: a single index (the axis is gone), or a run of indices.
Pick = int | range | tuple[int, ...]


class LazyFrames:
    """A window on a movie's frames, unread.

    Indexing makes a smaller window and reads nothing; `numpy.asarray` or `read` reads. The
    six axes are T, P, Z, C, Y, X; an integer drops its axis, as in numpy.

    Attributes
    ----------
    source
        The picklable address of the frames.
    """

    __slots__ = ("_picks", "source")

    def __init__(self, source: FrameSource, picks: tuple[Pick, ...] | None = None) -> None:
        self.source = source
        self._picks = picks or tuple(range(n) for n in source.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyFrames, (self.source, self._picks)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("LazyFrames", repr(self.source), repr(self._picks))

    def __repr__(self) -> str:
        return f"<LazyFrames {self.shape} {self.dtype} of {self.source.path}>"

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes that are left."""
        return tuple(len(pick) for pick in self._picks if not isinstance(pick, int))

    @property
    def ndim(self) -> int:
        """Number of axes that are left."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel, in native byte order."""
        return self.source.dtype

    @property
    def start(self) -> int:
        """Index of the first T of this window in the whole movie."""
        return _run(self._picks[0])[0]

    @property
    def position(self) -> int:
        """Index of the first P of this window in the whole movie."""
        return _run(self._picks[1])[0]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> LazyFrames:
        keys = iter(_expanded(key, self.ndim))
        picks = tuple(p if isinstance(p, int) else _narrow(p, next(keys)) for p in self._picks)
        return LazyFrames(self.source, picks)

    def read(self, t: int, p: int = 0, z: int = 0) -> npt.NDArray[Any]:
        """Read the frame at (t, p, z), counted within this window, as (C, Y, X).

        Raises
        ------
        DamagedFrameError
            If the frame is missing or cannot be decoded.
        MovieError
            If the file has changed since it was opened, or cannot be read.
        IndexError
            If the window has no such frame.
        """
        at = (_run(pick)[i] for pick, i in zip(self._picks[:3], (t, p, z), strict=True))
        frame = self.source.read(*at)
        return _windowed(frame, self._picks[3:])

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("Unread frames cannot become an array without a copy.")
        out = np.empty([len(_run(pick)) for pick in self._picks], dtype=dtype or self.dtype)
        if out.size:
            for at in np.ndindex(out.shape[:3]):
                out[at] = self.read(*at)
        return out.reshape(self.shape)


def _run(pick: Pick) -> range | tuple[int, ...]:
    return range(pick, pick + 1) if isinstance(pick, int) else pick


def _expanded(key: Any, ndim: int) -> tuple[Any, ...]:
    """Fill a key up to `ndim` entries; an Ellipsis stands for as many ``:`` as fit."""
    keys = key if isinstance(key, tuple) else (key,)
    dots = [i for i, k in enumerate(keys) if k is Ellipsis] or [len(keys)]
    before, after = keys[: dots[0]], keys[dots[0] + 1 :]
    missing = ndim - len(before) - len(after)
    if missing < 0 or len(dots) > 1 or any(k is None for k in keys):
        raise IndexError(f"{key!r} does not index {ndim} axes; None and a second ... do not work")
    return before + (slice(None),) * missing + after


def _narrow(pick: range | tuple[int, ...], key: Any) -> Pick:
    if isinstance(key, slice):
        return pick[key]
    if isinstance(key, (int, np.integer)):
        return pick[int(key)]
    if isinstance(key, Iterable):
        return tuple(int(i) for i in np.asarray(pick)[np.asarray(key)])
    raise IndexError(f"{key!r} is not an integer, a slice or a list of integers")


def _windowed(frame: npt.NDArray[Any], picks: tuple[Pick, ...]) -> npt.NDArray[Any]:
    """Cut (C, Y, X) down to the window; an untouched frame is returned as it is."""
    if all(pick == range(n) for pick, n in zip(picks, frame.shape, strict=True)):
        return frame
    return np.ascontiguousarray(frame[np.ix_(*(_run(pick) for pick in picks))])
