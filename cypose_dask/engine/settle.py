"""Words of the settings become numbers and choices, once, before any frame is segmented."""

from __future__ import annotations

import numpy as np

from cypose_dask.engine.device import choose_device
from cypose_dask.engine.diameter import estimate_diameter
from cypose_dask.engine.network import Networks
from cypose_dask.engine.normalize import intensity_range, select_channels
from cypose_dask.engine.runtimes import choose_runtime
from cypose_dask.engine.tiles import resized_shape, tiling_of
from cypose_dask.errors import SettingsError
from cypose_dask.models import ModelSpec
from cypose_dask.settings import Settings

__all__ = ["resolve_settings", "settle_engine", "settle_numbers", "tiles_of"]


def settle_engine(settings: Settings, model: ModelSpec) -> tuple[str, Settings]:
    """Choose the device and what runs on it, for the machine that this is called on.

    Returns
    -------
    device : str
        ``"cpu"``, ``"cuda"`` or ``"mps"``.
    settings : Settings
        With `runtime` and `dynamics_device` settled.

    Raises
    ------
    DeviceError
        If a GPU is demanded and not there.
    ModelError, SettingsError
        If a runtime is demanded that is not installed, or that cannot run this model.
    """
    device = choose_device(settings.gpu)
    where = device if settings.dynamics_device == "auto" else settings.dynamics_device
    if where != "cpu" and where != device:
        raise SettingsError(
            f"dynamics_device is {where!r}, but the network runs on {device}. Leave it out, or "
            "choose cpu."
        )
    return device, settings.replace(
        runtime=_runtime(settings, model, device), dynamics_device=where
    )


def _runtime(settings: Settings, model: ModelSpec, device: str) -> str:
    if settings.engine == "reference":
        return "cellpose"
    if device == "cpu":
        return choose_runtime(model, settings.runtime)
    if settings.runtime not in ("auto", "torch"):
        raise SettingsError(
            f"runtime is {settings.runtime!r}, which computes on a CPU; a GPU needs torch. Leave "
            "out --runtime or --gpu."
        )
    return "torch"


def resolve_settings(settings: Settings, networks: Networks, frames: np.ndarray) -> Settings:
    """Turn words into numbers: the movie's percentiles, the diameter, the steps.

    Parameters
    ----------
    settings : Settings
    networks : Networks
        The networks that will run.
    frames : (N, C, Y, X) ndarray
        Frames to measure on; not looked at when the settings ask for nothing to be measured.

    Returns
    -------
    Settings
        With `diameter` and `niter` as numbers and `normalize` not ``"movie"``.
    """
    if settings.normalize == "movie":
        chosen = (select_channels(frame, settings.channels == "mean") for frame in frames)
        settings = settings.replace(normalize=intensity_range(chosen, settings.percentiles))
    if settings.diameter == "estimate":
        estimate = estimate_diameter(frames, networks.segmentation, settings)
        settings = settings.replace(diameter=estimate.diameter)
    return settle_numbers(settings, networks.segmentation.spec)


def settle_numbers(settings: Settings, model: ModelSpec) -> Settings:
    """Fill in what follows from the model alone: its own diameter, and Cellpose's steps.

    Source: cellpose 3.1.1.3 `models.CellposeModel.eval`, where `niter` is 200 / rescale.
    """
    diameter = model.diameter if settings.diameter == "model" else settings.diameter_px
    niter = settings.niter or 200 / (model.diam_mean / diameter)
    return settings.replace(diameter=diameter, niter=niter)


def tiles_of(shape: tuple[int, int], rescale: float) -> int:
    """Return how many tiles the network sees of a frame (Y, X) that is resized first."""
    return len(tiling_of(resized_shape(shape, rescale)))
