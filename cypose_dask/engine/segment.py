"""Frames in, labels out: the engine's one door."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.engine.device import choose_device
from cypose_dask.engine.diameter import estimate_diameter
from cypose_dask.engine.network import Networks, load_networks
from cypose_dask.engine.normalize import (
    check_finite,
    intensity_range,
    network_input,
    select_channels,
)
from cypose_dask.engine.reference import follow_and_label, predict
from cypose_dask.engine.restore import restore_frame
from cypose_dask.errors import MovieError
from cypose_dask.models import ModelSpec, resolve_model, resolve_restoration
from cypose_dask.settings import Settings

__all__ = [
    "FrameStats",
    "Segmentation",
    "resolve_settings",
    "segment_frame",
    "segment_frames",
    "settle_numbers",
]

# Cellpose fails on smaller frames with a TypeError from its resampling.
SMALLEST_FRAME_PX = 8
# A frame counts as saturated when this share of its pixels stands at the largest value.
_SATURATED_SHARE = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameStats:
    """What is known about one segmented frame.

    Attributes
    ----------
    cells : int
    covered_area : float
        Share of the frame's pixels inside cells, 0 to 1.
    mean_cellprob : float or None
        Mean logit inside cells; None without cells.
    flow_error : float or None
        Median over all cells before the flow check, dimensionless; None when it was off.
    focus : float
        Variance of the Laplacian over the variance of the first channel, dimensionless.
    blank, saturated : bool
        One intensity only; more than 1 % of the pixels at the dtype's largest value.
    seconds : dict of str to float
        Time a stage, s.
    """

    cells: int
    covered_area: float
    mean_cellprob: float | None
    flow_error: float | None
    focus: float
    blank: bool
    saturated: bool
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Labels of some frames, with what they were made from.

    Attributes
    ----------
    labels : (N, Y, X) ndarray of uint32
        0 is background; cells are numbered per frame from 1.
    flows : (N, 2, Y, X) ndarray of float32
        (dy, dx), dimensionless, 5 x the unit flow.
    cellprob : (N, Y, X) ndarray of float32
        Logit.
    stats : tuple of FrameStats
    """

    labels: np.ndarray
    flows: np.ndarray
    cellprob: np.ndarray
    stats: tuple[FrameStats, ...]


def segment_frames(
    frames: np.ndarray, model: ModelSpec | str | Path = "default", settings: Settings | None = None
) -> Segmentation:
    """Segment frames that are in memory, in this process.

    Parameters
    ----------
    frames : (N, C, Y, X) ndarray
        C channels in the order of the network's inputs; missing inputs stay zero.
    model : ModelSpec, str or Path
        A resolved model, or what `resolve_model` takes. Wins over ``settings.model``.
    settings : Settings
        ``diameter="estimate"`` and ``normalize="movie"`` look at these frames. `channels`,
        `start_frame` and `end_frame` do not apply.

    Returns
    -------
    Segmentation
        Labels are those of `cellpose.models.CellposeModel.eval` (3.1.1.3) on the same device,
        but for frames of one single intensity, which have no cells here.

    Raises
    ------
    MovieError
        If a frame is smaller than 8 px, or a pixel is not finite.
    ModelError, DeviceError
        If the model cannot be used, or a GPU is asked for and not there.

    Examples
    --------
    >>> import numpy as np
    >>> segment_frames(np.zeros((2, 1, 32, 32), np.uint16)).labels.shape
    (2, 32, 32)
    """
    settings = settings or Settings()
    frames = np.asarray(frames)
    if frames.ndim != 4:
        raise MovieError(
            f"frames has {frames.ndim} axes {frames.shape}; expected four, (N, C, Y, X). One frame "
            "is frames[np.newaxis, np.newaxis]."
        )
    spec = model if isinstance(model, ModelSpec) else resolve_model(model)
    restoration = resolve_restoration(settings.denoise) if settings.denoise else None
    networks = load_networks(spec, choose_device(settings.gpu), restoration)
    resolved = resolve_settings(settings, networks, frames)
    done = [segment_frame(frame, networks, resolved) for frame in frames]
    return _stack(done, frames.shape[2:])


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


