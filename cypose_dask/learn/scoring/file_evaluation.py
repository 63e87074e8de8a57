"""Label files compared with label files, frame by frame, without holding more than one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.errors import IncompleteResultError
from cypose_dask.learn.scoring.evaluation import THRESHOLDS, Evaluation, evaluate_pairs
from cypose_dask.learn.scoring.label_pairs import LabelPair, pair_labels

__all__ = ["FileEvaluation", "evaluate_files"]


@dataclass(frozen=True, eq=False)
class FileEvaluation:
    """Scores of label files, and where each score came from.

    Attributes
    ----------
    prediction, truth : Path
        The two files or folders.
    evaluation : Evaluation
    places : tuple of (LabelPair, int)
        The pair of files and the frame in it, for each frame of `evaluation`.
    not_scored : tuple of str
        Frames that were not scored, because they were never segmented, in words.
    left_out : tuple of str
        Files without a partner, in words.
    """

    prediction: Path
    truth: Path
    evaluation: Evaluation
    places: tuple[tuple[LabelPair, int], ...]
    not_scored: tuple[str, ...]
    left_out: tuple[str, ...]

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Read truth and prediction of a scored frame again, (Y, X) each."""
        return _read(*self.places[index])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; a score without a value is None."""
        return {
            "prediction": str(self.prediction),
            "truth": str(self.truth),
            **self.evaluation.to_dict(),
            "not_scored": list(self.not_scored),
            "left_out": list(self.left_out),
        }


def evaluate_files(
    prediction: str | Path,
    truth: str | Path,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    ignore_border: bool = False,
    partial_truth: bool = False,
    allow_missing: bool = False,
) -> FileEvaluation:
    """Compare predicted label files with true ones: prediction first, as on the command line.

    Parameters
    ----------
    prediction, truth : str or Path
        Two files (TIF, PNG, ``_seg.npy``, result zarr) or two folders of them; see
        `cypose_dask.learn.scoring.label_pairs.pair_labels`.
    thresholds, ignore_border, partial_truth
        As in `cypose_dask.learn.evaluate_labels`.
    allow_missing : bool, optional
        Leave files of a folder out that have no partner.

    Returns
    -------
    FileEvaluation

    Raises
    ------
    MovieNotFoundError, MovieError, SettingsError
        If files are not there, cannot be read or do not fit together.
    IncompleteResultError
        If no frame has labels on both sides.
    """
    pairs, left_out = pair_labels(prediction, truth, allow_missing=allow_missing)
    places = [
        (pair, index)
        for pair in pairs
        for index in range(len(pair))
        if pair.truth.has_labels(index) and pair.predicted.has_labels(index)
    ]
    not_scored = tuple(one for pair in pairs for one in pair.not_done())
    if not places:
        raise IncompleteResultError(
            f"No frame of {prediction} and {truth} has labels on both sides: {not_scored[0]}. "
            "Finish the run first; the command that began it continues it."
        )
    evaluation = evaluate_pairs(
        (_read(pair, index) for pair, index in places),
        thresholds=thresholds,
        ignore_border=ignore_border,
        partial_truth=partial_truth,
        names=[pair.frame_name(index) for pair, index in places],
    )
    sides = Path(prediction), Path(truth)
    return FileEvaluation(*sides, evaluation, tuple(places), not_scored, tuple(left_out))


def _read(pair: LabelPair, index: int) -> tuple[np.ndarray, np.ndarray]:
    both = pair.read(index)
    if both is None:
        raise IncompleteResultError(f"{pair.frame_name(index)} has no labels.")
    return both
