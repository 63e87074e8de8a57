"""What the processor itself can do: products of matrices, on one core and on several at once."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from typing import Any

SIDE, REPEATS, WARM_UP = 2048, 12, 2


def gemm_rate(_: int = 0) -> float:
    """Return GFLOP/s of float32 products of 2048 x 2048 matrices on one thread."""
    import torch

    torch.set_num_threads(1)
    a = torch.rand(SIDE, SIDE)
    seconds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - begun)
    return 2 * SIDE**3 / statistics.median(seconds[WARM_UP:]) / 1e9


def processes(count: int) -> Any:
    """Return a pool of processes that have imported torch."""
    pool = multiprocessing.get_context("spawn").Pool(count)
    rates_at_once(pool, count)
    return pool


def rates_at_once(pool: Any, count: int) -> list[float]:
    """Return the rates of so many processes that compute at the same time, GFLOP/s each."""
    return list(pool.map(gemm_rate, range(count), chunksize=1))
