"""Memory is bounded by the blocks in flight, not by the movie's length."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from helpers.nd2_writer import write_nd2

# Runs in its own process, whose workers are threads. Pages of the memory-mapped movie are not
# counted: the system takes them back whenever it likes.
PROGRAM = """
import sys, threading, time
import cypose_dask as cd
from cypose_dask.run import connect

def own_kilobytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

def watch():
    global peak
    while True:
        peak = max(peak, own_kilobytes())
        time.sleep(0.02)

peak = 0
threading.Thread(target=watch, daemon=True).start()
movie, store = sys.argv[1:]
with connect(processes=False, workers=2) as client:
    options = cd.RunOptions(frames_per_block=4)
    result = cd.segment(cd.open_movie(movie), store, cd.Settings(niter=5), client=client,
                        options=options)
cd.export_tif(result, store + ".tif")
assert result.labels().shape[0] == cd.open_movie(movie).info.sizes["T"]
print(peak)
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
