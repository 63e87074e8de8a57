"""Sequences: one TIFF or PNG a frame, given as a pattern such as ``dir/img*.tif``.

A file may hold more than a frame (channels or planes) if its own metadata says so; the
numbers in the names give the other axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from cypose_dask.errors import DamagedFrameError, MovieError
from cypose_dask.movies import handles
from cypose_dask.movies.fingerprint import fingerprint_of_files, sample_positions
from cypose_dask.movies.listing import Listing, list_members
from cypose_dask.movies.numbering import Numbering, Place, number_names
from cypose_dask.movies.png_file import PngHandle, describe_png, lease_png
from cypose_dask.movies.source import Description, Layout, Signature, Stamp
from cypose_dask.movies.tiff_file import describe_tiff, lease_tiff
from cypose_dask.movies.tiff_handle import TiffHandle

__all__ = ["SequenceLayout", "describe_sequence"]

# So many headers are looked at when a sequence is opened; every one is when it is read.
CHECKED_HEADERS = 1000


class SequenceHandle:
    """The files of a sequence, each in its place."""

    def __init__(self, path: str, letters: str, digest: str) -> None:
        self.path = path
        self.listing = list_members(path)
        if self.listing.digest != digest:
            raise MovieError(
                f"{path}: files were added, removed or changed since the sequence was opened. "
                "Open it again when it is complete."
            )
        self.names = number_names(list(self.listing.stamps), letters).names

    def close(self) -> None:
        """Do nothing: members are opened, and closed, by themselves."""


@dataclass(frozen=True, slots=True)
class SequenceLayout:
    """Which axes the names of the files give, and how one file is read.

    `numbers` are the letters of the numbers that vary in the names, `digest` is of the names,
    sizes and times of the files, `signature` is what every file must be like.
    """

    member: Layout
    numbers: str
    digest: str
    signature: Signature

    def lease(self, path: str, stamp: Stamp) -> AbstractContextManager[SequenceHandle]:
        """Borrow this process's list of the files; it is made at the first call."""
        key = (SequenceHandle, path, self.numbers, self.digest)
        return handles.lease(key, lambda: SequenceHandle(path, self.numbers, self.digest))

    def check(self, path: str, stamp: Stamp) -> None:
        """Do nothing: each member is checked when it is read."""

    def read(
        self, handle: SequenceHandle, at: tuple[int, int, int], channels: Sequence[int]
    ) -> npt.NDArray[Any]:
        """Read one frame as (C, Y, X), or (C, Y, X, S) if it has samples."""
        if "C" not in self.numbers:
            return self._member(handle, (*at, 0), channels)
        return np.concatenate([self._member(handle, (*at, c), (0,)) for c in channels])

    def _member(
        self, handle: SequenceHandle, at: Place, channels: Sequence[int]
    ) -> npt.NDArray[Any]:
        t, p, z, c = (n if a in self.numbers else 0 for a, n in zip("TPZC", at, strict=True))
        if (t, p, z, c) not in handle.names:
            raise DamagedFrameError(
                f"{handle.path}: there is no file for the frame (t, p, z) = {at[:3]}, channel {c}."
            )
        name = handle.names[t, p, z, c]
        path, stamp = handle.listing.path(name), handle.listing.stamps[name]
        self.member.check(path, stamp)
        with self.member.lease(path, stamp) as member:
            _require_alike(path, member.signature(), self.signature)
            return self.member.read(member, (at[0] - t, at[1] - p, at[2] - z), channels)


def _require_alike(path: str, found: Signature, expected: Signature) -> None:
    if found != expected:
        raise MovieError(
            f"{path}: found {found[2]} of sizes {found[1]} ({found[0]}), expected "
            f"{expected[2]} of sizes {expected[1]} ({expected[0]}) as in the other files of the "
            "sequence. Give a narrower pattern."
        )


def describe_sequence(path: str, *, axes: str | None, allow_damaged: bool) -> Description:
    """Find out what the files of a pattern hold together.

    Raises
    ------
    MovieNotFoundError
        If no file matches.
    MovieError
        If the numbers in the names are ambiguous or have gaps, or files differ in size or type.
    """
    listing = list_members(path)
    try:
        return _described(path, listing, axes, allow_damaged)
    except MovieError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error


def _described(path: str, listing: Listing, axes: str | None, allow_damaged: bool) -> Description:
    names = list(listing.stamps)
    first = _first_whole(listing, allow_damaged)
    numbers = number_names(names).letters
    letters, member_axes, notes = _settle_numbers(numbers, axes, _stored_axes(listing, first))
    numbering = number_names(names, letters)
    member = _describe_member(listing, first, member_axes)
    _require_disjoint(member, letters)
    layout = SequenceLayout(member.layout, letters, listing.digest, _signature(listing, first))
    broken, more_notes = _check_members(listing, layout, allow_damaged)
    lost = [at for at, name in numbering.names.items() if name in broken]
    _require_complete(numbering, letters, allow_damaged)
    sizes = {**member.sizes, **{c: numbering.sizes[c] for c in letters}}
    ordered = [listing.path(name) for _, name in sorted(numbering.names.items())]
    return replace(
        member,
        format="sequence",
        path=path,
        layout=layout,
        stamp=listing.stamp,
        fingerprint=fingerprint_of_files(ordered),
        sizes=sizes,
        channel_names=numbering.labels.get("C", member.channel_names),
        position_names=numbering.labels.get("P", member.position_names),
        notes=notes + member.notes + more_notes + _outputs_note(listing),
        damaged=_damaged_frames([*numbering.missing, *lost], letters, sizes),
    )


