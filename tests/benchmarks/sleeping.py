"""A cluster whose blocks sleep: all of a run but the pixels, on more workers than there are cores.

python -m benchmarks.sleeping ADDRESS WORKERS      # workers of one thread, in one process
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from distributed import Worker, get_worker

from cypose_dask.movies import LazyFrames
from cypose_dask.results import Status
from cypose_dask.run import stream
from cypose_dask.run.plan import Block
from cypose_dask.run.record import BlockRecord, FrameRecord
from cypose_dask.run.worker import BlockTask

# Blocks take times of their own, as those of a colony that grows do.
SPREAD = 0.2
STAGES = ("read", "normalise", "tile", "forward", "average", "dynamics")


@contextmanager
def blocks_that_sleep(seconds: float) -> Iterator[None]:
    """Let every block that this process sends sleep for so long on average."""
    real = stream.segment_block
    stream.segment_block = partial(sleeping_block, seconds=seconds)
    try:
        yield
    finally:
        stream.segment_block = real


def sleeping_block(frames: LazyFrames, task: BlockTask, *, seconds: float) -> np.ndarray:
    """Return what `segment_block` would, after a while, and without a file.

    Parameters
    ----------
    frames : LazyFrames
        (t, 1, Z, C, Y, X), unread.
    task : BlockTask
    seconds : float
        How long blocks take on average, s.

    Returns
    -------
    (1, 1, 1, 1, 1, 1) ndarray of object
        The `BlockRecord`.
    """
    begun, napped = time.time(), nap_s(frames.start, seconds)
    time.sleep(napped)
    block = Block(frames.position, frames.start, frames.start + len(frames))
    record = BlockRecord(
        block=block,
        frames=tuple(_frame(t, napped / len(frames)) for t in range(block.start, block.stop)),
        checksum="0" * 32,
        worker=get_worker().address,
        begun=begun,
        seconds=napped,
        write_s=napped / 100,
    )
    box = np.empty((1,) * 6, dtype=object)
    box[...] = record
    return box


def nap_s(start: int, seconds: float) -> float:
    """Return how long the block that begins at a frame sleeps, s."""
    return seconds * random.Random(start).uniform(1 - SPREAD, 1 + SPREAD)


def _frame(t: int, seconds: float) -> FrameRecord:
    """Return a record with as many digits as a real one has."""
    share = random.Random(t).random()
    return FrameRecord(
        t=t, z=0, status=Status.DONE, cells=300, covered_area=share, mean_cellprob=-share,
        flow_error=share / 7, focus=share * 900,
        seconds=dict.fromkeys(STAGES, share * seconds),
    )  # fmt: skip


async def _serve(address: str, count: int) -> None:
    options: dict[str, Any] = {"nthreads": 1, "host": "127.0.0.1", "memory_limit": 0}
    dashboard = {"dashboard": False, "dashboard_address": None}
    workers = [Worker(address, name=i, **options, **dashboard) for i in range(count)]
    await asyncio.gather(*workers)
    await asyncio.gather(*(worker.finished() for worker in workers))


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
