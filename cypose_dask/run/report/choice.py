"""Which frames a report pictures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cypose_dask.results import Status
from cypose_dask.results.report import Flag, FrameNumbers, looks
from cypose_dask.results.report.numbers import Place

__all__ = ["chosen_places"]

_MOST_FLAGGED = 24


def chosen_places(numbers: FrameNumbers, flags: list[Flag], frames: int) -> list[Place]:
    """Choose frames spread evenly over positions and time, and the first of the worst flags.

    Parameters
    ----------
    numbers : FrameNumbers
    flags : list of Flag
    frames : int
        Most of the frames that are spread evenly, those of the middle plane.

    Returns
    -------
    list of (int, int, int)
        T of the result, P and Z, by position and time.
    """
    places = {*_even(numbers, frames), *_flagged(flags)}
    return sorted(places, key=lambda place: (place[1], place[0], place[2]))


def _even(numbers: FrameNumbers, frames: int) -> Iterator[Place]:
    n_positions, _, planes = numbers.status.shape
    positions = _spread(np.arange(n_positions), frames)
    for p in positions:
        reached = np.flatnonzero(numbers.status[p, :, planes // 2] != Status.PENDING)
        for t in _spread(reached, frames // len(positions)):
            yield t, p, planes // 2


def _spread(choices: np.ndarray, most: int) -> list[int]:
    """Take some of many, evenly, the first and the last among them."""
    number = min(most, len(choices))
    picks = np.linspace(0, max(len(choices) - 1, 0), number).round().astype(int)
    return [int(choice) for choice in choices[picks]]


def _flagged(flags: list[Flag]) -> list[Place]:
    """Take as many entries of each kind, spread evenly, so that none takes the room of others."""
    of_kind: dict[str, list[Place]] = {}
    for look in looks(flags):
        of_kind.setdefault(look.kinds[0], []).append((look.first, look.position, look.plane))
    each = _MOST_FLAGGED // max(len(of_kind), 1)
    return [places[i] for places in of_kind.values() for i in _spread(np.arange(len(places)), each)]
