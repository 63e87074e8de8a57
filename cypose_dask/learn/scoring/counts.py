"""What was counted when labels were compared; counts of frames add up to those of a movie."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["THRESHOLDS", "Counts", "pooled"]

THRESHOLDS = (0.5, 0.75, 0.9)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counts of one frame or of many, and the scores that follow from them.

    Scores are dimensionless and NaN where there is nothing to divide by. Where truth is partial,
    `fp` is None and the scores that need it are NaN: a cell that nobody labelled is no error.

    Attributes
    ----------
    thresholds : tuple of float
        The K values of intersection over union from which two cells match, dimensionless.
    true_cells, predicted_cells : int
        Cells that are scored: all of them, less those at the border if that is asked for.
    border_true, border_predicted : int
        Cells that are not scored because of the border.
    tp, fn : tuple of int
        For each threshold: cells matched, and true cells without a match.
    fp : tuple of int or None
        For each threshold: predicted cells without a match.
    pairs, unpaired_true : int
        Cells matched, and true cells not, at an IoU above 0.5.
    unpaired_predicted : int or None
        Predicted cells not matched at an IoU above 0.5.
    pair_iou : float
        Sum of the IoU of `pairs`, dimensionless.
    splits, merges : int
        True cells in several pieces; predicted cells that hold several true ones.
    outlined : int
        Pairs whose outlines were compared.
    boundary_sum_px, bias_sum_px : float
        Sums of their `boundary.outline_errors`, pixels.
    """

    thresholds: tuple[float, ...]
    true_cells: int
    predicted_cells: int
    border_true: int
    border_predicted: int
    tp: tuple[int, ...]
    fn: tuple[int, ...]
    fp: tuple[int, ...] | None
    pairs: int
    unpaired_true: int
    unpaired_predicted: int | None
    pair_iou: float
    splits: int
    merges: int
    outlined: int
    boundary_sum_px: float
    bias_sum_px: float

    @property
    def precision(self) -> tuple[float, ...]:
        """Share of the predicted cells that match, tp / (tp + fp), for each threshold."""
        return tuple(_ratio(tp, tp + fp) for tp, fp, _ in self._rows())

    @property
    def recall(self) -> tuple[float, ...]:
        """Share of the true cells that match, tp / (tp + fn), for each threshold."""
        return tuple(_ratio(tp, tp + fn) for tp, _, fn in self._rows())

    @property
    def f1(self) -> tuple[float, ...]:
        """2 tp / (2 tp + fp + fn), for each threshold."""
        return tuple(_ratio(2 * tp, 2 * tp + fp + fn) for tp, fp, fn in self._rows())

    @property
    def ap(self) -> tuple[float, ...]:
        """Average precision, tp / (tp + fp + fn), for each threshold.

        Source: `cellpose.metrics.average_precision` (3.1.1.3).
        """
        return tuple(_ratio(tp, tp + fp + fn) for tp, fp, fn in self._rows())

    @property
    def sq(self) -> float:
        """Segmentation quality: mean IoU of the pairs above 0.5 (Kirillov et al. 2019)."""
        return _ratio(self.pair_iou, self.pairs)

    @property
    def rq(self) -> float:
        """Recognition quality: F1 at an IoU above 0.5 (Kirillov et al. 2019)."""
        if self.unpaired_predicted is None:
            return math.nan
        return _ratio(2 * self.pairs, 2 * self.pairs + self.unpaired_predicted + self.unpaired_true)

    @property
    def pq(self) -> float:
        """Panoptic quality, SQ x RQ; 0 where cells exist and none is found.

        Source: Kirillov et al. 2019, Panoptic Segmentation, doi:10.1109/CVPR.2019.00963.
        """
        return self.rq if self.rq == 0 else self.sq * self.rq

    @property
    def boundary_px(self) -> float:
        """Mean distance between the outlines of matched cells, pixels; every cell counts once."""
        return _ratio(self.boundary_sum_px, self.outlined)

    @property
    def bias_px(self) -> float:
        """The same with a sign, pixels: positive if predicted cells are too fat."""
        return _ratio(self.bias_sum_px, self.outlined)

    @property
    def errors(self) -> int:
        """Cells that are missing or too many at the first threshold."""
        return self.fn[0] + (self.fp[0] if self.fp else 0)

    def to_dict(self) -> dict[str, Any]:
        """Return counts and scores as JSON values; a score without a value is None."""
        scores = {name: getattr(self, name) for name in _SCORES}
        counts = {name: value for name, value in vars(self).items() if not name.endswith("_sum_px")}
        return {name: _json(value) for name, value in (counts | scores).items()}

    def _rows(self) -> Iterable[tuple[float, float, float]]:
        fp = self.fp or (math.nan,) * len(self.tp)
        return zip(self.tp, fp, self.fn, strict=True)


_SCORES = ("precision", "recall", "f1", "ap", "sq", "rq", "pq", "boundary_px", "bias_px")


def pooled(counts: Iterable[Counts]) -> Counts:
    """Add the counts of frames, so that every cell has the same weight.

    Raises
    ------
    ValueError
        If there are none, or they were made with different thresholds.
    """
    rows = [vars(one) for one in counts]
    if len({row["thresholds"] for row in rows}) != 1:
        raise ValueError("expected counts of one or more frames at the same thresholds")
    sums = {name: _sum([row[name] for row in rows]) for name in rows[0] if name != "thresholds"}
    return Counts(thresholds=rows[0]["thresholds"], **sums)


def _sum(values: list[Any]) -> Any:
    if any(value is None for value in values):
        return None
    if isinstance(values[0], tuple):
        return tuple(sum(column) for column in zip(*values, strict=True))
    return sum(values)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
