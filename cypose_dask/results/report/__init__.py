"""The report's page: numbers, labels and strings in, one HTML file's bytes out."""

from cypose_dask.results.report.content import Content, Shot
from cypose_dask.results.report.flags import Flag, Look, count_jumps, flags_of_numbers, looks
from cypose_dask.results.report.numbers import FrameNumbers
from cypose_dask.results.report.page import render
from cypose_dask.results.report.pictures import Picture, make_picture
from cypose_dask.results.report.sizes import CellSizes, SizeLimits, flags_of_sizes, measure_cells

__all__ = [
    "CellSizes",
    "Content",
    "Flag",
    "FrameNumbers",
    "Look",
    "Picture",
    "Shot",
    "SizeLimits",
    "count_jumps",
    "flags_of_numbers",
    "flags_of_sizes",
    "looks",
    "make_picture",
    "measure_cells",
    "render",
]
