"""OME-NGFF 0.5 metadata: axes, units and scales."""

from __future__ import annotations

from typing import Any, Protocol

from cypose_dask.results.layout import Layout

__all__ = ["axis_metadata", "label_metadata"]


def label_metadata(layout: Layout) -> dict[str, Any]:
    """Return metadata of a label image: (t, z, y, x) with scale where it is known."""
    pixel = layout.pixel_size_um
    scale = [layout.interval_s or 1.0, layout.z_step_um or 1.0, pixel or 1.0, pixel or 1.0]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    return {
        "version": "0.5",
        "image-label": {},
        "multiscales": [
            {"name": "cells", "axes": axis_metadata("tzyx", layout), "datasets": [dataset]}
        ],
    }


class Scaled(Protocol):
    """Anything that knows the scale of its axes."""

    @property
    def pixel_size_um(self) -> float | None:
        """Size of a pixel along Y and X."""

    @property
    def z_step_um(self) -> float | None:
        """Distance of planes."""

    @property
    def interval_s(self) -> float | None:
        """Time between frames."""


def axis_metadata(letters: str, scale: Scaled) -> list[dict[str, str]]:
    """Return OME-NGFF axes for some of ``tczyx``, with a unit where the scale is known."""
    kinds = {"t": "time", "c": "channel"}
    known = {"t": scale.interval_s, "z": scale.z_step_um}
    units = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
    return [
        {"name": a, "type": kinds.get(a, "space")}
        | ({"unit": units[a]} if a in units and known.get(a, scale.pixel_size_um) else {})
        for a in letters
    ]
