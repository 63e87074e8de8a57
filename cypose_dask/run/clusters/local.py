"""Workers of this machine, which share its cores and its memory."""

from __future__ import annotations

import logging
import math
from typing import Any

from cypose_dask.engine import usable_cores
from cypose_dask.run.clusters.own import (
    GPU_THREADS,
    MOST_THREADS,
    PRELOAD,
    THREAD_BYTES,
    thread_variables,
)
from cypose_dask.run.memory import memory_here

__all__ = ["layout", "local_options"]


def local_options(workers: int | None, *, gpu: bool, processes: bool) -> dict[str, Any]:
    """Return what ``LocalCluster`` is told; the parameters are those of `connect`."""
    n_workers, threads, cores = layout(workers, gpu=gpu, processes=processes)
    options = {
        "n_workers": n_workers,
        "threads_per_worker": threads,
        "processes": processes,
        "silence_logs": logging.ERROR,
        # Without these two, status pages are served to the whole network.
        "dashboard_address": "127.0.0.1:0",
        "worker_dashboard_address": "127.0.0.1:0",
        "memory_limit": 0,  # a block is bounded by the plan; nothing is stored that could spill
    }
    if not processes:  # threads of one process talk without sockets, so there is nothing to encrypt
        return {**options, "protocol": "inproc://"}
    environment = thread_variables(cores)
    return {**options, "host": "127.0.0.1", "env": environment, "preload": PRELOAD}


def layout(workers: int | None, *, gpu: bool, processes: bool) -> tuple[int, int, int]:
    """Return processes, blocks at once in each, and cores of each.

    On a CPU every core follows a block of its own: a network on one thread wastes nothing on
    waiting for its neighbours. Where a block may use several cores (fewer blocks fit into
    memory than there are cores), the network and the dynamics do.
    """
    cores = usable_cores()
    if gpu:
        return workers or 1, GPU_THREADS, max(1, cores // (workers or 1))
    fit = _threads_that_fit(cores)
    n_workers = workers or (math.ceil(fit / MOST_THREADS) if processes else 1)
    return n_workers, max(1, fit // n_workers), max(1, cores // n_workers)


def _threads_that_fit(cores: int) -> int:
    return max(1, min(cores, memory_here() // THREAD_BYTES))
