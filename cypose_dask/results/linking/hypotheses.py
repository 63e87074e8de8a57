"""What may have become of cells from one frame to the next, and the most likely of it all at once.

A hypothesis says that a track goes on as a cell, that it divided into two, or that two young
sisters are one cell again, so that their division was none. Of all sets of hypotheses in which no
track and no cell occurs twice, the one with the highest sum of scores is chosen.

Source: tracking by assignment as set packing, e.g. Padfield, Rittscher and Roysam 2011, "Coupled
minimum-cost flow cell tracking for high-throughput quantitative analysis".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Hypothesis", "most_likely"]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What may have become of one track, or of two.

    Attributes
    ----------
    tracks : tuple of int
        One; or the two sisters that are one cell again.
    cells : tuple of int
        One; or the two daughters.
    score : float
        Above 0, dimensionless.
    """

    tracks: tuple[int, ...]
    cells: tuple[int, ...]
    score: float


def most_likely(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Return the hypotheses with the highest sum of scores of which none contradicts another.

    Parameters
    ----------
    hypotheses : sequence of Hypothesis

    Returns
    -------
    list of Hypothesis
        In the order in which they were given.

    Examples
    --------
    >>> divided = Hypothesis((1,), (7, 8), 0.9)
    >>> most_likely([Hypothesis((1,), (7,), 0.5), divided, Hypothesis((2,), (8,), 0.2)])
    [Hypothesis(tracks=(1,), cells=(7, 8), score=0.9)]
    """
    if not hypotheses:
        return []
    uses = _uses(hypotheses)
    contested = np.asarray(uses.sum(axis=1)).ravel() > 1
    chosen = uses.T @ contested == 0
    scores = np.array([one.score for one in hypotheses])
    if not chosen.all():
        chosen[~chosen] = _packed(uses[:, ~chosen], scores[~chosen])
    return [one for one, is_chosen in zip(hypotheses, chosen, strict=True) if is_chosen]


def _uses(hypotheses: Sequence[Hypothesis]) -> Any:
    """Return which track and which cell (rows) each hypothesis (columns) takes, sparse."""
    from scipy.sparse import csc_array

    rows: dict[tuple[str, int], int] = {}
    places = [
        (rows.setdefault(thing, len(rows)), column)
        for column, one in enumerate(hypotheses)
        for thing in (*(("track", k) for k in one.tracks), *(("cell", c) for c in one.cells))
    ]
    at = tuple(np.array(places).T)
    return csc_array((np.ones(len(places)), at), shape=(len(rows), len(hypotheses)))


def _packed(uses: Any, scores: np.ndarray) -> np.ndarray:
    """Return which columns to take: no row is used twice, and the sum of scores is highest."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    found = milp(
        -scores,
        integrality=np.ones(len(scores)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(uses, ub=1),
    )
    return np.asarray(found.x > 0.5)
