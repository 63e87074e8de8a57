"""Results for other programs: napari, the Cellpose GUI, TrackMate, tracking challenges, CyAn."""

from cypose_dask.results.handoff.choice import frames_without_labels
from cypose_dask.results.handoff.ctc import export_ctc
from cypose_dask.results.handoff.cyan import export_cyan
from cypose_dask.results.handoff.hyperstack import export_trackmate
from cypose_dask.results.handoff.ome_zarr import export_ome_zarr
from cypose_dask.results.handoff.seg_npy import export_seg_npy
from cypose_dask.results.handoff.tracks import Track, Tracks

__all__ = [
    "Track",
    "Tracks",
    "export_ctc",
    "export_cyan",
    "export_ome_zarr",
    "export_seg_npy",
    "export_trackmate",
    "frames_without_labels",
]
