"""Names and units of a TIFF: OME-XML, ImageJ's and Micro-Manager's metadata. Best effort."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from cypose_dask.movies.units import micrometres, seconds, square_pixel

__all__ = ["read_metadata"]

logger = logging.getLogger(__name__)

METADATA_ERRORS = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, ElementTree.ParseError,
)  # fmt: skip


def read_metadata(file: Any, series: list[Any]) -> dict[str, Any]:
    """Return names and units of a TIFF under the names of `Description`; absent ones left out.

    A damaged entry is left out too: metadata never stops the reading of pixels.
    """
    readers: dict[str, Callable[[Any], dict[str, Any]]] = {
        "ome": _from_ome,
        "imagej": _from_imagej,
        "mmstack": _from_micromanager,
        "ndtiff": _from_micromanager,
    }
    reader = readers.get(str(series[0].kind))
    if reader is None:
        return {}
    try:
        found = reader(file)
    except METADATA_ERRORS:
        logger.debug("TIFF metadata could not be read", exc_info=True)
        return {}
    return {key: value for key, value in found.items() if value}


def _from_imagej(file: Any) -> dict[str, Any]:
    metadata = file.imagej_metadata or {}
    unit = str(metadata.get("unit", ""))
    tags = file.pages.first.tags
    x, y = (_pixel_from_resolution(tags, name, unit) for name in ("XResolution", "YResolution"))
    return {
        "pixel_size_um": square_pixel(x, y),
        "z_step_um": micrometres(metadata.get("spacing"), unit),
        "interval_s": seconds(metadata.get("finterval"), str(metadata.get("tunit", "s"))),
        "channel_names": _imagej_channels(metadata),
    }


def _imagej_channels(metadata: dict[str, Any]) -> tuple[str, ...]:
    """Return the slice labels where every slice of a channel has the same; else nothing.

    ImageJ has no channel names; slices run through C first, then Z, then T.
    """
    labels, channels = metadata.get("Labels", ()), int(metadata.get("channels", 1))
    of_channel = [set(labels[c::channels]) for c in range(channels)]
    if len(labels) != metadata.get("images") or any(len(names) != 1 for names in of_channel):
        return ()
    names = tuple(str(one.pop()) for one in of_channel)
    return names if all(names) and len(set(names)) == channels else ()


def _pixel_from_resolution(tags: Any, name: str, unit: str) -> float | None:
    """Micrometres a pixel from ImageJ's resolution tag, which counts pixels a unit."""
    if name not in tags:
        return None
    pixels, units = tags[name].value
    return micrometres(units / pixels, unit) if pixels and units else None


def _from_ome(file: Any) -> dict[str, Any]:
    images = [e for e in ElementTree.fromstring(file.ome_metadata) if _tag(e) == "Image"]
    pixels = next(e for e in images[0] if _tag(e) == "Pixels")
    x, y, z = (_ome_length(pixels, f"PhysicalSize{axis}") for axis in "XYZ")
    names = (image.get("Name") or str(i) for i, image in enumerate(images))
    return {
        "pixel_size_um": square_pixel(x, y),
        "z_step_um": z,
        "interval_s": seconds(pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s")),
        "channel_names": _ome_channels(pixels),
        "position_names": tuple(names) if len(images) > 1 else (),
    }


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _ome_length(pixels: ElementTree.Element, name: str) -> float | None:
    return micrometres(pixels.get(name), pixels.get(f"{name}Unit", "µm"))


def _ome_channels(pixels: ElementTree.Element) -> tuple[str, ...]:
    channels = [e for e in pixels if _tag(e) == "Channel"]
    return tuple(channel.get("Name") or str(i) for i, channel in enumerate(channels))


def _from_micromanager(file: Any) -> dict[str, Any]:
    summary = (file.micromanager_metadata or {}).get("Summary", {})
    return {
        "pixel_size_um": micrometres(summary.get("PixelSize_um"), "um"),
        "z_step_um": micrometres(summary.get("z-step_um"), "um"),
        "interval_s": seconds(summary.get("Interval_ms"), "ms"),
        "channel_names": tuple(str(name) for name in summary.get("ChNames", ())),
    }
