"""One network from several of the same training: the equal mean of their weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cypose_dask.errors import ModelError
from cypose_dask.results.atomic import whole_file

__all__ = ["average_weights"]


def average_weights(paths: Sequence[str | Path], target: str | Path) -> Path:
    """Write the equal mean of several weights files, as float32.

    For checkpoints of one training, or of trainings that began with the same weights; the mean of
    networks that were trained apart is no network. Running statistics are averaged as all other
    numbers are; integers are those of the first file. All files are in memory at once.

    Parameters
    ----------
    paths : sequence of path
        Flat state dicts of float32 or float16, as Cellpose and `bundle_model` save them.
    target : path
        Where the mean goes; it appears whole or not at all.

    Returns
    -------
    pathlib.Path
        `target`.

    Raises
    ------
    ModelError
        There is no file, one cannot be read, or they differ in a key, a shape or the diameter
        that cells are scaled to (``diam_mean``).

    Notes
    -----
    Source: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better
    Generalization", arXiv:1803.05407. Running statistics are averaged instead of measured again on
    training data, which is exact only where they hardly differ.
    """
    import torch

    if not paths:
        raise ModelError("There are no weights to average; expected one file or more.")
    states = [_read(Path(path)) for path in paths]
    for path, state in zip(paths[1:], states[1:], strict=True):
        _check_alike((paths[0], states[0]), (path, state))
    mean = {key: _mean([state[key] for state in states]) for key in states[0]}
    with whole_file(Path(target)) as partial:
        torch.save(mean, partial)
    return Path(target)


def _read(path: Path) -> dict[str, Any]:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly anything on a damaged file
        raise ModelError(f"{path} cannot be read as weights ({error}).") from error
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise ModelError(f"{path} holds no flat state dict; expected weights as Cellpose saves.")
    return state


def _check_alike(first: tuple[str | Path, Any], other: tuple[str | Path, Any]) -> None:
    (path, state), (other_path, other_state) = first, other
    between = f"{other_path} and {path} cannot be averaged"
    alone = sorted(state.keys() ^ other_state.keys())
    if alone:
        raise ModelError(f"{between}: only one of them has {', '.join(alone[:3])}.")
    for key, value in state.items():
        shapes = tuple(other_state[key].shape), tuple(value.shape)
        if shapes[0] != shapes[1]:
            raise ModelError(f"{between}: the shapes of {key} are {shapes[0]} and {shapes[1]}.")
    diameters = [float(one["diam_mean"]) for one in (other_state, state) if "diam_mean" in one]
    if diameters and not math.isclose(*diameters):
        raise ModelError(
            f"{between}: they scale cells to {diameters[0]:g} and {diameters[1]:g} px (diam_mean)."
        )


def _mean(values: Sequence[Any]) -> Any:
    import torch

    if not values[0].is_floating_point():
        return values[0]
    # The sum in double precision, so that the order of the files does not matter.
    return (sum(value.double() for value in values) / len(values)).to(torch.float32)
