"""cypose_dask as its users run it: `segment` on a cluster of this machine, and the command line."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cypose_dask import Settings, open_movie, segment
from cypose_dask.results.naming import journal_of
from cypose_dask.run.journal import Journal
from cypose_dask.run.record import BlockRecord
from cypose_dask.settings import RunOptions

COMMAND = str(Path(sys.executable).parent / "cypose-dask")


def movie_file(frames: np.ndarray, path: Path) -> Path:
    """Write frames (T, Y, X) as an ImageJ TIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TYX"})
    return path


def run(path: Path, client: Any, settings: Settings) -> list[np.ndarray]:
    """Segment a movie into a fresh zarr and read the labels back."""
    store = path.with_suffix(".zarr")
    result = segment(
        open_movie(path), store, settings, client=client, options=RunOptions(restart=True)
    )
    return list(np.asarray(result.labels())[:, 0])


def command_line(path: Path, folder: Path, **options: Any) -> list[np.ndarray]:
    """`cypose-dask segment`, from its start to its last file."""
    output = folder / "labels.tif"
    _segment(path, output, **options)
    return list(tifffile.imread(output))


def seconds_to_first_block(path: Path, folder: Path) -> float:
    """Return the time from the command to the moment its first block began, s."""
    output = folder / "started.tif"
    begun = time.time()
    _segment(path, output)
    return min(record.begun for record in _records(output.with_suffix(".zarr"))) - begun


def _segment(path: Path, output: Path, **options: Any) -> None:
    given = [f"--{name}={value}" for name, value in options.items()]
    command = [COMMAND, "segment", str(path), "-o", str(output), "--restart", *given]
    subprocess.run(command, check=True, capture_output=True)


def _records(store: Path) -> list[BlockRecord]:
    return list(Journal(journal_of(store)).read())


def stage_seconds(store: Path) -> dict[str, float]:
    """Return the mean seconds a frame of every stage, and of writing."""
    records = _records(store)
    frames = [frame for record in records for frame in record.frames]
    stages: dict[str, float] = {}
    for frame in frames:
        for stage, seconds in frame.seconds.items():
            stages[stage] = stages.get(stage, 0.0) + seconds / len(frames)
    stages["write"] = sum(record.write_s for record in records) / len(frames)
    return stages


def import_seconds(module: str) -> float:
    """Return how long a fresh process takes to import a module, s."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - begun
