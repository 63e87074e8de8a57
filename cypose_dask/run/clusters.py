"""Get a Dask client: a cluster on this machine, or one that somebody runs already."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cypose_dask.engine import usable_cores
from cypose_dask.errors import RunError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["active_client", "connect"]

# One frame in the network, and the block around it; what the process itself holds is less.
_THREAD_BYTES = 3 * 2**29
# Blocks of one process share a model and a file; more threads than this wait for Python's lock.
_MOST_THREADS = 8
# Two blocks read, follow flows and write while one is on the device.
_GPU_THREADS = 3
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


# Workers and scheduler remember what they did: by default 1,000 events with the tasks in them and a
# profile of every second, which makes memory grow with the length of a run.
_CONFIGURATION = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.low-level-log-length": 50,
    "distributed.diagnostics.computations.max-history": 5,
    # Dask would set OMP_NUM_THREADS=1 here too, and it would stay set in the caller's own process.
    "distributed.nanny.pre-spawn-environ": {"MALLOC_TRIM_THRESHOLD_": 65536},
}


@contextmanager
def connect(
    *,
    workers: int | None = None,
    gpu: bool = False,
    processes: bool = True,
    scheduler: str | None = None,
    scheduler_file: str | None = None,
) -> Iterator[Client]:
    """Open a Dask client for the duration of a ``with`` block.

    Parameters
    ----------
    workers : int or None
        Worker processes on this machine. None fits the cores and the memory: one for up to eight
        cores; one with `gpu`.
    gpu : bool
        Start one worker, so that one process owns the GPU, with three threads: two blocks read,
        follow flows and write while one is on the device. Otherwise every core has a thread, which
        works on a block of its own.
    processes : bool
        False runs the workers as threads of this process, which needs no
        ``if __name__ == "__main__"`` in a script.
    scheduler, scheduler_file : str or None
        Connect to a running cluster instead, by address or by its file. The environment variable
        ``DASK_SCHEDULER_ADDRESS`` is used when nothing is given.

    Yields
    ------
    distributed.Client
        Its scheduler and dashboard listen on 127.0.0.1 only when the cluster is started here.

    Raises
    ------
    RunError
        If the scheduler cannot be reached.
    """
    address = scheduler or os.environ.get("DASK_SCHEDULER_ADDRESS")
    if scheduler_file or address:
        with _existing(address, scheduler_file) as client:
            yield client
        return
    import dask
    from distributed import Client, LocalCluster

    with (
        dask.config.set(_CONFIGURATION),
        LocalCluster(**_local_options(workers, gpu=gpu, processes=processes)) as cluster,
        Client(cluster) as client,
    ):
        yield client


def active_client() -> Client | None:
    """Return the client that the caller has made active, or None."""
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


@contextmanager
def _existing(address: str | None, scheduler_file: str | None) -> Iterator[Client]:
    from distributed import Client

    if scheduler_file and not Path(scheduler_file).is_file():  # Client would wait for it for ever
        raise RunError(
            f"There is no scheduler file {scheduler_file}. Start `dask scheduler --scheduler-file "
            f"{scheduler_file}`, or leave the option out to use this machine."
        )
    where = {"scheduler_file": scheduler_file} if scheduler_file else {"address": address}
    try:
        client = Client(**where, timeout="30s")
    except (OSError, TimeoutError, ValueError) as error:
        raise RunError(
            f"No Dask scheduler answers at {scheduler_file or address} ({error}). Start one with "
            "`dask scheduler`, or leave the option out to use this machine."
        ) from error
    with client:
        yield client


def _local_options(workers: int | None, *, gpu: bool, processes: bool) -> dict[str, Any]:
    n_workers, threads, cores = _layout(workers, gpu=gpu, processes=processes)
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
    if not processes:  # threads of one process talk without sockets
        return options
    # Neighbouring workers must not each start a thread a core.
    return {**options, "host": "127.0.0.1", "env": dict.fromkeys(_THREAD_VARIABLES, str(cores))}


def _layout(workers: int | None, *, gpu: bool, processes: bool) -> tuple[int, int, int]:
    """Return processes, blocks at once in each, and cores of each.

    On a CPU every core follows a block of its own: a network on one thread wastes nothing on
    waiting for its neighbours. Where a block may use several cores (fewer blocks fit into
    memory than there are cores), the network and the dynamics do.
    """
    cores = usable_cores()
    if gpu:
        return workers or 1, _GPU_THREADS, max(1, cores // (workers or 1))
    fit = _threads_that_fit(cores)
    n_workers = workers or (math.ceil(fit / _MOST_THREADS) if processes else 1)
    return n_workers, max(1, fit // n_workers), max(1, cores // n_workers)


def _threads_that_fit(cores: int) -> int:
    from distributed.system import MEMORY_LIMIT

    return max(1, min(cores, int(MEMORY_LIMIT // _THREAD_BYTES)))
