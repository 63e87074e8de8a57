"""Which predicted cell is which true cell: overlaps of two label images, kept sparse.

A dense table of 5,000 x 5,000 cells takes 200 MB and minutes to solve; the pairs that share a
pixel are about as many as the cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cypose_dask.errors import SettingsError

__all__ = ["Overlaps", "compact", "overlaps_of"]

# Larger labels than this many a pixel are numbered by sorting instead of a table.
_TABLE_PER_PIXEL = 4


@dataclass(frozen=True, eq=False)
class Overlaps:
    """The E pairs of a true and a predicted cell that share pixels, among N and M cells.

    Attributes
    ----------
    true, predicted : ndarray of int, (E,)
        Indices of the two cells, from 0: label minus 1 of `compact` labels.
    shared_px : ndarray of int, (E,)
        Pixels in both.
    true_px, predicted_px : ndarray of int, (N,) and (M,)
        Area of each cell.
    """

    true: np.ndarray
    predicted: np.ndarray
    shared_px: np.ndarray
    true_px: np.ndarray
    predicted_px: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each pair, (E,), dimensionless."""
        together = self.true_px[self.true] + self.predicted_px[self.predicted]
        return self.shared_px / (together - self.shared_px)

    def match(self, threshold: float, *, above: bool = False) -> np.ndarray:
        """Pair cells one to one, as many as possible, and of these with the largest sum of IoU.

        Parameters
        ----------
        threshold : float
            Least intersection over union of a pair, dimensionless.
        above : bool, optional
            Demand more than `threshold` instead of at least it.

        Returns
        -------
        ndarray of int, (K,)
            Indices into the pairs.

        Notes
        -----
        Source: `cellpose.metrics._true_positive` (3.1.1.3), which solves the same assignment on a
        dense table. Above 0.5 there is nothing to assign: two cells that each share more than half
        of a third would overlap (Kirillov et al. 2019, Panoptic Segmentation, section 4.1).
        """
        iou = self.iou
        good = np.flatnonzero(iou > threshold if above else iou >= threshold)
        unique = threshold > 0.5 or (above and threshold == 0.5)
        return good if unique else self._assign(good, iou[good])

    def without(self, true: np.ndarray) -> Overlaps:
        """Return the pairs without those of some true cells, given as (N,) bool."""
        kept = ~true[self.true]
        pairs = (self.true[kept], self.predicted[kept], self.shared_px[kept])
        return Overlaps(*pairs, self.true_px, self.predicted_px)

    def split(self) -> np.ndarray:
        """Tell which true cells hold more than half of each of two or more predicted ones, (N,)."""
        return _hold_several(self.true, self._most(self.predicted, self.predicted_px), self.true_px)

    def merged(self) -> np.ndarray:
        """Tell which predicted cells hold more than half of each of two or more true ones, (M,)."""
        inside = self._most(self.true, self.true_px)
        return _hold_several(self.predicted, inside, self.predicted_px)

    def _most(self, cell: np.ndarray, area_px: np.ndarray) -> np.ndarray:
        return 2 * self.shared_px > area_px[cell]

    def _assign(self, edges: np.ndarray, iou: np.ndarray) -> np.ndarray:
        """Solve the assignment in each connected group of cells alone; most are one pair."""
        from scipy import sparse
        from scipy.sparse.csgraph import connected_components

        n, m = len(self.true_px), len(self.predicted_px)
        ends = (self.true[edges], n + self.predicted[edges])
        graph = sparse.coo_array((np.ones(len(edges)), ends), shape=(n + m, n + m))
        group = connected_components(graph, directed=False)[1][ends[0]]
        order = np.argsort(group, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
        kept = [part if len(part) < 2 else part[self._best(edges[part], iou[part])]
                for part in groups]  # fmt: skip
        return np.sort(edges[np.concatenate(kept)]) if len(edges) else edges

    def _best(self, edges: np.ndarray, iou: np.ndarray) -> np.ndarray:
        from scipy.optimize import linear_sum_assignment

        _, row = np.unique(self.true[edges], return_inverse=True)
        _, column = np.unique(self.predicted[edges], return_inverse=True)
        gain = np.zeros((row.max() + 1, column.max() + 1))
        # The sum of the second terms stays below 1, so that one pair more always wins.
        gain[row, column] = 1 + iou / (2 * min(gain.shape))
        where = np.full(gain.shape, -1)
        where[row, column] = np.arange(len(edges))
        chosen = where[linear_sum_assignment(gain, maximize=True)]
        return chosen[chosen >= 0]


def _hold_several(holder: np.ndarray, inside: np.ndarray, cells: np.ndarray) -> np.ndarray:
    return np.bincount(holder[inside], minlength=len(cells)) >= 2


def overlaps_of(truth: np.ndarray, predicted: np.ndarray) -> Overlaps:
    """Count the pixels that true and predicted cells share.

    Parameters
    ----------
    truth, predicted : ndarray of int, (Y, X)
        Labels as `compact` numbers them.

    Raises
    ------
    SettingsError
        If the two have different sizes.
    """
    from scipy import sparse

    if truth.shape != predicted.shape:
        raise SettingsError(
            f"The truth has {truth.shape} pixels (Y, X), the prediction {predicted.shape}. Both "
            "must show the same frame at the same size."
        )
    true_px, predicted_px = (np.bincount(one.ravel())[1:] for one in (truth, predicted))
    both = (truth > 0) & (predicted > 0)
    cells = (truth[both] - 1, predicted[both] - 1)
    shape = (max(len(true_px), 1), max(len(predicted_px), 1))
    # Converting sums the pixels of one pair.
    table = sparse.coo_array((np.ones(len(cells[0]), np.int64), cells), shape=shape).tocsr().tocoo()
    return Overlaps(table.row, table.col, table.data, true_px, predicted_px)


def compact(labels: np.ndarray) -> np.ndarray:
    """Return labels (Y, X) numbered from 1 without gaps, in their old order; 0 stays 0.

    Raises
    ------
    SettingsError
        If it is no (Y, X) array of whole numbers from 0.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        raise SettingsError(
            f"Found an array {labels.shape} of {labels.dtype}; expected labels (Y, X), whole "
            "numbers with 0 for the background."
        )
    if labels.size and labels.min() < 0:
        raise SettingsError(f"Found a label of {labels.min()}; labels are 0 and above.")
    if int(labels.max(initial=0)) > _TABLE_PER_PIXEL * labels.size:
        return _compact_sparse(labels)
    present = np.bincount(labels.ravel().astype(np.intp), minlength=1) > 0
    present[0] = False
    numbers: Any = np.where(present, np.cumsum(present), 0)
    return np.asarray(numbers[labels.astype(np.intp)], np.int32)


def _compact_sparse(labels: np.ndarray) -> np.ndarray:
    values, numbers = np.unique(labels, return_inverse=True)
    return (numbers.reshape(labels.shape) + (values[0] != 0)).astype(np.int32)