def segment_frame(
    frame: np.ndarray, networks: Networks, settings: Settings
) -> tuple[np.ndarray, np.ndarray, np.ndarray, FrameStats]:
    """Segment one frame.

    Parameters
    ----------
    frame : (C, Y, X) ndarray
    networks : Networks
    settings : Settings
        Resolved by `resolve_settings`.

    Returns
    -------
    labels : (Y, X) ndarray of uint32
    flows : (2, Y, X) ndarray of float32
    cellprob : (Y, X) ndarray of float32
    stats : FrameStats

    Raises
    ------
    MovieError
        If the frame is smaller than 8 px, or a pixel is not a finite real number.
    """
    frame = select_channels(frame, settings.channels == "mean")
    _check_frame(frame)
    if all(channel.min() == channel.max() for channel in frame):
        return _blank(frame)
    timer = _Timer()
    with timer("normalise"):
        if networks.restoration:
            frame = restore_frame(frame, networks.restoration, settings)
            # As in Cellpose, the restored frame is normalised again by its own percentiles.
            settings = settings.replace(normalize="frame", percentiles=(1.0, 99.0), invert=False)
        spec = networks.segmentation.spec
        image = network_input(frame, spec.network_inputs, settings)
    with timer("network"):
        flows, cellprob, _ = predict(networks.segmentation, image, settings.diameter_px)
    with timer("dynamics"):
        device = networks.segmentation.device
        labels, errors = follow_and_label(flows, cellprob, settings, device)
    return labels, flows, cellprob, _stats(frame, labels, (cellprob, errors, timer.seconds))


class _Timer:
    """Seconds of named stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - begun


def _check_frame(frame: np.ndarray) -> None:
    if frame.dtype.kind not in "biuf":
        raise MovieError(f"Pixels are {frame.dtype}; expected integers, floats or booleans.")
    check_finite(frame)
    if min(frame.shape[1:]) < SMALLEST_FRAME_PX:
        raise MovieError(
            f"The frame is {frame.shape[1]} x {frame.shape[2]} px; Cellpose needs at least "
            f"{SMALLEST_FRAME_PX} x {SMALLEST_FRAME_PX}."
        )


def _blank(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, FrameStats]:
    # Cellpose would hand the raw, unnormalised constant to the network.
    shape = frame.shape[1:]
    stats = FrameStats(
        cells=0, covered_area=0.0, mean_cellprob=None, flow_error=None, focus=0.0,
        blank=True, saturated=_is_saturated(frame[0]),
    )  # fmt: skip
    flows = np.zeros((2, *shape), np.float32)
    return np.zeros(shape, np.uint32), flows, np.zeros(shape, np.float32), stats


def _stats(frame: np.ndarray, labels: np.ndarray, made_of: tuple[Any, ...]) -> FrameStats:
    cellprob, errors, seconds = made_of
    cells = labels > 0
    return FrameStats(
        cells=int(labels.max()),
        covered_area=float(cells.mean()),
        mean_cellprob=float(cellprob[cells].mean()) if cells.any() else None,
        flow_error=float(np.median(errors)) if len(errors) else None,
        focus=_focus(frame[0]),
        blank=False,
        saturated=_is_saturated(frame[0]),
        seconds=seconds,
    )


def _focus(channel: np.ndarray) -> float:
    from scipy.ndimage import laplace

    sharp = channel.astype(np.float32)
    return float(laplace(sharp).var() / max(float(sharp.var()), 1e-12))


def _is_saturated(channel: np.ndarray) -> bool:
    if channel.dtype.kind not in "iu":
        return False
    return bool((channel == np.iinfo(channel.dtype).max).mean() > _SATURATED_SHARE)


def _stack(done: list[tuple[Any, ...]], shape: tuple[int, ...]) -> Segmentation:
    labels = np.zeros((len(done), *shape), np.uint32)
    flows = np.zeros((len(done), 2, *shape), np.float32)
    cellprob = np.zeros((len(done), *shape), np.float32)
    for i, made in enumerate(done):
        labels[i], flows[i], cellprob[i] = made[:3]
    return Segmentation(labels, flows, cellprob, tuple(made[3] for made in done))
