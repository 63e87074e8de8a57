"""Parts of one frame's work, in threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

__all__ = ["in_parts"]

# A thread that gets easy parts takes more of them.
_PARTS_PER_THREAD = 4


def in_parts(work: Callable[[int, int], None], costs: np.ndarray, threads: int) -> None:
    """Call ``work(start, stop)`` for consecutive ranges that together cover all items.

    Parameters
    ----------
    work : callable
        Must release the interpreter lock, and write only what belongs to its own items.
    costs : (n,) ndarray
        Expected cost of each item, in any unit; the ranges are about equally dear.
    threads : int
        With 1, or fewer items than threads, `work` is called once, in this thread.
    """
    if threads == 1 or costs.size < threads:
        work(0, costs.size)
        return
    done = np.cumsum(costs, dtype=np.float64)
    shares = np.linspace(0, done[-1], threads * _PARTS_PER_THREAD + 1)[1:-1]
    edges = [0, *np.searchsorted(done, shares), costs.size]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, edges[:-1], edges[1:]):
            pass  # an exception of a part is raised here
