"""Synthetic movies, training and evaluation, on numpy arrays and files; nothing here uses Dask.

Names are loaded when they are first used, so that ``import cypose_dask.learn`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Recipe": "training",
    "SyntheticFrame": "synthetic",
    "SyntheticMovie": "movie",
    "average_precision": "evaluation",
    "bundle_model": "bundle",
    "synthetic_frame": "synthetic",
    "synthetic_movie": "movie",
    "train_network": "training",
    "training_set": "synthetic",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
