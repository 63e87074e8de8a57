"""OME-Zarr of every version, written by hand so that our own writer is not its own judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from helpers.stamps import stored_as

__all__ = ["write_ome_zarr", "write_positions"]

TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
UNITS = {"T": "second", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"}
SCALES = {"T": 5.0, "C": 1.0, "Z": 0.3, "Y": 0.1, "X": 0.1}


def write_ome_zarr(
    path: Path, movie: npt.NDArray[Any], version: str, axes: str, **names: Any
) -> str:
    """Write one image (movie of one position) with its axes in this order.

    `names` are ``name`` of the image and ``channels``, names of the channels.
    """
    zarr_format = 3 if version == "0.5" else 2
    pixels = stored_as(movie, axes)
    group = zarr.create_group(path, zarr_format=zarr_format, overwrite=True)
    chunks = tuple(n if a in "YX" else 1 for a, n in zip(axes, pixels.shape, strict=True))
    array = group.create_array("0", shape=pixels.shape, chunks=chunks, dtype=pixels.dtype)
    array[...] = pixels
    attributes = _attributes(version, axes, **names)
    group.attrs.update({"ome": attributes} if version == "0.5" else attributes)
    return str(path)


def _attributes(
    version: str, axes: str, name: str | None = None, channels: list[str] | None = None
) -> dict[str, Any]:
    multiscale: dict[str, Any] = {"version": version, "datasets": [{"path": "0"}]}
    if version in ("0.4", "0.5"):
        multiscale["axes"] = [_axis(letter) for letter in axes]
        scale = [SCALES[letter] for letter in axes]
        multiscale["datasets"][0]["coordinateTransformations"] = [{"type": "scale", "scale": scale}]
    elif version == "0.3":
        multiscale["axes"] = list(axes.lower())
    if name:
        multiscale["name"] = name
    attributes: dict[str, Any] = {"multiscales": [multiscale], "version": version}
    if channels:
        attributes["omero"] = {"channels": [{"label": label} for label in channels]}
    return attributes


def _axis(letter: str) -> dict[str, str]:
    axis = {"name": letter.lower(), "type": TYPES[letter]}
    return axis | ({"unit": UNITS[letter]} if letter in UNITS else {})


def write_positions(
    path: Path, movie: npt.NDArray[Any], version: str, *, listed: bool, axes: str = "TCZYX"
) -> str:
    """Write a group a position, in the bioformats2raw layout; `listed` if OME/ names them."""
    zarr_format = 3 if version == "0.5" else 2
    root = zarr.create_group(path, zarr_format=zarr_format, overwrite=True)
    layout = {"bioformats2raw.layout": 3}
    root.attrs.update({"ome": {"version": version, **layout}} if version == "0.5" else layout)
    names = [str(p) for p in range(movie.shape[1])]
    if listed:
        names = [f"field{p}" for p in reversed(range(movie.shape[1]))]
        ome = root.create_group("OME")
        ome.attrs.update({"ome": {"series": names}} if version == "0.5" else {"series": names})
    for p, name in enumerate(names):
        write_ome_zarr(path / name, movie[:, p : p + 1], version, axes)
    return str(path)


def shuffled(shape: tuple[int, ...]) -> npt.NDArray[np.uint16]:
    """Return random pixels that do not compress to nothing."""
    return np.random.default_rng(0).integers(0, 2**16, shape).astype(np.uint16)
