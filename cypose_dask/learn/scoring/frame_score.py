"""One frame of labels compared with the truth, with the rules for cells that the frame cuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cypose_dask.learn.scoring.boundary import outline_errors
from cypose_dask.learn.scoring.counts import THRESHOLDS, Counts
from cypose_dask.learn.scoring.matching import Overlaps, compact, overlaps_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Comparison", "compare_frame", "score_frame"]

# Kirillov et al. 2019: at more than one half a match is unique.
_PQ_ABOVE = 0.5


@dataclass(frozen=True, eq=False)
class Comparison:
    """True and predicted cells of one frame, and which of them the border excuses.

    Attributes
    ----------
    truth, predicted : ndarray of int32, (Y, X)
        Labels without gaps: N true and M predicted cells.
    overlaps : Overlaps
        Of all cells.
    not_scored : ndarray of bool, (N,)
        True cells that are neither hit nor miss.
    excused : ndarray of bool, (M,)
        Predicted cells that are no error if they match nothing.
    """

    truth: NDArray[Any]
    predicted: NDArray[Any]
    overlaps: Overlaps
    not_scored: NDArray[Any]
    excused: NDArray[Any]

    @property
    def scored(self) -> Overlaps:
        """Overlaps of the true cells that are scored."""
        return self.overlaps.without(self.not_scored)

    def missed(self, match: NDArray[Any]) -> NDArray[Any]:
        """Tell which true cells a match leaves alone, (N,) bool."""
        alone = ~self.not_scored
        alone[self.scored.true[match]] = False
        return alone

    def surplus(self, match: NDArray[Any]) -> NDArray[Any]:
        """Tell which predicted cells a match leaves alone without an excuse, (M,) bool."""
        alone = ~self.excused
        alone[self.scored.predicted[match]] = False
        return alone


def compare_frame(
    truth: NDArray[Any], predicted: NDArray[Any], *, ignore_border: bool = False
) -> Comparison:
    """Find the overlaps of true and predicted labels (Y, X), and what the border excuses.

    Raises
    ------
    SettingsError
        If the two differ in size, or one holds no labels.
    """
    truth, predicted = compact(truth), compact(predicted)
    overlaps = overlaps_of(truth, predicted)
    n, m = len(overlaps.true_px), len(overlaps.predicted_px)
    edge, excused = np.zeros(n, bool), np.zeros(m, bool)
    if ignore_border:
        edge = _touching(truth, n)
        excused = _touching(predicted, m) | _mostly_in(overlaps, edge)
    return Comparison(truth, predicted, overlaps, edge, excused)


def score_frame(
    truth: NDArray[Any],
    predicted: NDArray[Any],
    thresholds: tuple[float, ...] = THRESHOLDS,
    *,
    ignore_border: bool = False,
    partial_truth: bool = False,
) -> Counts:
    """Compare one frame; see `cypose_dask.learn.evaluate_labels`.

    Raises
    ------
    SettingsError
        If the two differ in size, or one holds no labels.
    """
    found = compare_frame(truth, predicted, ignore_border=ignore_border)
    scored = found.scored
    matches = [scored.match(threshold) for threshold in thresholds]
    pairs = scored.match(_PQ_ABOVE, above=True)
    missed = [int(found.missed(match).sum()) for match in (*matches, pairs)]
    surplus = [int(found.surplus(match).sum()) for match in (*matches, pairs)]
    border = int(found.not_scored.sum())
    predicted_cells = len(matches[0]) + surplus[0]
    return Counts(
        thresholds=thresholds,
        true_cells=len(found.not_scored) - border,
        predicted_cells=predicted_cells,
        border_true=border,
        border_predicted=len(found.excused) - predicted_cells,
        tp=tuple(len(match) for match in matches),
        fn=tuple(missed[:-1]),
        fp=None if partial_truth else tuple(surplus[:-1]),
        pairs=len(pairs),
        unpaired_true=missed[-1],
        unpaired_predicted=None if partial_truth else surplus[-1],
        pair_iou=float(scored.iou[pairs].sum()),
        splits=int((found.overlaps.split() & ~found.not_scored).sum()),
        merges=int(scored.merged().sum()),
        **_outlines(found, pairs),
    )


def _outlines(found: Comparison, pairs: NDArray[Any]) -> dict[str, Any]:
    cells = np.stack((found.scored.true[pairs], found.scored.predicted[pairs]), axis=1) + 1
    error, bias = outline_errors(found.truth, found.predicted, cells)
    measured = ~np.isnan(error)
    return {
        "outlined": int(measured.sum()),
        "boundary_sum_px": float(error[measured].sum()),
        "bias_sum_px": float(bias[measured].sum()),
    }


def _touching(labels: NDArray[Any], cells: int) -> NDArray[Any]:
    """Tell which cells have a pixel in the first or last row or column, (cells,) bool."""
    edges = (labels[:1].ravel(), labels[-1:].ravel(), labels[:, 0], labels[:, -1])
    return np.bincount(np.concatenate(edges), minlength=cells + 1)[1:] > 0


def _mostly_in(overlaps: Overlaps, true: NDArray[Any]) -> NDArray[Any]:
    """Tell which predicted cells lie to at least one half in some true cells, (M,) bool."""
    inside = np.where(true[overlaps.true], overlaps.shared_px, 0)
    shared = np.bincount(overlaps.predicted, inside, minlength=len(overlaps.predicted_px))
    return 2 * shared >= overlaps.predicted_px
