"""Frames to measure on: growing colonies of synthetic rods, kept on disk between calls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cypose_dask.learn import synthetic_movie

SEED, PIXEL_UM, GROWTH_FRAMES = 991_000, 0.13, 20
# Cells multiply about 9 times in 20 frames.
GROWTH = 9


@dataclass(frozen=True)
class Workload:
    """Frames (T, Y, X) uint16 of one size, and how many cells each has."""

    name: str
    frames: np.ndarray
    cells: int

    def repeated(self, n: int) -> np.ndarray:
        """Return n frames, the same ones again where there are fewer."""
        return self.frames[np.arange(n) % len(self.frames)]


SIZES = {512: 200, 1024: 600, 2048: 1500}


def workload(side_px: int, folder: Path, *, frames: int = 4) -> Workload:
    """Return the last frames of a colony that has grown to about `SIZES[side_px]` cells."""
    path = folder / f"frames-{side_px}.npz"
    if not path.exists():
        _make(side_px, frames, path)
    kept = np.load(path)
    return Workload(f"{side_px} px", kept["frames"], int(np.median(kept["cells"])))


def _make(side_px: int, frames: int, path: Path) -> None:
    movie = synthetic_movie(
        n_frames=GROWTH_FRAMES, shape=(side_px, side_px), seed=SEED, look="phase",
        pixel_size_um=PIXEL_UM, start_cells=max(1, SIZES[side_px] // GROWTH),
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    last = slice(-frames, None)
    cells = [int(labels.max()) for labels in movie.labels[last]]
    np.savez(path, frames=movie.frames[last, 0], cells=cells)
