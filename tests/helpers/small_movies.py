"""Long movies of small frames, whose labels are known after a few of them were segmented."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from helpers.nd2_writer import write_nd2

__all__ = ["SIDE_PX", "serial_labels", "write_small_movie"]

SIDE_PX = 32
# Prime, so that no length of a block and no number of workers falls into step with the repeats.
N_DISTINCT = 53


@cache
def distinct_frames() -> np.ndarray:
    """Frames (T, C, Y, X), uint16, each with cells and unlike any other."""
    from cypose_dask.learn import synthetic_movie

    made = synthetic_movie(n_frames=7, shape=(SIDE_PX, SIDE_PX), seed=3, start_cells=2).frames
    moved = [np.roll(made[i % 7, :1], (i // 7, 3 * (i // 7)), (1, 2)) for i in range(N_DISTINCT)]
    assert len({frame.tobytes() for frame in moved}) == N_DISTINCT
    return np.stack(moved)


def write_small_movie(path: Path, n_frames: int) -> Path:
    """Write a movie (T, Y, X) that repeats the distinct frames in their order."""
    frames = distinct_frames()
    write_nd2(
        path,
        (n_frames, SIDE_PX, SIDE_PX),
        axes="TYX",
        frames=lambda t: frames[t % N_DISTINCT].transpose(1, 2, 0),
    )
    return path


@cache
def serial_labels() -> np.ndarray:
    """Labels (T, Y, X) of the distinct frames, segmented here, without Dask, workers or files."""
    from cypose_dask.engine import segment_frames

    labels = segment_frames(distinct_frames()).labels
    assert labels.any(axis=(1, 2)).all(), "a frame without cells writes no shard, and proves less"
    return labels


def labels_of_movie(n_frames: int) -> np.ndarray:
    """Labels (T, Y, X) that a whole run must give."""
    return serial_labels()[np.arange(n_frames) % N_DISTINCT]
