"""numpy in, numpy out: normalise, network, dynamics, restoration, diameter. No dask, no files."""

from cypose_dask.engine.device import choose_device
from cypose_dask.engine.diameter import DiameterEstimate, estimate_diameter
from cypose_dask.engine.network import Networks, load_networks
from cypose_dask.engine.normalize import intensity_range
from cypose_dask.engine.segment import (
    SMALLEST_FRAME_PX,
    FrameStats,
    Segmentation,
    resolve_settings,
    segment_frame,
    segment_frames,
    settle_numbers,
)

__all__ = [
    "SMALLEST_FRAME_PX",
    "DiameterEstimate",
    "FrameStats",
    "Networks",
    "Segmentation",
    "choose_device",
    "estimate_diameter",
    "intensity_range",
    "load_networks",
    "resolve_settings",
    "segment_frame",
    "segment_frames",
    "settle_numbers",
]