# ---- one member ----------------------------------------------------------------------------


def _lease(listing: Listing, name: str) -> AbstractContextManager[TiffHandle | PngHandle]:
    path, stamp = listing.path(name), listing.stamps[name]
    return lease_png(path, stamp) if listing.kind == "PNG" else lease_tiff(path, stamp)


def _first_whole(listing: Listing, allow_damaged: bool) -> str:
    """Return a member to learn axes and sizes from: the first, or the first that is whole."""
    names = list(listing.stamps)
    for name in names:
        try:
            _signature(listing, name)
        except MovieError:
            if not allow_damaged or name == names[-1]:
                raise
        else:
            return name
    raise MovieError("The pattern matches no file.")


def _signature(listing: Listing, name: str) -> Signature:
    with _lease(listing, name) as member:
        member.require_whole()
        return member.signature()


def _stored_axes(listing: Listing, name: str) -> str:
    with _lease(listing, name) as member:
        if len(member.members) > 1:
            raise MovieError(
                f"{member.path} belongs to an OME-TIFF set of {len(member.members)} files; "
                "expected files that stand alone. Open one by its own name: it opens the set."
            )
        return member.signature()[0]


def _describe_member(listing: Listing, name: str, axes: str | None) -> Description:
    path = listing.path(name)
    if listing.kind == "PNG":
        return describe_png(path, axes=axes)
    return describe_tiff(path, axes=axes, allow_damaged=False)


def _check_members(
    listing: Listing, layout: SequenceLayout, allow_damaged: bool
) -> tuple[set[str], tuple[str, ...]]:
    """Compare members with the first; return those that cannot be used, and a note."""
    names = list(listing.stamps)
    checked = [names[i] for i in sample_positions(len(names), CHECKED_HEADERS)]
    broken = set()
    for name in checked:
        try:
            _require_alike(listing.path(name), _signature(listing, name), layout.signature)
        except MovieError:
            if not allow_damaged:
                raise
            broken.add(name)
    if len(checked) == len(names):
        return broken, ()
    return broken, (
        f"The headers of {len(checked)} of {len(names)} files were compared; each other file is "
        "compared when it is read.",
    )


# ---- axes ----------------------------------------------------------------------------------


def _settle_numbers(
    found: str, axes: str | None, stored: str
) -> tuple[str, str | None, tuple[str, ...]]:
    """Return the letters of the numbers in the names, axes= for one member, and notes."""
    unknown = found.count("?")
    rest = None if axes is None else "".join(c for c in axes.upper() if c not in found)
    if rest is not None and len(rest) == unknown + len(stored):
        given = iter(rest[:unknown])
        letters = "".join(next(given) if c == "?" else c for c in found)
        return letters, rest[unknown:], ()
    if unknown > 1 or (unknown and "T" in found) or len(rest or stored) != len(stored):
        raise MovieError(
            f"The names hold {len(found)} numbers that vary, which count {found!r} (? is unknown), "
            f"and each file the axes {stored!r}. Say what the unknown numbers are by letters "
            "before them (t, xy, z, c), or give axes= (--axes) with one letter for each unknown "
            f"number and axis, for example {'TPZ'[:unknown] + stored!r}."
        )
    notes = ("The number that varies in the names is taken as T.",) if unknown else ()
    return found.replace("?", "T"), rest, notes


def _require_disjoint(member: Description, letters: str) -> None:
    both = [c for c in letters if member.sizes[c] > 1]
    if both:
        raise MovieError(
            f"{member.path}: both the names and the pages of each file count {', '.join(both)}; "
            "expected an axis in one place. Give axes= (--axes) for the pages, or let words "
            "before the numbers (t, xy, z, c) say what they count."
        )


def _require_complete(numbering: Numbering, letters: str, allow_damaged: bool) -> None:
    if not numbering.missing or allow_damaged:
        return
    places = [dict(zip("TPZC", at, strict=True)) for at in numbering.missing[:3]]
    shown = "; ".join(", ".join(f"{c} {at[c]}" for c in letters) for at in places)
    raise MovieError(
        f"{len(numbering.missing)} files are missing in the numbering, counted from 0: {shown}; "
        "expected no gaps. Copy them too, give a narrower pattern, or pass allow_damaged=True "
        "(--allow-damaged) to go on without these frames."
    )


def _damaged_frames(
    places: Sequence[Place], letters: str, sizes: dict[str, int]
) -> tuple[tuple[int, int, int], ...]:
    """Return (t, p, z) of all frames in the files of these places."""
    frames: set[tuple[int, int, int]] = set()
    for at in places:
        spans = ((n,) if c in letters else range(sizes[c]) for c, n in zip("TPZ", at, strict=False))
        frames.update(product(*spans))  # type: ignore[arg-type]
    return tuple(sorted(frames))


def _outputs_note(listing: Listing) -> tuple[str, ...]:
    if not listing.left_out:
        return ()
    return (f"{listing.left_out} outputs of earlier segmentations match the pattern; left out.",)
