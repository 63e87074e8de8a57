"""Synthetic movies, training and evaluation, on numpy arrays and files; nothing here uses Dask.

::

    generator/    made-up movies with exact labels
    scoring/      how good labels are
    frames/       which frames of a movie are worth annotating
    training/     labelled frames become a model
    comparison/   which model suits a movie

Names are loaded when they are first used, so that ``import cypose_dask.learn`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_ROOMS = {
    "comparison": (
        "Difference", "Effect", "ModelComparison", "Shot", "Side", "Variant", "VariantScore",
        "compare_models", "consecutive_shots", "diff_sides", "read_side", "save_comparison",
        "true_shots",
    ),
    "frames": ("ChosenFrame", "FrameRequest", "FrameSelection", "save_frames", "select_frames"),
    "generator": (
        "MovieRequest", "SyntheticFrame", "SyntheticMovie", "film", "synthetic_frame",
        "synthetic_movie", "training_set",
    ),
    "scoring": (
        "Evaluation", "FileEvaluation", "average_precision", "evaluate_files", "evaluate_labels",
        "read_labels",
    ),
    "training": (
        "About", "Examples", "FoundExamples", "ModelJob", "Reading", "Recipe", "TrainedModel",
        "average_weights", "bundle_model", "default_recipe", "find_examples", "read_examples",
        "train_model", "train_network",
    ),
}  # fmt: skip
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_ROOM_OF)


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
