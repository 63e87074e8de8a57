"""Segment the frame that a viewer shows. Arrays in, labels out: no napari, no Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cypose_dask.engine import segment_frames
from cypose_dask.errors import MovieError, ResultError, SettingsError
from cypose_dask.likeness import Ran
from cypose_dask.results import Result
from cypose_dask.settings import Settings
from cypose_dask.viewer.lazy import LazyPlanes

__all__ = [
    "current_place",
    "read_frame",
    "segment_current",
    "settings_behind",
    "settings_of_run",
]

# A frame's data, (..., Y, X), and its indices on all axes but Y and X.
Shown = tuple[Any, tuple[int, ...]]


def current_place(shape: Sequence[int], point: Sequence[float]) -> tuple[int, ...]:
    """Return the indices of the frame that is shown, on all axes but Y and X.

    Parameters
    ----------
    shape : sequence of int
        Of the layer's data, (..., Y, X).
    point : sequence of float
        Where the viewer stands, px on every axis of the data. Outside, the nearest frame is taken.
    """
    leading = zip(point, shape[:-2], strict=False)
    return tuple(min(max(round(float(at)), 0), n - 1) for at, n in leading)


def read_frame(data: Any, place: tuple[int, ...]) -> np.ndarray:
    """Return the frame (Y, X) at a place of (..., Y, X).

    Raises
    ------
    MovieError
        If it is damaged: zeros, which a layer shows then, would be segmented as "no cells".
    """
    return data.plane(*place) if isinstance(data, LazyPlanes) else np.asarray(data[place])


def segment_current(shown: Sequence[Shown], settings: Settings) -> np.ndarray:
    """Return the labels of one frame, (1, ..., 1, Y, X) with the axes of its data, uint32.

    Parameters
    ----------
    shown : sequence of (array, tuple of int)
        Data and place of the channels for the inputs of the network, in their order.
    settings : Settings
        `channels`, unless ``"mean"``, `start_frame` and `end_frame` do not apply.

    Raises
    ------
    MovieError
        If the frame cannot be read or segmented, or the channels are not of one size.
    ModelError, DeviceError
        If the model cannot be used.
    """
    channels = [read_frame(data, place) for data, place in shown]
    shapes = {channel.shape for channel in channels}
    if len(shapes) != 1:
        raise MovieError(
            f"The two images have frames of {sorted(shapes)} px (Y, X); expected one size. Choose "
            "two channels of one movie."
        )
    labels = segment_frames(np.stack(channels)[np.newaxis], settings.model, settings).labels[0]
    return labels.reshape((1,) * len(shown[0][1]) + labels.shape)


def settings_of_run(result: Result) -> Settings | None:
    """Return what gives the labels of a result again, frame by frame; None if it does not say.

    What was measured on the whole movie is a number. What follows from the model alone is still
    a word, so that another model can be tried.
    """
    try:
        ran = Ran.of(result.attributes.get("plan"))
    except ResultError:
        return None
    asked, used = ran.requested, ran.settings
    return asked.replace(
        # The path means the same model wherever the viewer was started.
        model=ran.model["path"] if ran.model["kind"] == "file" else ran.model["name"],
        diameter=used.diameter if asked.diameter == "estimate" else asked.diameter,
        normalize=used.normalize,
        channels="mean" if asked.channels == "mean" else None,
        start_frame=0,
        end_frame=None,
    )


def settings_behind(metadata: Mapping[str, Any]) -> Settings:
    """Return the settings of the run whose movie a layer shows; the defaults if it was none."""
    try:
        return Settings(**metadata.get("settings", {}))
    except (TypeError, SettingsError):  # another plugin's layer, with settings of its own
        return Settings()
