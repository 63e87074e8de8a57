"""What all clusters have in common that are started here."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.resource_tracker import ensure_running
from typing import TYPE_CHECKING

from cypose_dask.errors import RunError

if TYPE_CHECKING:
    from distributed import SpecCluster

__all__ = [
    "CONFIGURATION",
    "GPU_THREADS",
    "MOST_THREADS",
    "PRELOAD",
    "THREAD_BYTES",
    "started",
    "thread_variables",
]

# One frame in the network, and the block around it; what the process itself holds is less.
THREAD_BYTES = 3 * 2**29
# Blocks of one process share a model and a file; more threads than this wait for Python's lock.
MOST_THREADS = 8
# Two blocks read, follow flows and write while one is on the device.
GPU_THREADS = 3
# What a worker process does first.
PRELOAD = "cypose_dask.run.preload"

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)

# Workers and scheduler remember what they did: by default 1,000 events with the tasks in them and a
# profile of every second, which makes memory grow with the length of a run.
CONFIGURATION = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.low-level-log-length": 50,
    "distributed.diagnostics.computations.max-history": 5,
    # A block that has cost two workers is repeated alone, in a process whose death costs none.
    "distributed.scheduler.allowed-failures": 1,
    # Dask would set OMP_NUM_THREADS=1 here too, and it would stay set in the caller's own process.
    "distributed.nanny.pre-spawn-environ": {"MALLOC_TRIM_THRESHOLD_": 65536},
}


def started(make: Callable[[], SpecCluster]) -> SpecCluster:
    """Start a cluster whose processes leave Ctrl-C to this one from the first moment on.

    Raises
    ------
    RunError
        If its workers do not start.
    """
    with _interrupts_later():
        try:
            return make()
        except RuntimeError as error:
            raise RunError(
                f"The workers on this machine could not be started ({error}). Look at what they "
                "printed; with fewer --workers they need less memory."
            ) from error


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold Ctrl-C back; processes that are started meanwhile never hear it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    ensure_running()  # starting it with the first worker would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def thread_variables(cores: int) -> dict[str, str]:
    """Return what keeps neighbouring workers from each starting a thread a core."""
    return dict.fromkeys(_THREAD_VARIABLES, str(cores))
