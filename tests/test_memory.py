"""Memory is bounded by the blocks in flight, not by the movie's length."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from helpers.nd2_writer import write_nd2

# Runs in its own process, whose highest resident memory is the figure: workers are its threads.
PROGRAM = """
import resource, sys
from pathlib import Path
import cypose_dask as cd
from cypose_dask.run import connect

movie, store = sys.argv[1:]
with connect(processes=False, workers=2) as client:
    options = cd.RunOptions(frames_per_block=4, debug=False)
    result = cd.segment(cd.open_movie(movie), store, cd.Settings(niter=5), client=client,
                        options=options)
cd.export_tif(result, store + ".tif")
assert result.labels().shape[0] == cd.open_movie(movie).info.sizes["T"]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_kilobytes(frames, folder):
    rng = np.random.default_rng(0)
    movie = folder / f"{frames}.nd2"
    write_nd2(
        movie,
        (frames, 64, 64),
        axes="TYX",
        frames=lambda _: rng.integers(0, 60000, (64, 64, 1)).astype(np.uint16),
    )
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), movie, folder / f"{frames}.zarr"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout.split()[-1])


@pytest.mark.slow
def test_2000_frames_need_the_memory_of_200(tmp_path):
    short, long = (peak_kilobytes(frames, tmp_path) for frames in (200, 2000))
    print(f"peak {short / 1024:.0f} MB for 200 frames, {long / 1024:.0f} MB for 2,000")
    assert long < 1.15 * short
