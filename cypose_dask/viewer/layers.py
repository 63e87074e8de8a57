"""Layers as napari takes them: data, how it is shown, and the kind of the layer."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.movies import Movie, MovieInfo
from cypose_dask.results import Result, Status
from cypose_dask.results.ngff import Scaled
from cypose_dask.settings import Settings
from cypose_dask.viewer.lazy import ExportedPlanes, ImagePlanes, LabelPlanes, LazyPlanes, OneWarning

__all__ = ["exported_labels", "image_layers", "labels_layer", "tracks_layer"]

LayerData = tuple[Any, dict[str, Any], str]
_AXES = ("t", "p", "z", "y", "x")
# The colours that an exported OME-Zarr has, by napari's names.
_COLOURS = ("gray", "green", "magenta", "cyan", "yellow", "red", "blue")
# Percentiles of a frame that are shown as black and white; a few hot pixels are left out.
_SHOWN = (0.1, 99.9)


def image_layers(movie: Movie, scale: Scaled, settings: Settings | None = None) -> list[LayerData]:
    """Return an image layer a channel, (T, P, Z, Y, X), read plane by plane.

    Parameters
    ----------
    movie : Movie
    scale : MovieInfo or Layout
        Where sizes of pixels, planes and intervals are taken from.
    settings : Settings or None
        Of the run whose movie this is; they are kept in the metadata of every layer.
    """
    known = {"settings": settings.to_dict()} if settings else {}
    # One for all channels: a frame that is damaged lacks all of them.
    warn = OneWarning()
    stem = Path(movie.info.path).stem
    layers: list[LayerData] = []
    for c, (name, colour) in enumerate(
        zip(movie.info.channel_names, cycle(_COLOURS), strict=False)
    ):
        planes = ImagePlanes(movie.with_channels([c]), warn)
        about = {
            # A channel without a name is called by its number, which says nothing in a viewer.
            "name": f"{stem} {name}" if name.isdigit() else name,
            "colormap": colour,
            "blending": "additive",
            "metadata": {"positions": list(movie.info.position_names), **known},
            **_limits(planes),
            **_world(scale),
        }
        layers.append((planes, about, "image"))
    return layers


def labels_layer(result: Result) -> LayerData:
    """Return the layer of a result's labels, (T, P, Z, Y, X), read plane by plane.

    Its metadata hold the `Status` of every frame as (T, P, Z).
    """
    return _of_result(result, LabelPlanes(result), "cells")


def tracks_layer(result: Result) -> LayerData:
    """Return the same, each cell with the number of its track, so that it keeps its colour.

    Raises
    ------
    ResultError
        If the cells were not linked, or the tracks are of other labels.
    """
    return _of_result(result, LabelPlanes(result, "track"), "tracks")


def _of_result(result: Result, planes: LabelPlanes, name: str) -> LayerData:
    data, about, kind = _labels(planes, name, result.layout)
    # The image shows the whole movie, the labels begin with the first selected frame.
    about["translate"] = (result.start_frame * about["scale"][0], 0.0, 0.0, 0.0, 0.0)
    about["metadata"] = {
        "status": planes.status,
        "status_means": {int(s): s.name.lower() for s in Status},
        "positions": list(result.layout.position_names),
    }
    return data, about, kind


def exported_labels(store: Path, info: MovieInfo) -> LayerData:
    """Return the layer of the labels that lie beside the images of an exported OME-Zarr.

    Raises
    ------
    ResultError
        If they are not there, or not of the shape of the images.
    """
    return _labels(ExportedPlanes(store, info), "cells", info)


def _labels(planes: LazyPlanes, name: str, scale: Scaled) -> LayerData:
    return planes, {"name": name, **_world(scale)}, "labels"


def _world(known: Scaled) -> dict[str, Any]:
    """Return scale, units and names of the axes; steps of 1 px where a scale is unknown."""
    pixel, interval, step = known.pixel_size_um, known.interval_s, known.z_step_um
    sizes = (interval, None, step, pixel, pixel)
    units = ("second", "pixel", "micrometer", "micrometer", "micrometer")
    return {
        "scale": tuple(float(size or 1.0) for size in sizes),
        "units": tuple(u if size else "pixel" for u, size in zip(units, sizes, strict=True)),
        "axis_labels": _AXES,
    }


def _limits(planes: LazyPlanes) -> dict[str, tuple[float, float]]:
    """Return what is shown as black and white, by the first frame.

    napari would read a small movie whole, and 12 bits of 16 look black.
    """
    first = planes[0, 0, 0].astype(np.float64)
    finite = first[np.isfinite(first)]
    low, high = np.percentile(finite, _SHOWN) if finite.size else (0.0, 0.0)
    return {"contrast_limits": (float(low), float(high))} if low < high else {}
