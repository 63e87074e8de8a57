"""ND2 files of Nikon NIS-Elements: their loops, names and units, through the `nd2` package.

Metadata is best effort: it never stops the reading of pixels.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cypose_dask.errors import DamagedFrameError, MovieError
from cypose_dask.movies import files, handles
from cypose_dask.movies.axes import StoredAxes, full_sizes, settle_axes
from cypose_dask.movies.fingerprint import fingerprint_of_files
from cypose_dask.movies.nd2_handle import PARSE_ERRORS, Nd2Handle
from cypose_dask.movies.source import Description, Stamp

__all__ = ["Nd2Layout", "describe_nd2"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

LOOP_LETTERS = {"TimeLoop": "T", "NETimeLoop": "T", "XYPosLoop": "P", "ZStackLoop": "Z"}
RGB_SAMPLES = 3
MAX_MISSING = 1_000_000


def lease_nd2(path: str, stamp: Stamp) -> AbstractContextManager[Nd2Handle]:
    """Borrow this process's handle of a file, opening it at the first call."""
    return handles.lease((Nd2Handle, path, stamp), lambda: Nd2Handle(path))


@dataclass(frozen=True, slots=True)
class Nd2Layout:
    """Order of the loops of an ND2 file: `loops` are letters, outermost first."""

    loops: str
    counts: tuple[int, ...]

    def lease(self, path: str, stamp: Stamp) -> AbstractContextManager[Nd2Handle]:
        """Borrow this process's handle of the file; it is opened at the first call."""
        return lease_nd2(path, stamp)

    def check(self, path: str, stamp: Stamp) -> None:
        """Raise MovieError if the file is no longer the one that was opened."""
        files.check_file(path, stamp)

    def sequence_index(self, at: tuple[int, int, int], channel: int = 0) -> int:
        """Return the number of the frame at (t, p, z) in acquisition order."""
        where = dict(zip("TPZC", (*at, channel), strict=True))
        index = 0
        for letter, count in zip(self.loops, self.counts, strict=True):
            index = index * count + where.get(letter, 0)
        return index

    def read(
        self, handle: Nd2Handle, at: tuple[int, int, int], channels: Sequence[int]
    ) -> npt.NDArray[Any]:
        """Read one frame as (C, Y, X), or (C, Y, X, S) if it is RGB."""
        with files.reading_errors(handle.path, at, *PARSE_ERRORS):
            if "C" in self.loops:
                parts = [self._one(handle, at, channel) for channel in channels]
                return np.concatenate(parts)
            return self._one(handle, at, 0)[list(channels)]

    def _one(self, handle: Nd2Handle, at: tuple[int, int, int], channel: int) -> npt.NDArray[Any]:
        index = self.sequence_index(at, channel)
        if not handle.is_whole(index, handle.size_bytes()):
            raise DamagedFrameError(
                f"{handle.path}: the frame at (t, p, z) = {at} (number {index} of the file) is "
                "missing; the acquisition was stopped or the file was cut."
            )
        frame = handle.read(index)
        if frame.shape[-1] == RGB_SAMPLES:
            return frame
        return np.moveaxis(frame, -1, 1).reshape(-1, *frame.shape[1:3])


def describe_nd2(path: str, *, axes: str | None, allow_damaged: bool) -> Description:
    """Find out what an ND2 file holds.

    Raises
    ------
    MovieError
        If it is not a readable ND2, has no frames, frames are missing (unless
        `allow_damaged`), or its loops cannot be named.
    """
    stamp = files.stamp_of_file(path)
    with lease_nd2(path, stamp) as handle:
        return _described(handle, stamp, axes, allow_damaged)


def _described(
    handle: Nd2Handle, stamp: Stamp, axes: str | None, allow_damaged: bool
) -> Description:
    path, file = handle.path, handle.file
    names, counts = _loops(handle)
    settled, layout, sizes = _settle(handle, names, counts, axes)
    files.require_sane_frame(path, (sizes[a] for a in "CYX"))
    damaged = _damaged(handle, layout, sizes, stamp.size_bytes)
    total = sizes["T"] * sizes["P"] * sizes["Z"]
    if damaged and not allow_damaged:
        raise MovieError(files.summary_of_damage(path, damaged, total))
    notes = [*settled.notes, *_spare_frames_note(handle, layout)]
    return Description(
        format="nd2",
        path=path,
        layout=layout,
        stamp=stamp,
        fingerprint=fingerprint_of_files([path]),
        sizes=sizes,
        samples=RGB_SAMPLES if handle.shape[-1] == RGB_SAMPLES else 0,
        dtype=handle.dtype,
        channel_names=_best_effort(lambda: _channel_names(file), (), notes),
        position_names=_best_effort(lambda: _position_names(file), (), notes),
        pixel_size_um=_best_effort(lambda: _pixel_size(file, notes), None, notes),
        z_step_um=_best_effort(lambda: _z_step(file), None, notes),
        interval_s=_best_effort(lambda: _interval(file, notes), None, notes),
        notes=tuple(notes),
        damaged=damaged,
    )


def _loops(handle: Nd2Handle) -> tuple[str, tuple[int, ...]]:
    """Return letter and count of each loop, outermost first; ``U`` for a loop without a name."""
    stored = int(handle.attributes.sequenceCount)
    try:
        loops = handle.file.experiment
    except PARSE_ERRORS as error:
        raise MovieError(
            f"{handle.path}: the loops of its {stored} frames cannot be read "
            f"({type(error).__name__}: {error}). Export the movie from NIS-Elements as TIFF."
        ) from error
    if not loops and stored > 1:
        # Without loops nd2 would show the first frame alone.
        return "I", (stored,)
    letters = "".join(LOOP_LETTERS.get(loop.type, "U") for loop in loops)
    return letters, tuple(int(loop.count) for loop in loops)


