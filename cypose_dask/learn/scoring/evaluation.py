"""How good labels are: prediction against truth, as Cellpose and the literature define it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from cypose_dask.errors import SettingsError
from cypose_dask.learn.scoring.counts import THRESHOLDS, Counts, pooled
from cypose_dask.learn.scoring.frame_score import score_frame
from cypose_dask.learn.scoring.matching import compact, overlaps_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "THRESHOLDS",
    "Evaluation",
    "FrameScore",
    "Scores",
    "average_precision",
    "evaluate_labels",
    "evaluate_pairs",
    "median_diameter",
]


@dataclass(frozen=True)
class FrameScore:
    """One frame that was compared.

    Attributes
    ----------
    name : str
        What the frame is called in tables.
    counts : Counts
        What was found.
    """

    name: str
    counts: Counts


@dataclass(frozen=True)
class Evaluation:
    """Prediction against truth, frame by frame.

    Attributes
    ----------
    frames : tuple of FrameScore
        One a frame, in order; never empty.
    ignore_border, partial_truth : bool
        The rules that were applied; see `evaluate_labels`.
    """

    frames: tuple[FrameScore, ...]
    ignore_border: bool = False
    partial_truth: bool = False

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The K values of intersection over union of a match, dimensionless."""
        return self.frames[0].counts.thresholds

    @property
    def pooled(self) -> Counts:
        """The counts of all frames together: every cell has the same weight."""
        return pooled(frame.counts for frame in self.frames)

    @property
    def mean_ap(self) -> tuple[float, ...]:
        """Average precision averaged over the frames that have cells, for each threshold.

        This is the number in Cellpose's papers: every frame has the same weight.
        """
        rows = self._with_ap
        if not rows:
            return (math.nan,) * len(self.thresholds)
        return tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))

    @property
    def n_without_ap(self) -> int:
        """How many frames `mean_ap` leaves out: no cell on either side (or truth is partial)."""
        return len(self.frames) - len(self._with_ap)

    @property
    def _with_ap(self) -> list[tuple[float, ...]]:
        return [frame.counts.ap for frame in self.frames if not math.isnan(frame.counts.ap[0])]

    def worst(self, most: int) -> list[int]:
        """Return the indices of the frames with the lowest scores, the worst first.

        Frames are ordered by average precision at the first threshold (recall if truth is
        partial), then by the number of wrong cells. Frames without an error are left out.
        """
        bad = [i for i, frame in enumerate(self.frames) if self._imperfect(frame.counts)]
        return sorted(bad, key=lambda i: self._rank(self.frames[i].counts))[:most]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; a score without a value is None."""
        return {
            "thresholds": list(self.thresholds),
            "ignore_border": self.ignore_border,
            "partial_truth": self.partial_truth,
            "pooled": self.pooled.to_dict(),
            "mean_over_frames": {
                "ap": [None if math.isnan(ap) else ap for ap in self.mean_ap],
                "frames_left_out": self.n_without_ap,
            },
            "frames": [{"name": one.name, **one.counts.to_dict()} for one in self.frames],
        }

    def _scores(self, counts: Counts) -> tuple[float, ...]:
        return counts.recall if self.partial_truth else counts.ap

    def _imperfect(self, counts: Counts) -> bool:
        return any(score < 1 for score in self._scores(counts))

    def _rank(self, counts: Counts) -> tuple[float, ...]:
        scores = self._scores(counts)
        return (scores[0], -counts.errors, *scores[1:])


def evaluate_labels(
    truth: Iterable[NDArray[Any]],
    predicted: Iterable[NDArray[Any]],
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    ignore_border: bool = False,
    partial_truth: bool = False,
    names: Iterable[str] | None = None,
) -> Evaluation:
    """Compare predicted labels with true ones: truth first.

    Parameters
    ----------
    truth, predicted : iterable of ndarray of int, each (Y, X)
        Labels; 0 is background, gaps in the numbers do not count. Read one frame at a time; a
        single (Y, X) array is one frame.
    thresholds : sequence of float, optional
        Least intersection over union of a match, above 0 and at most 1, dimensionless. Scores
        come in ascending order.
    ignore_border : bool, optional
        Score no cell that the frame cuts. A true cell at the border is neither hit nor miss; a
        predicted cell that has no match is no error if it touches the border, or if at least half
        of it lies in true cells at the border. A predicted cell at the border that matches
        a true one inside is a hit. Truth decides, so that this rule is not symmetric.
    partial_truth : bool, optional
        Truth does not hold every cell: predicted cells without a match are not counted, and only
        recall, SQ, splits, merges and outlines are scored.
    names : iterable of str or None, optional
        What the frames are called; None numbers them from 0.

    Returns
    -------
    Evaluation

    Raises
    ------
    SettingsError
        If a threshold is out of range, the two are not equally many or differ in size, there are
        none, or an array holds no labels.

    Notes
    -----
    A true cell is split if it holds more than half of each of two or more predicted cells; a
    predicted cell is a merge if it holds more than half of each of two or more true ones.
    Source: the criterion of half a cell is the Cell Tracking Challenge's (Matula et al. 2015, PLoS
    ONE 10:e0144959, doi:10.1371/journal.pone.0144959). With `ignore_border`, only true cells that
    are scored count in both.

    Outlines and SQ are those of the cells that match at an IoU above 0.5; see
    `cypose_dask.learn.scoring.boundary.outline_errors` for the distance and its sign.

    Examples
    --------
    >>> truth = np.zeros((8, 8), int)
    >>> truth[1:4, 1:7], truth[5:7, 1:7] = 1, 2
    >>> found = evaluate_labels(truth, np.where(truth == 1, 5, 0)).pooled
    >>> found.ap, found.precision[0], found.recall[0]
    ((0.5, 0.5, 0.5), 1.0, 0.5)
    """
    pairs = _pairs(_frames(truth), _frames(predicted))
    return evaluate_pairs(
        pairs,
        thresholds=thresholds,
        ignore_border=ignore_border,
        partial_truth=partial_truth,
        names=names,
    )


def evaluate_pairs(
    pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]],
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    ignore_border: bool = False,
    partial_truth: bool = False,
    names: Iterable[str] | None = None,
) -> Evaluation:
    """Compare pairs of truth and prediction; everything else is as in `evaluate_labels`.

    Raises
    ------
    SettingsError
        As in `evaluate_labels`.
    """
    settled = _settle_thresholds(thresholds)
    called = (str(i) for i in count()) if names is None else iter(names)
    scores = tuple(
        FrameScore(
            next(called),
            score_frame(*pair, settled, ignore_border=ignore_border, partial_truth=partial_truth),
        )
        for pair in pairs
    )
    if not scores:
        raise SettingsError("There are no frames to compare: 0 true and 0 predicted label images.")
    return Evaluation(scores, ignore_border, partial_truth)


def _settle_thresholds(thresholds: Sequence[float]) -> tuple[float, ...]:
    settled = tuple(sorted({float(threshold) for threshold in thresholds}))
    if not settled or not all(0 < threshold <= 1 for threshold in settled):
        raise SettingsError(
            f"thresholds are {tuple(thresholds)}; give values of intersection over union above 0 "
            "and at most 1, such as 0.5 0.75 0.9."
        )
    return settled


def _frames(labels: Iterable[NDArray[Any]]) -> Iterable[NDArray[Any]]:
    return [labels] if isinstance(labels, np.ndarray) and labels.ndim == 2 else labels


def _pairs(
    truth: Iterable[NDArray[Any]], predicted: Iterable[NDArray[Any]]
) -> Iterable[tuple[NDArray[Any], NDArray[Any]]]:
    """Pair frames; more on one side is an error that says how many there are."""
    sides = iter(truth), iter(predicted)
    counts = [0, 0]
    while True:
        pair = [next(side, None) for side in sides]
        counts = [n + (one is not None) for n, one in zip(counts, pair, strict=True)]
        if pair[0] is not None and pair[1] is not None:
            yield pair[0], pair[1]
            continue
        counts = [n + sum(1 for _ in side) for n, side in zip(counts, sides, strict=True)]
        if counts[0] != counts[1]:
            raise SettingsError(_unequal(*counts))
        return


def _unequal(truth: int, predicted: int) -> str:
    return (
        f"{truth} true and {predicted} predicted label images; give one prediction for each truth."
    )


@dataclass(frozen=True)
class Scores:
    """Matches between truth and prediction, frame by frame; every array is (N, K).

    Attributes
    ----------
    thresholds : tuple of float
        The K values of intersection over union from which two cells match, dimensionless.
    ap : ndarray of float
        tp / (tp + fp + fn), dimensionless; NaN for a frame without a cell on either side.
    tp, fp, fn : ndarray of float
        Cells matched, cells predicted without a match, true cells without a match.
    """

    thresholds: tuple[float, ...]
    ap: NDArray[np.floating[Any]]
    tp: NDArray[np.floating[Any]]
    fp: NDArray[np.floating[Any]]
    fn: NDArray[np.floating[Any]]

    @property
    def mean_ap(self) -> NDArray[np.floating[Any]]:
        """Average precision averaged over the frames that have one, shape (K,), dimensionless.

        NaN where no frame has one.
        """
        known = self.ap[~np.isnan(self.ap[:, 0])]
        return known.mean(axis=0) if len(known) else np.full(len(self.thresholds), np.nan)

    @property
    def n_without_ap(self) -> int:
        """How many frames `mean_ap` leaves out: those without a cell on either side."""
        return int(np.isnan(self.ap[:, 0]).sum())

    @property
    def recall(self) -> NDArray[np.floating[Any]]:
        """Share of all true cells that were found, shape (K,): fair where truth is partial."""
        return self.tp.sum(axis=0) / np.maximum((self.tp + self.fn).sum(axis=0), 1)


def average_precision(
    truth: Sequence[NDArray[Any]],
    predicted: Sequence[NDArray[Any]],
    *,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> Scores:
    """Match predicted cells with true ones.

    Parameters
    ----------
    truth, predicted : sequence of ndarray of int, each (Y, X)
        Labels; 0 is background; gaps in the numbers do not count as cells.
    thresholds : tuple of float, optional
        Least intersection over union of a match, dimensionless.

    Returns
    -------
    Scores

    Raises
    ------
    SettingsError
        The two are not equally many.

    Notes
    -----
    A frame without cells in either has an average precision of 0 / 0, NaN. It is left out of
    `Scores.mean_ap`, so that frames before the first cell do not hide the others;
    `Scores.n_without_ap` counts such frames.

    Source: `cellpose.metrics.average_precision` (3.1.1.3), with which it agrees exactly.

    Examples
    --------
    >>> one = np.zeros((4, 4), int)
    >>> one[:2] = 1
    >>> average_precision([one], [one]).mean_ap.tolist()
    [1.0, 1.0, 1.0]
    """
    if len(truth) != len(predicted):
        raise SettingsError(_unequal(len(truth), len(predicted)))
    rows = [_matched(*pair, thresholds) for pair in zip(truth, predicted, strict=True)]
    tp, fp, fn = np.array(rows, np.float32).reshape(len(rows), 3, len(thresholds)).swapaxes(0, 1)
    with np.errstate(invalid="ignore"):
        return Scores(thresholds, tp / (tp + fp + fn), tp, fp, fn)


def _matched(
    truth: NDArray[Any], predicted: NDArray[Any], thresholds: tuple[float, ...]
) -> list[list[int]]:
    overlaps = overlaps_of(compact(truth), compact(predicted))
    tp = [len(overlaps.match(threshold)) for threshold in thresholds]
    cells = len(overlaps.predicted_px), len(overlaps.true_px)
    return [tp, *([n - found for found in tp] for n in cells)]


def median_diameter(labels: NDArray[Any]) -> float:
    """Median diameter (pixels) of the discs as large as the cells of labels (Y, X).

    Source: `cellpose.utils.diameters`.
    """
    from cellpose import utils

    return float(utils.diameters(np.asarray(labels).astype(np.int32))[0])
