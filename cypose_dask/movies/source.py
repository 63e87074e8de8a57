"""Where frames come from: an address that travels to workers, and the way to read it.

A `FrameSource` is a few hundred bytes when pickled, whatever the length of the movie. The
file behind it is opened by the process that reads, through `handles.lease`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from cypose_dask.errors import DamagedFrameError
from cypose_dask.movies.fingerprint import Fingerprint

__all__ = ["Description", "FrameSource", "Layout", "Signature", "Stamp"]

# Axes, sizes and type of the array in one file; all files of a sequence share them.
Signature = tuple[str, tuple[int, ...], str]
# The third of 4 samples is the last colour; a fourth is alpha.
_COLOURS = 3


@dataclass(frozen=True, slots=True)
class Stamp:
    """Size in bytes and time of modification (ns) of a movie at the time it was opened."""

    size_bytes: int
    mtime_ns: int


class Layout(Protocol):
    """How one kind of file lays out its frames: small, picklable, stateless."""

    def lease(self, path: str, stamp: Stamp) -> AbstractContextManager[Any]:
        """Borrow this process's handle of the file; it is opened at the first call."""

    def check(self, path: str, stamp: Stamp) -> None:
        """Raise MovieError if the file is no longer the one that was opened."""

    def read(
        self, handle: Any, at: tuple[int, int, int], channels: Sequence[int]
    ) -> npt.NDArray[Any]:
        """Read one frame at (t, p, z): (C, Y, X), or (C, Y, X, S) if it has samples."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a reader found in a file, before the caller's selection.

    `sizes` has the keys T, P, Z, C, Y, X; `samples` is 0 without an S axis; `dtype` is in
    native byte order; `damaged` holds (t, p, z).
    """

    format: str
    path: str
    layout: Layout
    stamp: Stamp
    fingerprint: Fingerprint
    sizes: dict[str, int]
    dtype: np.dtype[Any]
    samples: int = 0
    channel_names: tuple[str, ...] = ()
    position_names: tuple[str, ...] = ()
    pixel_size_um: float | None = None
    z_step_um: float | None = None
    interval_s: float | None = None
    notes: tuple[str, ...] = ()
    damaged: tuple[tuple[int, int, int], ...] = ()

    def with_notes(self, *notes: str) -> Description:
        """Return the same description with more sentences for the user."""
        return replace(self, notes=self.notes + notes)


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameSource:
    """The address of a movie's frames: what to open and how to read it.

    Attributes
    ----------
    path
        File, directory or pattern, absolute.
    layout
        The reader of this kind of file.
    stamp
        Size and modification time; a file that no longer matches is refused.
    shape
        Sizes of T, P, Z, C, Y, X.
    dtype
        In native byte order.
    channels
        Channels of the file that make up C, in this order.
    position
        The position of the file that is P = 0, if only one was selected.
    mean_of_samples
        Whether stored RGB samples are averaged.
    """

    path: str
    layout: Layout
    stamp: Stamp
    shape: tuple[int, int, int, int, int, int]
    dtype: np.dtype[Any]
    channels: tuple[int, ...]
    position: int | None = None
    mean_of_samples: bool = False

    def read(self, t: int, p: int, z: int) -> npt.NDArray[Any]:
        """Read the frame at (t, p, z) as a fresh, writable array (C, Y, X).

        Raises
        ------
        DamagedFrameError
            If the frame is missing or cannot be decoded.
        MovieError
            If the file has changed since it was opened, or cannot be read.
        """
        self.layout.check(self.path, self.stamp)
        at = (t, p if self.position is None else self.position, z)
        with self.layout.lease(self.path, self.stamp) as handle:
            # Copied inside the lease: the reader may hand out a view into its memory map.
            frame = self._finished(self.layout.read(handle, at, self.channels))
        return self._checked(frame, at)

    def _finished(self, frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.mean_of_samples:
            return mean_of_samples(frame, self.dtype)
        return np.array(frame, dtype=self.dtype, order="C", copy=True)

    def _checked(self, frame: npt.NDArray[Any], at: tuple[int, int, int]) -> npt.NDArray[Any]:
        if frame.shape != self.shape[3:]:
            raise DamagedFrameError(
                f"{self.path}: the frame at (t, p, z) = {at} has the shape {frame.shape} "
                f"(C, Y, X); expected {self.shape[3:]}."
            )
        return frame


def mean_of_samples(frame: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Average the colours of (C, Y, X, S), alpha left out, rounded back to `dtype`."""
    mean = frame[..., :_COLOURS].mean(axis=-1, dtype=np.float64)
    rounded = np.rint(mean) if dtype.kind in "iu" else mean
    return cast("npt.NDArray[Any]", rounded.astype(dtype))
