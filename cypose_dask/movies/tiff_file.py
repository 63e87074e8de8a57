"""TIFF files: ImageJ hyperstacks, OME-TIFF, BigTIFF, tifffile's own and plain pages."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cypose_dask.errors import MovieError
from cypose_dask.movies import files, handles
from cypose_dask.movies.axes import StoredAxes, full_sizes, settle_axes
from cypose_dask.movies.fingerprint import fingerprint_of_files
from cypose_dask.movies.source import Description, Stamp
from cypose_dask.movies.tiff_handle import READ_ERRORS, TiffHandle
from cypose_dask.movies.tiff_metadata import read_metadata

__all__ = ["TiffLayout", "describe_tiff"]

# Kinds of series that name their axes and count their frames.
SELF_DESCRIBING = ("ome", "imagej", "shaped", "mmstack", "ndtiff", "scanimage")
PIXEL_KINDS = "biuf"
RGB_SAMPLES = (3, 4)


def lease_tiff(path: str, stamp: Stamp) -> AbstractContextManager[TiffHandle]:
    """Borrow this process's handle of a file, opening it at the first call."""
    return handles.lease((TiffHandle, path, stamp), lambda: TiffHandle(path))


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """Axes of a TIFF: a letter for each axis of a series, before it one for the series.

    `letters` is for example ``"TZCYX"``; with `stacked`, its first letter counts the series
    of the file (the positions of an OME-TIFF).
    """

    letters: str
    stacked: bool = False

    def lease(self, path: str, stamp: Stamp) -> AbstractContextManager[TiffHandle]:
        """Borrow this process's handle of the file; it is opened at the first call."""
        return lease_tiff(path, stamp)

    def check(self, path: str, stamp: Stamp) -> None:
        """Raise MovieError if the file is no longer the one that was opened."""
        files.check_file(path, stamp)

    def read(
        self, handle: TiffHandle, at: tuple[int, int, int], channels: Sequence[int]
    ) -> npt.NDArray[Any]:
        """Read one frame as (C, Y, X), or (C, Y, X, S) if it has samples."""
        with files.reading_errors(handle.path, at, *READ_ERRORS):
            where: dict[str, int | slice] = dict(zip("TPZ", at, strict=True))
            if self._channels_in_page(handle):
                cube = self._part(handle, {**where, "C": slice(None)})
                return cube[list(channels)]
            return np.stack([self._part(handle, {**where, "C": c}) for c in channels])

    def _channels_in_page(self, handle: TiffHandle) -> bool:
        return "C" in self.letters[-handle.page_axes() :]

    def _part(self, handle: TiffHandle, where: dict[str, int | slice]) -> npt.NDArray[Any]:
        """Read what `where` leaves open, in the order C, Y, X, S."""
        whole = {"Y": slice(None), "X": slice(None), "S": slice(None)}
        key = [{**where, **whole}.get(letter, 0) for letter in self.letters]
        series = key.pop(0) if self.stacked else 0
        assert isinstance(series, int)
        left = [c for c in self.letters if isinstance({**where, **whole}.get(c, 0), slice)]
        order = [left.index(c) for c in "CYXS" if c in left]
        return handle.read(series, tuple(key)).transpose(order)


def describe_tiff(path: str, *, axes: str | None, allow_damaged: bool) -> Description:
    """Find out what a TIFF file holds.

    Raises
    ------
    MovieError
        If it is not a readable TIFF, is truncated or incomplete (unless `allow_damaged`), or
        its axes cannot be named.
    """
    stamp = files.stamp_of_file(path)
    with lease_tiff(path, stamp) as handle:
        if handle.stands_alone:
            return _described(handle, stamp, axes, allow_damaged)
    # Other files of the set may have come or gone since this process opened it.
    handles.discard((TiffHandle, path, stamp))
    with lease_tiff(path, stamp) as handle:
        return _described(handle, stamp, axes, allow_damaged)


def _described(
    handle: TiffHandle, stamp: Stamp, axes: str | None, allow_damaged: bool
) -> Description:
    log_notes = _examined_log(handle, allow_damaged)
    _require_pixels(handle)
    stored, shape = _stored(handle)
    _require_own_axes(handle, axes)
    settled = settle_axes(stored, shape, axes)
    sizes = settled.sizes(shape)
    layout = TiffLayout(settled.letters, stacked=len(handle.series) > 1)
    files.require_sane_frame(handle.path, (sizes.get(a, 1) for a in "CYX"))
    files.require_plausible_count(handle.path, *handle.pages_and_bytes())
    damaged = _damaged(handle, layout, shape)
    if damaged and not allow_damaged:
        total = sizes.get("T", 1) * sizes.get("P", 1) * sizes.get("Z", 1)
        raise MovieError(files.summary_of_damage(handle.path, damaged, total))
    notes = settled.notes + _stack_note(sizes, axes) + log_notes + _colour_notes(handle, settled)
    notes += _unclaimed_note(handle)
    return Description(
        format="tiff",
        path=handle.path,
        layout=layout,
        stamp=stamp,
        fingerprint=fingerprint_of_files(list(handle.members)),
        sizes=full_sizes(sizes),
        samples=sizes.get("S", 0),
        dtype=np.dtype(handle.series[0].dtype).newbyteorder("="),
        notes=notes,
        damaged=damaged,
        **read_metadata(handle.file, handle.series),
    )


def _examined_log(handle: TiffHandle, allow_damaged: bool) -> tuple[str, ...]:
    """Refuse a file that tifffile opened with complaints, or return them as notes."""
    if handle.complaints and not allow_damaged:
        handle.require_whole()
    return tuple(f"tifffile reports: {line}" for line in handle.complaints)


