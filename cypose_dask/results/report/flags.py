"""What is odd about frames, and which frames to look at first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from cypose_dask.results.report.numbers import FrameNumbers, Place
from cypose_dask.results.store import Status

__all__ = ["JUMP_RULE", "Flag", "Look", "count_jumps", "flags_of_numbers", "looks"]

# The worst first: the order of the frames to look at.
KINDS = ("failed", "damaged", "NaN", "blank", "saturated", "jump", "sizes", "border")

# The lower quartile of the absolute deviations of a normal distribution, in standard deviations:
# the 62.5th percentile of the standard normal. The quartile and not the median, because one bad
# frame makes two odd changes, which are half of a movie of five frames.
_QUARTILE_SDS = 0.3186
_JUMP_SDS = 5.0
_LEAST_JUMP = 1.5
_LEAST_CELLS = 3
JUMP_RULE = (
    f"A count jumps when 2 √cells changes, from one frame with labels to the next, by "
    f"{_JUMP_SDS:g} robust standard deviations from the median change of the position (the lower "
    f"quartile of the absolute deviations, over {_QUARTILE_SDS:g}), by at least {_LEAST_JUMP:g} "
    f"(14 of 100 cells), and the count by at least {_LEAST_CELLS} cells. The way back from a "
    "single bad frame is not flagged."
)


@dataclass(frozen=True, slots=True)
class Flag:
    """One thing that is odd about one frame; its place is T of the result, P and Z."""

    place: Place
    kind: str
    reason: str

    @property
    def rank(self) -> int:
        """0 is the worst."""
        return KINDS.index(self.kind)


@dataclass(frozen=True, slots=True)
class Look:
    """Frames one after the other of one position and plane that are odd for the same reasons.

    Attributes
    ----------
    first, last : int
        T of the result.
    position, plane : int
    flags : tuple of Flag
        Of the first frame.
    """

    first: int
    last: int
    position: int
    plane: int
    flags: tuple[Flag, ...] = field(default=())

    @property
    def kinds(self) -> list[str]:
        """What is odd, the worst first."""
        return [flag.kind for flag in self.flags]


def flags_of_numbers(numbers: FrameNumbers) -> list[Flag]:
    """Return what is odd about frames by their status and numbers alone."""
    return [
        *_without_labels(numbers),
        *_marked(numbers.non_finite, "NaN", "pixels are NaN or infinite"),
        *_marked(numbers.blank, "blank", "all pixels have one value"),
        *_marked(numbers.saturated, "saturated", "more than 1 % of the pixels are saturated"),
        *_jumps(numbers),
    ]


def _without_labels(numbers: FrameNumbers) -> Iterator[Flag]:
    for status in (Status.FAILED, Status.DAMAGED):
        for place in _places(numbers.status == status):
            reason = numbers.reasons.get(place, "the journal does not say why")
            yield Flag(place, status.name.lower(), reason)


def _marked(where: np.ndarray, kind: str, reason: str) -> Iterator[Flag]:
    return (Flag(place, kind, reason) for place in _places(where))


def _places(where: np.ndarray) -> list[Place]:
    return [(t, p, z) for p, t, z in np.argwhere(where).tolist()]


def _jumps(numbers: FrameNumbers) -> Iterator[Flag]:
    positions, _, planes = numbers.status.shape
    for p in range(positions):
        for z in range(planes):
            for t, before, now in count_jumps(numbers.cells[p, :, z], numbers.done[p, :, z]):
                yield Flag((t, p, z), "jump", f"the cell count goes from {before} to {now}")


def count_jumps(cells: np.ndarray, done: np.ndarray) -> list[tuple[int, int, int]]:
    """Find the frames at which a cell count jumps, by `JUMP_RULE`.

    Square roots make the noise of small and of large counts alike, and the median of the changes
    takes out steady growth.

    Parameters
    ----------
    cells : (T,) ndarray of int
    done : (T,) ndarray of bool
        Frames that count; others are passed over.

    Returns
    -------
    list of (int, int, int)
        T, the count before, and the count there.
    """
    times = np.flatnonzero(done)
    counts = cells[times].astype(np.int64)
    if len(counts) < 2:
        return []
    changes = np.diff(2 * np.sqrt(counts))
    away = changes - np.median(changes)
    spread = float(np.quantile(np.abs(away), 0.25)) / _QUARTILE_SDS
    limit = max(_JUMP_SDS * spread, _LEAST_JUMP)
    large = (np.abs(away) >= limit) & (np.abs(np.diff(counts)) >= _LEAST_CELLS)
    found = [i for i in np.flatnonzero(large).tolist() if not _is_way_back(i, large, counts)]
    return [(int(times[i + 1]), int(counts[i]), int(counts[i + 1])) for i in found]


def _is_way_back(i: int, large: np.ndarray, counts: np.ndarray) -> bool:
    """Tell whether change `i` returns from a single bad frame, whose own change is flagged."""
    if i == 0 or not large[i - 1]:
        return False
    earlier, there, now = counts[i - 1 : i + 2]
    return bool(abs(now - earlier) < abs(there - earlier))


def looks(flags: Iterable[Flag]) -> list[Look]:
    """Gather flags into frames to look at: every flagged frame is in one of them, worst first."""
    of_frame: dict[Place, list[Flag]] = {}
    for flag in flags:
        of_frame.setdefault(flag.place, []).append(flag)
    frames = {place: _in_order(odd) for place, odd in of_frame.items()}
    order = sorted(frames, key=lambda place: (place[1], place[2], place[0]))
    runs = [Look(t, t, p, z, frames[t, p, z]) for t, p, z in order]
    return sorted(_merged(runs), key=lambda look: (look.flags[0].rank, look.position, look.first))


def _in_order(flags: Sequence[Flag]) -> tuple[Flag, ...]:
    return tuple(sorted(flags, key=lambda flag: flag.rank))


def _merged(frames: list[Look]) -> Iterator[Look]:
    """Join frames that follow each other and are odd for the same reasons."""
    start = 0
    for i in range(1, len(frames) + 1):
        if i == len(frames) or not _continues(frames[i - 1], frames[i]):
            first = frames[start]
            yield Look(first.first, frames[i - 1].last, first.position, first.plane, first.flags)
            start = i


def _continues(before: Look, now: Look) -> bool:
    same_stack = (before.position, before.plane) == (now.position, now.plane)
    return same_stack and now.first == before.last + 1 and _said(before) == _said(now)


def _said(look: Look) -> list[tuple[str, str]]:
    return [(flag.kind, flag.reason) for flag in look.flags]
