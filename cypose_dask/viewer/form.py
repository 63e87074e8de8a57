"""What the widget's fields say, and the settings that they mean. No napari, no Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cypose_dask.settings import Settings

__all__ = ["LARGEST", "fields_of", "settings_meant"]

# What a field takes; settings beyond it are kept as long as nobody touches the field.
LARGEST = 10_000.0


def fields_of(settings: Settings, models: Sequence[str]) -> dict[str, Any]:
    """Return the values of the fields, by their names.

    Parameters
    ----------
    settings : Settings
    models : sequence of str
        Names that can be chosen; the first one stands where a model is none of them.
    """
    listed = settings.model in models
    return {
        "model": settings.model if listed else models[0],
        "own_weights": None if listed else Path(settings.model),
        "diameter": 0.0 if isinstance(settings.diameter, str) else _shown(settings.diameter),
        "flow_threshold": _shown(settings.flow_threshold),
        "cellprob_threshold": _shown(settings.cellprob_threshold),
        "gpu": settings.gpu,
    }


def settings_meant(
    settings: Settings, before: Mapping[str, Any], now: Mapping[str, Any]
) -> Settings:
    """Return settings in which only the fields that were changed differ.

    A field shows a few decimals, so what nobody touched is not read back from it.

    Parameters
    ----------
    settings : Settings
        That the fields were filled from.
    before, now : mapping of str
        The fields when they were filled, and now.

    Raises
    ------
    SettingsError
        If a field has a value that means nothing.
    """
    changes = {name: value for name, value in now.items() if value != before[name]}
    if {"model", "own_weights"} & set(changes):
        changes["model"] = str(now["own_weights"] or now["model"])
    changes.pop("own_weights", None)
    if "diameter" in changes:
        changes["diameter"] = changes["diameter"] or "model"
    if changes.get("gpu") is False:
        # What a processor does not have.
        changes |= {"precision": "single", "dynamics_device": "auto"}
    return settings.replace(**changes)


def _shown(number: float) -> float:
    return min(max(float(number), -LARGEST), LARGEST)