def _require_pixels(handle: TiffHandle) -> None:
    if not handle.series or not all(np.prod(handle.shape(i)) for i in range(len(handle.series))):
        raise MovieError(f"{handle.path}: found no frames, expected at least one page.")
    # The series' own type would be float64 where the page has none.
    dtype = handle.series[0].keyframe.dtype
    if dtype is None or dtype.kind not in PIXEL_KINDS:
        raise MovieError(
            f"{handle.path}: found pixels of type {dtype}; expected integers, floats or bool. "
            "Save the magnitude or another real-valued image."
        )
    for i in range(len(handle.series)):
        handle.require_plausible(i)


def _stored(handle: TiffHandle) -> tuple[str, tuple[int, ...]]:
    """Return axes and sizes of the whole file; several equal series get an axis in front."""
    axes, shape = handle.axes(), handle.shape()
    kind = str(handle.series[0].kind)
    if kind in ("mmstack", "ndtiff"):
        axes = axes.replace("R", "P")  # Micro-Manager's name of a position
    if len(handle.series) == 1:
        return axes, shape
    kinds = {(handle.axes(i), handle.shape(i), str(s.dtype)) for i, s in enumerate(handle.series)}
    if len(kinds) > 1:
        listed = "; ".join(f"{a} {n} {t}" for a, n, t in sorted(kinds)[:4])
        raise MovieError(
            f"{handle.path}: found {len(handle.series)} series of different kinds ({listed}); "
            "expected one movie. Save the one that you want as a file of its own."
        )
    return ("P" if kind == "ome" else "Q") + axes, (len(handle.series), *shape)


def _require_own_axes(handle: TiffHandle, axes: str | None) -> None:
    """Refuse metadata that tifffile could not use: its axes would be those of bare pages."""
    kind = handle.series[0].kind
    if handle.complaints and kind not in SELF_DESCRIBING and axes is None:
        raise MovieError(
            f"{handle.path}: what names its axes and counts its frames is cut off; what is left "
            f"are pages {handle.axes()!r} with sizes {handle.shape()}. Copy the file again, or "
            "give axes= (--axes) to read what is left."
        )
    for name, present in (("ome", handle.file.is_ome), ("imagej", handle.file.is_imagej)):
        known = (name, "mmstack", "ndtiff", "scanimage")
        if present and kind not in known and axes is None:
            raise MovieError(
                f"{handle.path}: its {name.upper()} metadata cannot be used (part of a set whose "
                f"other file is missing, or damaged), so the axes are those of bare pages, "
                f"{handle.axes()!r} with sizes {handle.shape()}. Open the first file of the set, "
                "or give axes= (--axes)."
            )


def _damaged(
    handle: TiffHandle, layout: TiffLayout, shape: tuple[int, ...]
) -> tuple[tuple[int, int, int], ...]:
    """Return (t, p, z) of every frame with a page that is missing or cut off."""
    bad: set[tuple[int, int, int]] = set()
    letters = layout.letters[: -handle.page_axes()]
    for series in range(len(handle.series)):
        for page in range(handle.page_count(series)):
            if not handle.is_whole(page, series):
                index = series * handle.page_count(series) + page
                place = np.unravel_index(index, shape[: len(letters)]) if letters else ()
                where = {letter: int(i) for letter, i in zip(letters, place, strict=True)}
                bad.add((where.get("T", 0), where.get("P", 0), where.get("Z", 0)))
    return tuple(sorted(bad))


def _stack_note(sizes: dict[str, int], axes: str | None) -> tuple[str, ...]:
    """Point to the classic trap: ImageJ stores a time-lapse as slices unless told otherwise."""
    planes = sizes.get("Z", 1)
    if axes is not None or planes == 1 or sizes.get("T", 1) > 1:
        return ()
    return (
        f"Read as {planes} planes (Z) at one time, as the file says; a time-lapse that was saved "
        "as slices needs axes= (--axes) with T instead of Z.",
    )


def _unclaimed_note(handle: TiffHandle) -> tuple[str, ...]:
    """Point to pages that may have fallen out of the chain of directories."""
    spare = handle.places.unclaimed_bytes
    if not spare:
        return ()
    return (
        f"{spare} bytes of the file belong to no frame that is read: more than one frame has. If "
        "frames are missing, its directory is damaged: copy the file again.",
    )


def _colour_notes(handle: TiffHandle, settled: StoredAxes) -> tuple[str, ...]:
    """Say how colours are taken; refuse samples that are no RGB."""
    keyframe = handle.series[0].keyframe
    photometric = str(getattr(keyframe.photometric, "name", keyframe.photometric))
    if "S" in settled.letters:
        _require_rgb(handle, photometric, settled)
    notes = {
        "MINISWHITE": "Stored as 'min is white': the raw values are used, not inverted.",
        "PALETTE": "A colour table is stored: the raw values are used, not the colours.",
    }
    return (notes[photometric],) if photometric in notes else ()


def _require_rgb(handle: TiffHandle, photometric: str, settled: StoredAxes) -> None:
    samples = handle.shape()[-handle.page_axes() :][
        settled.letters[-handle.page_axes() :].index("S")
    ]
    if photometric not in ("RGB", "YCBCR") or samples not in RGB_SAMPLES:
        named = settled.letters.replace("-", "")
        raise MovieError(
            f"{handle.path}: found {samples} samples a pixel ({photometric}, axes {named!r}), "
            f"expected gray or RGB. If they are channels, give axes={named.replace('S', 'C')!r} "
            "(--axes)."
        )
