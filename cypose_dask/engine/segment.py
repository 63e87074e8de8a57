"""Frames in, labels out: the engine's one door."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cypose_dask.engine import fast, reference
from cypose_dask.engine.attempt import attempt
from cypose_dask.engine.network import Networks, load_networks
from cypose_dask.engine.normalize import check_finite, network_input, select_channels
from cypose_dask.engine.restore import restore_frame
from cypose_dask.engine.settle import resolve_settings, settle_engine
from cypose_dask.engine.stats import FrameStats, Timer, blank_stats, frame_stats
from cypose_dask.errors import MovieError
from cypose_dask.models import ModelSpec, resolve_model, resolve_restoration
from cypose_dask.settings import Settings

__all__ = ["Made", "Segmentation", "segment_frame", "segment_frames", "segment_group"]

# Cellpose fails on smaller frames with a TypeError from its resampling.
SMALLEST_FRAME_PX = 8


@dataclass(frozen=True, slots=True)
class Made:
    """One segmented frame.

    Attributes
    ----------
    labels : (Y, X) ndarray of uint32
        0 is background; cells are numbered from 1.
    flows : (2, Y, X) ndarray of float32
        (dy, dx), dimensionless, 5 x the unit flow.
    cellprob : (Y, X) ndarray of float32
        Logit.
    stats : FrameStats
    """

    labels: np.ndarray
    flows: np.ndarray
    cellprob: np.ndarray
    stats: FrameStats


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
    device, settings = settle_engine(settings, spec)
    networks = load_networks(spec, device, restoration, settings=settings)
    resolved = resolve_settings(settings, networks, frames)
    done = [segment_frame(frame, networks, resolved) for frame in frames]
    return _stack(done, frames.shape[2:])


def segment_frame(frame: np.ndarray, networks: Networks, settings: Settings) -> Made:
    """Segment one frame.

    Parameters
    ----------
    frame : (C, Y, X) ndarray
    networks : Networks
    settings : Settings
        Resolved by `resolve_settings`.

    Raises
    ------
    MovieError
        If the frame is smaller than 8 px, or a pixel is not a finite real number.
    """
    (made,) = segment_group([frame], networks, settings)
    if isinstance(made, Exception):
        raise made
    return made


def segment_group(
    frames: Sequence[np.ndarray], networks: Networks, settings: Settings
) -> list[Made | Exception]:
    """Segment frames of one shape together: their tiles share the network's batches.

    Parameters
    ----------
    frames : sequence of (C, Y, X) ndarray
    networks : Networks
    settings : Settings
        Resolved by `resolve_settings`.

    Returns
    -------
    list of Made or Exception
        One a frame; what went wrong with a frame stands in its place.

    Raises
    ------
    DeviceError
        If the device has no room for one tile.
    """
    ready: list[_Frame | Made | Exception]
    ready = [attempt(_prepare, frame, networks, settings) for frame in frames]
    group = [frame for frame in ready if isinstance(frame, _Frame)]
    done = iter(_segment(group, networks, settings) if group else ())
    return [next(done) if isinstance(one, _Frame) else one for one in ready]


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame that is ready for the network."""

    channel: np.ndarray
    image: np.ndarray
    timer: Timer


def _prepare(frame: np.ndarray, networks: Networks, settings: Settings) -> _Frame | Made:
    frame = select_channels(frame, settings.channels == "mean")
    _check_frame(frame)
    if all(channel.min() == channel.max() for channel in frame):
        return _blank(frame)
    timer = Timer()
    with timer("normalise"):
        if networks.restoration:
            frame = restore_frame(frame, networks.restoration, settings)
            # As in Cellpose, the restored frame is normalised again by its own percentiles.
            settings = settings.replace(normalize="frame", percentiles=(1.0, 99.0), invert=False)
        image = network_input(frame, networks.segmentation.spec.network_inputs, settings)
    return _Frame(frame[0], image, timer)


def _segment(
    group: list[_Frame], networks: Networks, settings: Settings
) -> Iterator[Made | Exception]:
    engine = reference if settings.engine == "reference" else fast
    network, timer = networks.segmentation, Timer()
    images = [frame.image for frame in group]
    predicted = engine.predict(network, images, settings, timer)
    with timer("dynamics"):
        found = engine.label(predicted, settings, network)
    for stage, seconds in timer.seconds.items():
        for frame in group:
            frame.timer.add(stage, seconds / len(group))
    for frame, flows, labels in zip(group, predicted, found, strict=True):
        yield labels if isinstance(labels, Exception) else _made(frame, flows, labels)


def _made(
    frame: _Frame, predicted: tuple[np.ndarray, np.ndarray], found: tuple[np.ndarray, np.ndarray]
) -> Made:
    (flows, cellprob), (labels, errors) = predicted, found
    stats = frame_stats(
        frame.channel, labels, cellprob=cellprob, errors=errors, seconds=frame.timer.seconds
    )
    return Made(labels, flows, cellprob, stats)


def _check_frame(frame: np.ndarray) -> None:
    if frame.dtype.kind not in "biuf":
        raise MovieError(f"Pixels are {frame.dtype}; expected integers, floats or booleans.")
    check_finite(frame)
    if min(frame.shape[1:]) < SMALLEST_FRAME_PX:
        raise MovieError(
            f"The frame is {frame.shape[1]} x {frame.shape[2]} px; Cellpose needs at least "
            f"{SMALLEST_FRAME_PX} x {SMALLEST_FRAME_PX}."
        )


def _blank(frame: np.ndarray) -> Made:
    # Cellpose would hand the raw, unnormalised constant to the network.
    shape = frame.shape[1:]
    flows, cellprob = np.zeros((2, *shape), np.float32), np.zeros(shape, np.float32)
    return Made(np.zeros(shape, np.uint32), flows, cellprob, blank_stats(frame[0]))


def _stack(done: list[Made], shape: tuple[int, ...]) -> Segmentation:
    labels = np.zeros((len(done), *shape), np.uint32)
    flows = np.zeros((len(done), 2, *shape), np.float32)
    cellprob = np.zeros((len(done), *shape), np.float32)
    for i, made in enumerate(done):
        labels[i], flows[i], cellprob[i] = made.labels, made.flows, made.cellprob
    return Segmentation(labels, flows, cellprob, tuple(made.stats for made in done))
