"""Choose the few of many that differ most, by their features: farthest point first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["most_different"]

# Weight of each feature's spread between its 5th and 95th percentile; density decides most.
_WEIGHTS = {"density": 2.0, "time": 1.0, "focus": 0.5, "brightness": 0.5}
# Distance of two positions is sqrt(2) times this, whatever their numbers.
_POSITION_WEIGHT = 0.5
# Candidates with less of their area in cells are taken when nothing else is left.
_EMPTY_SHARE = 0.001

Features = Mapping[str, float]


def most_different(
    candidates: Sequence[Features], n: int, *, taken: Sequence[Features] = ()
) -> list[int]:
    """Choose n candidates, each as far as can be from those before it.

    Parameters
    ----------
    candidates : sequence of dict
        ``density`` (share of the area in cells, 0 to 1), ``time``, ``focus``, ``brightness`` and
        ``position``, dimensionless; features that are missing count as 0.
    n : int
        How many; fewer come back when there are fewer.
    taken : sequence of dict, optional
        What was chosen earlier: the new ones differ from these, too.

    Returns
    -------
    list of int
        Indices in the order of choice. Without `taken`, the densest and the sparsest come first.
        Candidates without cells come last.

    Examples
    --------
    >>> densities = [0.3, 0.0, 0.1, 0.11, 0.9]
    >>> most_different([{"density": value} for value in densities], 3)
    [4, 2, 0]
    """
    densities = np.array([one["density"] for one in candidates])
    chosen: list[int] = []
    for group in (
        np.flatnonzero(densities >= _EMPTY_SHARE),
        np.flatnonzero(densities < _EMPTY_SHARE),
    ):
        wanted = min(n - len(chosen), len(group))
        if wanted > 0:
            given = [*(candidates[i] for i in chosen), *taken]
            first = [] if given else _extremes(densities[group])[:wanted]
            rows = _rows([*(candidates[i] for i in group), *given])
            picks = _farthest(rows, (len(group), wanted), first)
            chosen += [int(group[i]) for i in picks]
    return chosen


def _extremes(densities: NDArray[np.float64]) -> list[int]:
    return list(dict.fromkeys((int(densities.argmax()), int(densities.argmin()))))


def _farthest(rows: NDArray[np.float64], sizes: tuple[int, int], first: list[int]) -> list[int]:
    """Pick ``sizes[1]`` of the first ``sizes[0]`` rows; the other rows are given already."""
    among, wanted = sizes
    near = np.full(among, np.inf)
    for given in rows[among:]:
        near = np.minimum(near, _distances(rows[:among], given))
    picks: list[int] = []
    while len(picks) < wanted:
        pick = first[len(picks)] if len(picks) < len(first) else int(near.argmax())
        picks.append(pick)
        near = np.minimum(near, _distances(rows[:among], rows[pick]))
        near[picks] = -1.0
    return picks


def _distances(rows: NDArray[np.float64], row: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(((rows - row) ** 2).sum(axis=1))


def _rows(items: Sequence[Features]) -> NDArray[np.float64]:
    """Features (N, D) of comparable spread; outliers are clipped, or they would be chosen first."""
    columns = []
    for name, weight in _WEIGHTS.items():
        values = np.array([item.get(name, 0.0) for item in items])
        # Colonies grow exponentially: without the root, late frames would be most of the choice.
        values = np.sqrt(np.maximum(values, 0)) if name == "density" else values
        low, high = np.percentile(values, (5, 95))
        columns.append(weight * (np.clip(values, low, high) - low) / max(high - low, 1e-9))
    positions = np.array([item.get("position", 0) for item in items])
    columns += [_POSITION_WEIGHT * (positions == p) for p in np.unique(positions)]
    return np.stack(columns, axis=1)
