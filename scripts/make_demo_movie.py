#!/usr/bin/env python
"""Write a synthetic time-lapse of rod-shaped cyanobacteria (T x C) as ND2 and as ImageJ TIF."""

from __future__ import annotations

import sys
from pathlib import Path

import tifffile

from cypose_dask.learn import synthetic_movie

# The writer of small ND2 files belongs to the tests; the demo runs in the same checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.nd2_writer import write_nd2

FRAMES = 8
SEED = 2


def main(folder: Path) -> None:
    """Write ``movie.nd2`` and ``movie.tif`` unless they are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    nd2, tif = folder / "movie.nd2", folder / "movie.tif"
    if not (nd2.exists() and tif.exists()):
        movie = synthetic_movie(n_frames=FRAMES, shape=(192, 192), seed=SEED)
        write_nd2(
            nd2, movie.frames, axes="TCYX", channels=list(movie.channel_names),
            pixel_size_um=movie.pixel_size_um, period_ms=movie.interval_s * 1000,
        )  # fmt: skip
        _write_imagej(tif, movie)
    print(f"movie     {nd2}\nmovie     {tif}")


def _write_imagej(path: Path, movie: object) -> None:
    per_um = 1 / movie.pixel_size_um
    labels = [name for _ in movie.frames for name in movie.channel_names]
    tifffile.imwrite(
        path, movie.frames, imagej=True, resolution=(per_um, per_um),
        metadata={"axes": "TCYX", "unit": "um", "finterval": movie.interval_s, "Labels": labels},
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