def _settle(
    handle: Nd2Handle, names: str, counts: tuple[int, ...], axes: str | None
) -> tuple[StoredAxes, Nd2Layout, dict[str, int]]:
    channels, y, x, samples = handle.shape
    rgb = samples == RGB_SAMPLES
    frame = (channels if rgb else channels * samples, y, x) + ((samples,) if rgb else ())
    stored, shape = names + ("CYXS" if rgb else "CYX"), counts + frame
    settled = settle_axes(stored, shape, axes)
    loops, inner = settled.letters[: len(names)], settled.letters[len(names) :]
    if inner.replace("-", "C") != ("CYXS" if rgb else "CYX"):
        raise MovieError(
            f"{handle.path}: found axes={axes!r}; an ND2 frame is stored as "
            f"{stored[len(names) :]!r} and only its loops {names!r} can be given other letters."
        )
    sizes = settled.sizes(shape)
    return settled, Nd2Layout(loops, counts), full_sizes(sizes)


def _damaged(
    handle: Nd2Handle, layout: Nd2Layout, sizes: dict[str, int], size_bytes: int
) -> tuple[tuple[int, int, int], ...]:
    """Return (t, p, z) of every frame that is not whole."""
    total = math.prod(layout.counts)
    found = total if handle.starts is None else len(handle.starts)
    if not found or not total:
        raise MovieError(f"{handle.path}: found no frames, expected {total}. Nothing was acquired.")
    if total > found + MAX_MISSING:
        raise MovieError(
            f"{handle.path}: the header claims {total} frames but {found} are stored; expected "
            "nearly all of them. The file is damaged."
        )
    channels = range(sizes["C"] if "C" in layout.loops else 1)
    grid = product(range(sizes["T"]), range(sizes["P"]), range(sizes["Z"]))
    return tuple(
        at
        for at in grid
        if not all(handle.is_whole(layout.sequence_index(at, c), size_bytes) for c in channels)
    )


def _spare_frames_note(handle: Nd2Handle, layout: Nd2Layout) -> tuple[str, ...]:
    stored, read = len(handle.starts or ()), math.prod(layout.counts)
    if stored <= read:
        return ()
    return (f"The file stores {stored} frames, its loops describe {read}; the rest is not read.",)


def _best_effort(ask: Callable[[], T], otherwise: T, notes: list[str]) -> T:
    """Return what the metadata says; metadata that cannot be parsed becomes a note."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ask()
    except PARSE_ERRORS as error:
        what = getattr(error, "name", None) or type(error).__name__
        logger.debug("ND2 metadata could not be read", exc_info=True)
        notes.append(f"A part of the ND2 metadata could not be read ({what}); pixels are fine.")
        return otherwise


def _metadata(file: Any) -> Any:
    """Return nd2's metadata; it makes lists as long as the components that a channel claims."""
    if file.is_legacy:
        return file.metadata
    planes = file._rdr._cached_raw_metadata()["sPicturePlanes"]
    claimed = [int(p.get("uiCompCount", 1)) for p in _planes_of(planes).values()]
    if max(claimed, default=0) > file.attributes.componentCount:
        raise ValueError(f"channels of {claimed} components in a frame of fewer")
    return file.metadata


def _planes_of(planes: dict[str, Any]) -> dict[str, Any]:
    return dict(planes.get("sPlaneNew") or planes.get("sPlane") or {})


def _channel_names(file: Any) -> tuple[str, ...]:
    return tuple(channel.channel.name for channel in _metadata(file).channels or ())


def _position_names(file: Any) -> tuple[str, ...]:
    for loop in file.experiment:
        if loop.type == "XYPosLoop":
            points = loop.parameters.points
            names = (point.name or str(i) for i, point in enumerate(points))
            return tuple(names)[: loop.count]
    return ()


def _pixel_size(file: Any, notes: list[str]) -> float | None:
    """Micrometres a pixel, if the file is calibrated and the pixels are square."""
    volume = _metadata(file).channels[0].volume
    x, y = (float(value) for value in volume.axesCalibration[:2])
    if not all(volume.axesCalibrated[:2]) or not x > 0:
        notes.append("The ND2 is not calibrated: the pixel size is unknown.")
        return None
    if not math.isclose(x, y, rel_tol=1e-3):
        notes.append(f"Pixels are not square ({y} x {x} um along Y, X): no pixel size is given.")
        return None
    return x


def _z_step(file: Any) -> float | None:
    steps: Iterable[float] = (
        float(loop.parameters.stepUm) for loop in file.experiment if loop.type == "ZStackLoop"
    )
    return next((step for step in steps if step > 0), None)


def _interval(file: Any, notes: list[str]) -> float | None:
    """Seconds between two T; the measured mean where the plan said "as fast as possible"."""
    for loop in file.experiment:
        if LOOP_LETTERS.get(loop.type) == "T":
            periods = getattr(loop.parameters, "periods", None) or [loop.parameters]
            seconds = {_period_s(period) for period in periods}
            if len(seconds) == 1 and (known := seconds.pop()):
                return known
            notes.append("The ND2 states no single time interval between frames.")
    return None


def _period_s(period: Any) -> float | None:
    with suppress(AttributeError, TypeError):
        if period.periodMs > 0:
            return float(period.periodMs) / 1000
        if period.periodDiff.avg > 0:
            return float(period.periodDiff.avg) / 1000
    return None
