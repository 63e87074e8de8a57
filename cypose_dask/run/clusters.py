"""Get a Dask client: a cluster on this machine, or one that somebody runs already."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cypose_dask.engine import usable_cores
from cypose_dask.errors import RunError
from cypose_dask.run.certificates import Certificates, encrypted_address, security_of
from cypose_dask.run.memory import memory_here

if TYPE_CHECKING:
    from distributed import Client, LocalCluster
    from distributed.security import Security

__all__ = ["active_client", "connect"]

# One frame in the network, and the block around it; what the process itself holds is less.
_THREAD_BYTES = 3 * 2**29
# Blocks of one process share a model and a file; more threads than this wait for Python's lock.
_MOST_THREADS = 8
_CONNECT_TIMEOUT_S = 30.0
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
    # A block that has cost two workers is repeated alone, in a process whose death costs none.
    "distributed.scheduler.allowed-failures": 1,
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
    tls: Certificates | None = None,
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
    tls : Certificates or None
        Encrypt, and trust only who has a certificate of the same authority. None takes what
        ``distributed.comm.tls`` says in Dask's configuration.

    Yields
    ------
    distributed.Client
        When the cluster is started here, its scheduler, workers and dashboard listen on 127.0.0.1
        only. For others to reach them, start ``dask scheduler --host ADDRESS`` and name it here.

    Raises
    ------
    RunError
        If the scheduler cannot be reached, or refuses this client, or no worker can be started.
    SettingsError
        If the certificates are missing or unusable.
    """
    security = security_of(tls)
    address = _address(scheduler, scheduler_file)
    if address:
        with _existing(address, security) as client:
            yield client
        return
    import dask
    from distributed import Client, LocalCluster

    options = _local_options(workers, gpu=gpu, processes=processes)
    with (
        dask.config.set(_CONFIGURATION),
        _started(lambda: LocalCluster(**options, security=security)) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _started(make: Callable[[], LocalCluster]) -> LocalCluster:
    """Start workers, which leave Ctrl-C to this process from the first moment on."""
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


def active_client() -> Client | None:
    """Return the client that the caller has made active, or None."""
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


def _address(scheduler: str | None, scheduler_file: str | None) -> str | None:
    """Return the address of a scheduler that runs already, or None."""
    if not scheduler_file:
        return scheduler or os.environ.get("DASK_SCHEDULER_ADDRESS")
    if not Path(scheduler_file).is_file():
        raise RunError(
            f"There is no scheduler file {scheduler_file}. Start `dask scheduler --scheduler-file "
            f"{scheduler_file}`, or leave the option out to use this machine."
        )
    try:
        return str(json.loads(Path(scheduler_file).read_text())["address"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{scheduler_file} names no scheduler ({error!r}). Give the file that `dask scheduler "
            "--scheduler-file` wrote."
        ) from error


@contextmanager
def _existing(address: str, security: Security) -> Iterator[Client]:
    from distributed import Client

    address = encrypted_address(address, security)
    _greet(address, security)
    with Client(address, security=security) as client:
        yield client


def _greet(address: str, security: Security) -> None:
    """Raise RunError if a scheduler is not there, or does not talk to this client.

    A `Client` that finds this out itself is left behind half made, and Python, when it clears it
    away while the next one is being made, waits for a lock of that one for ever (distributed
    2026.8).
    """
    with ThreadPoolExecutor(1) as thread:  # this one may have a loop that runs, as Jupyter's has
        try:
            thread.submit(asyncio.run, _shake_hands(address, security)).result()
        except (OSError, TimeoutError, ValueError) as error:
            raise RunError(_unreachable(address, error)) from error


async def _shake_hands(address: str, security: Security) -> None:
    from distributed.comm import connect

    arguments = security.get_connection_args("client")
    comm = await asyncio.wait_for(
        connect(address, timeout=_CONNECT_TIMEOUT_S, **arguments), 2 * _CONNECT_TIMEOUT_S
    )
    comm.abort()


def _unreachable(address: str, error: Exception) -> str:
    from distributed.comm import CommClosedError

    reason = str(error) or type(error).__name__
    if error.__cause__:
        reason += f": {error.__cause__}"
    # A scheduler that is not encrypted speaks first, which Tornado takes for a wrong value.
    if address.startswith("tls://") and isinstance(error, CommClosedError | ValueError):
        return (
            f"{address} and this client do not trust each other ({reason}). Give certificates of "
            "the authority that signed the scheduler's, or tcp://... if it is not encrypted."
        )
    if isinstance(error, CommClosedError):
        return (
            f"{address} broke off ({reason}). If the scheduler there is encrypted, give tls://... "
            "and --tls-ca-file, --tls-cert and --tls-key."
        )
    return (
        f"No Dask scheduler answers at {address} ({reason}). Start one with `dask scheduler`, or "
        "leave the option out to use this machine."
    )


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
    if not processes:  # threads of one process talk without sockets, so there is nothing to encrypt
        return {**options, "protocol": "inproc://"}
    # Neighbouring workers must not each start a thread a core.
    environment = dict.fromkeys(_THREAD_VARIABLES, str(cores))
    preload = "cypose_dask.run.preload"
    return {**options, "host": "127.0.0.1", "env": environment, "preload": preload}


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
    return max(1, min(cores, memory_here() // _THREAD_BYTES))
