"""A movie as OME-Zarr: for `convert`, not for results. One group a position, as in results."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.movies import MovieInfo
from cypose_dask.results.ngff import axis_metadata
from cypose_dask.results.writing import fsync_shard, require_whole_shard

__all__ = ["create_image", "write_frames"]

# One channel is grey; others are told apart where viewers lay one over the other.
_COLOURS = ("FFFFFF", "00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")


def create_image(path: Path, info: MovieInfo, frames_per_shard: int) -> None:
    """Make the groups and empty arrays of an OME-NGFF 0.5 store.

    Parameters
    ----------
    path : Path
        The folder; must not exist.
    info : MovieInfo
        Sizes, names and units are kept; arrays are (T, C, Z, Y, X), one chunk a plane.
    frames_per_shard : int
        T that one task writes at once.
    """
    import zarr
    from zarr.codecs import ZstdCodec

    ome = {"version": "0.5", "bioformats2raw.layout": 3}
    root = zarr.create_group(path, zarr_format=3, attributes={"ome": ome})
    t, z, c, y, x = (info.sizes[axis] for axis in "TZCYX")
    for position, name in enumerate(info.position_names):
        group = root.create_group(str(position), attributes={"ome": _metadata(info, name)})
        group.create_array(
            "0",
            shape=(t, c, z, y, x),
            chunks=(1, 1, 1, y, x),
            shards=(frames_per_shard, c, z, y, x),
            dtype=info.dtype,
            compressors=ZstdCodec(level=3),
            dimension_names=("t", "c", "z", "y", "x"),
        )


def write_frames(path: Path, place: tuple[int, int], frames: np.ndarray) -> None:
    """Write one whole shard: `frames` (t, Z, C, Y, X) of ``place = (position, first frame)``.

    Raises
    ------
    ResultError
        If `frames` are not exactly one shard of this store.
    """
    import zarr

    position, first = place
    array = zarr.open_group(path, mode="r+")[f"{position}/0"]
    frames = frames.swapaxes(1, 2)
    require_whole_shard(array, first, frames)
    array[first : first + len(frames)] = frames
    fsync_shard(array, path, first)


def _metadata(info: MovieInfo, name: str) -> dict[str, Any]:
    axes = axis_metadata("tczyx", info)
    scale = [info.interval_s or 1.0, 1.0, info.z_step_um or 1.0, *[info.pixel_size_um or 1.0] * 2]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    channels = [
        {"label": channel, "color": colour, "active": True, "window": _window(info.dtype)}
        for channel, colour in zip(info.channel_names, cycle(_COLOURS), strict=False)
    ]
    return {
        "version": "0.5",
        "multiscales": [{"name": name, "axes": axes, "datasets": [dataset]}],
        "omero": {"channels": channels},
    }


def _window(dtype: np.dtype[Any]) -> dict[str, float]:
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    low, high = (float(limits.min), float(limits.max)) if limits else (0.0, 1.0)
    return {"min": low, "max": high, "start": low, "end": high}
