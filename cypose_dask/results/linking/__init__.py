"""Linking the cells of frames into tracks: labels of frames in, tracks and lineages out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cypose_dask.results.linking.cells import LinkedCells
from cypose_dask.results.linking.lineages import growth_curves, track_table
from cypose_dask.results.linking.linker import link_by_overlap
from cypose_dask.results.linking.on_laptrack import link_by_laptrack
from cypose_dask.results.linking.overlaps import FrameOverlaps, frame_overlaps

__all__ = [
    "LINKERS",
    "FrameOverlaps",
    "LinkedCells",
    "frame_overlaps",
    "growth_curves",
    "link_by_laptrack",
    "link_by_overlap",
    "track_table",
]

# Each takes the frames of a position and for how many of them a cell may be lost.
LINKERS: dict[str, Callable[[Iterable[FrameOverlaps], int], LinkedCells]] = {
    "overlap": link_by_overlap,
    "laptrack": link_by_laptrack,
}
