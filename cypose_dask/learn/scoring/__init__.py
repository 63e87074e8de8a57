"""How good labels are: read them, match predicted cells with true ones, count and draw.

`matching`, `boundary` and `counts` work on one pair of label images, `evaluation` on many;
`label_files` and `label_pairs` find them on disk, and `worst_frames` draws what went wrong.
"""

from cypose_dask.learn.scoring.counts import THRESHOLDS, Counts, pooled
from cypose_dask.learn.scoring.evaluation import (
    Evaluation,
    FrameScore,
    Scores,
    average_precision,
    evaluate_labels,
    evaluate_pairs,
    median_diameter,
)
from cypose_dask.learn.scoring.file_evaluation import FileEvaluation, evaluate_files
from cypose_dask.learn.scoring.label_files import LabelFrames, read_labels
from cypose_dask.learn.scoring.label_pairs import LabelPair, pair_labels
from cypose_dask.learn.scoring.worst_frames import open_backdrops, save_worst_frames

__all__ = [
    "THRESHOLDS",
    "Counts",
    "Evaluation",
    "FileEvaluation",
    "FrameScore",
    "LabelFrames",
    "LabelPair",
    "Scores",
    "average_precision",
    "evaluate_files",
    "evaluate_labels",
    "evaluate_pairs",
    "median_diameter",
    "open_backdrops",
    "pair_labels",
    "pooled",
    "read_labels",
    "save_worst_frames",
]
