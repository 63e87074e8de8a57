"""The result zarr, and everything that is made from it: TIFs, previews, the run's record."""

from cypose_dask.results.animation import save_animation
from cypose_dask.results.handoff import (
    Track,
    Tracks,
    export_ctc,
    export_cyan,
    export_ome_zarr,
    export_seg_npy,
    export_trackmate,
)
from cypose_dask.results.naming import OutputNames, is_own_output, output_names, tif_name
from cypose_dask.results.preview import save_preview
from cypose_dask.results.store import Layout, Result, Status, open_result
from cypose_dask.results.tif import export_debug_tifs, export_tif
from cypose_dask.results.writing import create_result

__all__ = [
    "Layout",
    "OutputNames",
    "Result",
    "Status",
    "Track",
    "Tracks",
    "create_result",
    "export_ctc",
    "export_cyan",
    "export_debug_tifs",
    "export_ome_zarr",
    "export_seg_npy",
    "export_tif",
    "export_trackmate",
    "is_own_output",
    "open_result",
    "output_names",
    "save_animation",
    "save_preview",
    "tif_name",
]
