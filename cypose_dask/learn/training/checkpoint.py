"""The files of a training: checkpoint, learning curve and weights, each whole or not there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cypose_dask.errors import SettingsError
from cypose_dask.results.atomic import whole_file, write_json

if TYPE_CHECKING:
    from cypose_dask.learn.training.examples import Examples


def content_hash(examples: Examples) -> str:
    """Hash frames and labels, pixel by pixel, as hexadecimal digits."""
    digest = hashlib.sha256()
    for arrays in zip(examples.frames, examples.labels, strict=True):
        for array in arrays:
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def frame_hashes(examples: Examples) -> set[str]:
    """Hash the pixels of every frame by itself, to find frames that are in two sets."""
    return {
        hashlib.sha256(f"{frame.shape} {frame.dtype}".encode() + frame.tobytes()).hexdigest()
        for frame in examples.frames
    }


def write(path: Path, state: dict[str, Any], plan: dict[str, Any]) -> None:
    """Save what a training needs to be continued, with the plan that it follows."""
    import torch

    with whole_file(path) as partial:
        torch.save({**state, "plan": json.dumps(plan, sort_keys=True)}, partial)


def read(path: Path, plan: dict[str, Any]) -> dict[str, Any] | None:
    """Load a checkpoint, or return None where there is none.

    Raises
    ------
    SettingsError
        It is damaged, or was made by another plan; the differing parts are named.
    """
    import torch

    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        made_by = json.loads(state["plan"])
    except Exception as error:  # torch raises nearly anything on a damaged file
        raise SettingsError(
            f"{path} cannot be read ({error}); delete it to train from the beginning (--restart)."
        ) from error
    differing = _differences(made_by, plan)
    if differing:
        raise SettingsError(
            f"{path} belongs to another training: {'; '.join(differing)}. Choose another name or "
            "folder, or delete it to train from the beginning (--restart)."
        )
    return state


def _differences(made_by: dict[str, Any], plan: dict[str, Any]) -> list[str]:
    """Name every part of two plans that differs, and each number of the recipe."""
    found = []
    for key, now in plan.items():
        before = made_by.get(key)
        if isinstance(now, dict) and isinstance(before, dict):
            found += _differences(before, now)
        elif before != now:
            # Hashes say nothing to a person.
            is_hash = isinstance(now, str) or isinstance(before, str)
            found.append(f"{key} differs" if is_hash else f"{key} was {before}, is {now}")
    return found


def write_curve(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write the learning curve as JSON."""
    write_json(path, {"epochs": lines})


def write_weights(path: Path, net: Any) -> None:
    """Write a network's flat state dict, as Cellpose saves it."""
    with whole_file(path) as partial:
        net.save_model(str(partial))
