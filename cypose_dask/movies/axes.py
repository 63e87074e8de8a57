"""The six letters of a movie: T, P, Z, C, Y, X, in this order.

The only place that knows how the axes of a stored array become those of a movie. Nothing is
guessed from sizes: a letter comes from the file's metadata, from the caller, or from one of
the two rules below, and then a note says so.

    I -> T    TIFF pages without any metadata are a time-lapse
    Q -> T    one axis without a name, when it is the only one and T is not taken
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cypose_dask.errors import MovieError

__all__ = ["AXES", "SAMPLES", "StoredAxes", "full_sizes", "settle_axes"]

AXES = "TPZCYX"
SAMPLES = "S"
_NAMELESS = "IQ"


@dataclass(frozen=True, slots=True)
class StoredAxes:
    """The axes of a stored array, named.

    Attributes
    ----------
    letters
        One of T, P, Z, C, Y, X, S for each stored axis, ``"-"`` for a singleton without a name.
    notes
        Sentences for the user about every rule that was applied.
    """

    letters: str
    notes: tuple[str, ...] = ()

    def sizes(self, shape: Sequence[int]) -> dict[str, int]:
        """Return the size of each named axis, S included."""
        named = zip(self.letters, shape, strict=True)
        return {letter: int(n) for letter, n in named if letter != "-"}


def full_sizes(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return `sizes` with exactly the keys T, P, Z, C, Y, X; an absent axis has size 1."""
    return {letter: int(sizes.get(letter, 1)) for letter in AXES}


def settle_axes(stored: str, shape: Sequence[int], requested: str | None = None) -> StoredAxes:
    """Name every axis of a stored array.

    Parameters
    ----------
    stored
        One letter an axis, as the reader of the file reports them.
    shape
        Sizes of the stored array.
    requested
        The caller's letters, one for each stored axis; axes of size 1 may be left out.

    Raises
    ------
    MovieError
        If axes remain unknown, are named twice, or `requested` does not fit.
    """
    if requested is not None:
        return _as_requested(stored, shape, requested.upper())
    return _by_rule(stored, shape)


def _by_rule(stored: str, shape: Sequence[int]) -> StoredAxes:
    letters = [_known(letter, n) for letter, n in zip(stored, shape, strict=True)]
    nameless = [i for i, letter in enumerate(letters) if letter in _NAMELESS]
    foreign = [c for c in letters if c not in AXES + SAMPLES + _NAMELESS + "-"]
    if foreign or len(nameless) > 1 or (nameless and "T" in letters):
        raise MovieError(_unknown_axes(stored, shape))
    notes = tuple(_rule_note(stored[i], shape[i]) for i in nameless)
    for i in nameless:
        letters[i] = "T"
    return _checked("".join(letters), stored, notes)


def _known(letter: str, size: int) -> str:
    """Keep a letter of ours; a singleton of another name does not matter."""
    return "-" if size == 1 and letter not in AXES + SAMPLES else letter


def _rule_note(letter: str, size: int) -> str:
    what = "pages without axis metadata" if letter == "I" else "an axis without a name"
    return f"{letter} taken as T: {size} frames in {what}; if that is wrong, give axes=."


def _unknown_axes(stored: str, shape: Sequence[int]) -> str:
    named = any(c in AXES for c in stored)
    found = f"names its axes {stored!r}" if named else "does not name its axes"
    example = AXES[-len(shape) :] if len(shape) > 3 else "TYX"[-len(shape) :]
    return (
        f"The file {found} (sizes {tuple(shape)}); expected one of the letters {AXES} for each. "
        f"Give axes= (--axes) with one letter for each axis in this order, such as {example!r}."
    )


def _as_requested(stored: str, shape: Sequence[int], requested: str) -> StoredAxes:
    if not set(requested) <= set(AXES + SAMPLES):
        raise MovieError(
            f"Found axes={requested!r}; expected letters of {AXES} (and S for RGB samples). "
            f"The file stores {stored!r} with sizes {tuple(shape)}."
        )
    letters = _fitted(stored, shape, requested)
    notes: tuple[str, ...] = ()
    if letters.replace("-", "") != stored.replace("-", ""):
        notes = (f"Axes {stored!r} of the file taken as {requested!r}, as asked.",)
    return _checked(letters, stored, notes)


def _fitted(stored: str, shape: Sequence[int], requested: str) -> str:
    """Lay the requested letters over all stored axes, or over those that are not singleton."""
    if len(requested) == len(shape):
        return requested
    kept = [i for i, n in enumerate(shape) if n != 1 or stored[i] in "YX"]
    if len(requested) != len(kept):
        raise MovieError(
            f"Found axes={requested!r} ({len(requested)} letters); expected {len(shape)} for the "
            f"stored axes {stored!r} with sizes {tuple(shape)} (axes of size 1 may be left out)."
        )
    letters = ["-"] * len(shape)
    for i, letter in zip(kept, requested, strict=True):
        letters[i] = letter
    return "".join(letters)


def _checked(letters: str, stored: str, notes: tuple[str, ...]) -> StoredAxes:
    named = letters.replace("-", "")
    twice = sorted({c for c in named if named.count(c) > 1})
    if twice or "Y" not in named or "X" not in named:
        found = f"{', '.join(twice)} twice" if twice else "no Y and X"
        raise MovieError(
            f"The axes {named!r} (stored as {stored!r}) have {found}; expected each letter of "
            f"{AXES} at most once, Y and X among them. Give axes= (--axes)."
        )
    return StoredAxes(letters, notes)
