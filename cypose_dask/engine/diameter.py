"""Estimate the cells' diameter once a movie, on sampled frames."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.engine.network import Network
from cypose_dask.engine.normalize import network_input, select_channels
from cypose_dask.errors import ModelError, SettingsError
from cypose_dask.models.builtin import size_model_file
from cypose_dask.models.pickled import read_pickled_npy
from cypose_dask.settings import Settings

__all__ = ["DiameterEstimate", "estimate_diameter"]

# Without a size model the first guess is the training diameter; a second pass corrects it.
_PASSES_WITHOUT_SIZE_MODEL = 2
_SMALLEST_PX = 5.0


@dataclass(frozen=True, slots=True)
class DiameterEstimate:
    """A movie's diameter and what it came from; all in px.

    Attributes
    ----------
    diameter : float
        Median over the frames that have cells.
    per_frame : tuple of float
        One a frame; NaN where no cell was found.
    method : str
        A sentence for the plan.
    """

    diameter: float
    per_frame: tuple[float, ...]
    method: str


def estimate_diameter(
    frames: Iterable[np.ndarray], network: Network, settings: Settings
) -> DiameterEstimate:
    """Measure the median cell diameter on some frames.

    Parameters
    ----------
    frames : iterable of (C, Y, X) ndarray
    network : Network
        The network that will segment. If it has a size model (Cellpose's own ``size_*.npy``, or
        ``<weights>_size.npy`` beside a file), that gives the first guess; else the model's
        training diameter does.
    settings : Settings
        Normalisation is used; thresholds are Cellpose's, as its `SizeModel` has them.

    Raises
    ------
    SettingsError
        If no frame shows a cell.

    Notes
    -----
    Source: cellpose 3.1.1.3 `models.SizeModel.eval` and `utils.diameters`. Cellpose estimates each
    frame for itself, which makes labels flicker along a movie; here the median is kept.
    """
    size_model = _load_size_model(network)
    measured = tuple(_measure(frame, network, (settings, size_model)) for frame in frames)
    if not np.isfinite(measured).any():
        raise SettingsError(
            f"No cell was found on the {len(measured)} sampled frames, so the diameter cannot be "
            "estimated. Give it in px with --diameter."
        )
    how = "its size model" if size_model else "no size model, its training diameter first"
    method = f"median of {len(measured)} frames by {network.spec.name} ({how})"
    return DiameterEstimate(float(np.nanmedian(measured)), measured, method)


def _measure(frame: np.ndarray, network: Network, how: tuple[Settings, Any]) -> float:
    settings, size_model = how
    frame = select_channels(frame, settings.channels == "mean")
    if frame[0].min() == frame[0].max():
        return float("nan")
    image = network_input(frame, network.spec.network_inputs, settings)
    if size_model:
        guess = _guess_from_style(image, network, size_model)
        return _median_diameter(image, network, size_model["diam_mean"] / guess)
    diameter = network.spec.diameter
    for _ in range(_PASSES_WITHOUT_SIZE_MODEL):
        found = _median_diameter(image, network, network.spec.diam_mean / diameter)
        if not np.isfinite(found):
            return found
        diameter = max(found, _SMALLEST_PX)
    return diameter


def _guess_from_style(image: np.ndarray, network: Network, size_model: dict[str, Any]) -> float:
    rescale = network.spec.diam_mean / network.spec.diameter
    _, style = network.forward([image], rescale)[0]
    log_size = size_model["A"] @ (style - size_model["smean"]).T
    size = np.exp(log_size + np.log(size_model["diam_mean"]) + size_model["ymean"])
    return float(np.maximum(_SMALLEST_PX, size).reshape(-1)[0])


def _median_diameter(image: np.ndarray, network: Network, rescale: float) -> float:
    import torch
    from cellpose import dynamics, utils

    output, _ = network.forward([image], rescale)[0]
    labels = dynamics.resize_and_compute_masks(
        output[..., :2].transpose(2, 0, 1),
        output[..., 2],
        niter=200,
        interp=False,
        resize=None if output.shape[:2] == image.shape[:2] else image.shape[:2],
        device=torch.device(network.device),
    )
    return float(utils.diameters(labels)[0]) if labels.any() else float("nan")


def _load_size_model(network: Network) -> dict[str, Any] | None:
    spec = network.spec
    file = size_model_file(spec.name) if spec.kind == "built-in" else None
    beside = Path(f"{spec.path}_size.npy")
    file = file or (beside if beside.is_file() else None)
    return read_size_model(file) if file else None


def read_size_model(path: Path) -> dict[str, Any]:
    """Read Cellpose's ``_size.npy`` without running code in it.

    Returns
    -------
    dict
        ``A`` (256,), ``smean`` (256,), ``diam_mean`` (px) and ``ymean``.

    Raises
    ------
    ModelError
        If the file holds anything but numbers and arrays in these four fields.
    """
    try:
        model = read_pickled_npy(path)
        return {key: np.asarray(model[key], np.float64) for key in ("A", "smean", "ymean")} | {
            "diam_mean": float(model["diam_mean"])
        }
    except (pickle.UnpicklingError, ValueError, LookupError, TypeError) as error:
        raise ModelError(
            f"{path}: not a size model of Cellpose ({error}). Expected a dictionary of A, smean, "
            "diam_mean and ymean; anything else in the file is refused."
        ) from error
