"""How good labels are: average precision as Cellpose defines it, and a network scored on frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cypose_dask.errors import SettingsError
from cypose_dask.learn.raster import renumber

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

THRESHOLDS = (0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Scores:
    """Matches between truth and prediction, frame by frame; every array is (N, K).

    Attributes
    ----------
    thresholds : tuple of float
        The K values of intersection over union from which two cells match, dimensionless.
    ap : ndarray of float
        tp / (tp + fp + fn), dimensionless.
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
        """Average precision over frames, shape (K,), dimensionless."""
        return self.ap.mean(axis=0)

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
    Source: `cellpose.metrics.average_precision` (3.1.1.3), which does the matching.

    Examples
    --------
    >>> one = np.zeros((4, 4), int)
    >>> one[:2] = 1
    >>> average_precision([one], [one]).mean_ap.tolist()
    [1.0, 1.0, 1.0]
    """
    from cellpose import metrics

    if len(truth) != len(predicted):
        raise SettingsError(f"{len(truth)} true and {len(predicted)} predicted label images")
    # Cellpose takes the largest label for the number of cells
    pairs = [
        [renumber(np.asarray(one)).astype(np.int32) for one in side] for side in (truth, predicted)
    ]
    return Scores(thresholds, *metrics.average_precision(*pairs, threshold=list(thresholds)))


def median_diameter(labels: NDArray[Any]) -> float:
    """Median diameter (pixels) of the discs as large as the cells of labels (Y, X).

    Source: `cellpose.utils.diameters`.
    """
    from cellpose import utils

    return float(utils.diameters(np.asarray(labels).astype(np.int32))[0])


def score_network(
    path: str | Path,
    frames: Sequence[NDArray[Any]],
    labels: Sequence[NDArray[Any]],
    *,
    flow_threshold: float = 0.75,
) -> Scores:
    """Segment frames with Cellpose itself, each at its truth's median diameter, and score them.

    Parameters
    ----------
    path : path
        Weights of a network with two inputs; the second stays zero.
    frames : sequence of ndarray, each (Y, X)
        Images.
    labels : sequence of ndarray of int, each (Y, X)
        Truth.
    flow_threshold : float, optional
        Largest flow error of a cell, dimensionless; 0 turns the check off.

    Returns
    -------
    Scores
    """
    from cellpose.models import CellposeModel

    model = CellposeModel(gpu=False, pretrained_model=str(path))
    model.net.mkldnn = False
    predicted = [
        model.eval(
            frame,
            channels=[0, 0],
            diameter=median_diameter(truth),
            flow_threshold=flow_threshold,
        )[0]
        for frame, truth in zip(frames, labels, strict=True)
    ]
    return average_precision(labels, predicted)
