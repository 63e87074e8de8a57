"""Measurements of the cells of one frame: arrays in, columns out."""

from __future__ import annotations

from cypose_dask.results.measuring.frame import column_names, measure_frame
from cypose_dask.results.measuring.intensity import background_of, measure_channel
from cypose_dask.results.measuring.midline import length_and_width
from cypose_dask.results.measuring.shape import measure_shapes

__all__ = [
    "background_of",
    "column_names",
    "length_and_width",
    "measure_channel",
    "measure_frame",
    "measure_shapes",
]
