"""Synthetic movies, training and evaluation, on numpy arrays and files; nothing here uses Dask.

Names are loaded when they are first used, so that ``import cypose_dask.learn`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "About": "train_model",
    "ChosenFrame": "frames",
    "Evaluation": "evaluation",
    "Examples": "examples",
    "FileEvaluation": "file_evaluation",
    "FoundExamples": "example_files",
    "FrameRequest": "frames",
    "FrameSelection": "frames",
    "ModelComparison": "comparison",
    "ModelJob": "train_model",
    "Reading": "example_frames",
    "Recipe": "training",
    "Shot": "comparison_frames",
    "SyntheticFrame": "synthetic",
    "SyntheticMovie": "movie",
    "TrainedModel": "train_model",
    "Variant": "comparison_ranking",
    "VariantScore": "comparison_ranking",
    "average_precision": "evaluation",
    "bundle_model": "bundle",
    "compare_models": "comparison",
    "consecutive_shots": "comparison_frames",
    "default_recipe": "train_model",
    "evaluate_files": "file_evaluation",
    "evaluate_labels": "evaluation",
    "film": "movie",
    "find_examples": "example_files",
    "read_examples": "example_files",
    "read_labels": "label_files",
    "save_comparison": "comparison_picture",
    "save_frames": "frame_files",
    "select_frames": "frames",
    "synthetic_frame": "synthetic",
    "synthetic_movie": "movie",
    "train_model": "train_model",
    "train_network": "training",
    "training_set": "synthetic",
    "true_shots": "comparison_frames",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
