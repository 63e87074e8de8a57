"""numpy in, numpy out: normalise, network, dynamics, restoration, diameter. No dask, no files."""

from cypose_dask.engine.attempt import attempt
from cypose_dask.engine.device import choose_device, largest_gpu_bytes, usable_cores
from cypose_dask.engine.diameter import DiameterEstimate, estimate_diameter
from cypose_dask.engine.network import Networks, load_networks
from cypose_dask.engine.normalize import intensity_range
from cypose_dask.engine.segment import (
    SMALLEST_FRAME_PX,
    Made,
    Segmentation,
    segment_frame,
    segment_frames,
    segment_group,
)
from cypose_dask.engine.settle import resolve_settings, settle_engine, settle_numbers, tiles_of
from cypose_dask.engine.stats import FrameStats

__all__ = [
    "SMALLEST_FRAME_PX",
    "DiameterEstimate",
    "FrameStats",
    "Made",
    "Networks",
    "Segmentation",
    "attempt",
    "choose_device",
    "estimate_diameter",
    "intensity_range",
    "largest_gpu_bytes",
    "load_networks",
    "resolve_settings",
    "segment_frame",
    "segment_frames",
    "segment_group",
    "settle_engine",
    "settle_numbers",
    "tiles_of",
    "usable_cores",
]
