"""A scheduler and workers in processes of their own, as `dask` starts them on a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

__all__ = [
    "Cluster",
    "kill_group",
    "no_hang",
    "running",
    "running_cluster",
    "wait_until",
    "worker_processes",
]

DASK = str(Path(sys.executable).with_name("dask"))
# No test waits as long; a wait that does is a hang.
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Cluster:
    """What a test needs to use a cluster, and to do it harm."""

    scheduler_file: Path
    scheduler: psutil.Process
    nannies: tuple[psutil.Process, ...]

    @property
    def workers(self) -> list[psutil.Process]:
        """The worker processes of this moment, each the child of its nanny."""
        return [child for nanny in self.nannies for child in worker_processes(nanny)]


def worker_processes(parent: psutil.Process) -> list[psutil.Process]:
    """Return the Dask workers below a process; Python's resource trackers are none."""
    found = []
    for child in parent.children(recursive=True):
        try:
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


@contextmanager
def running_cluster(
    folder: Path, *, workers: int = 1, flags: Sequence[str] = (), environment: Any = None
) -> Iterator[Cluster]:
    """Start a scheduler on loopback and workers of one thread; kill them all at the end."""
    file = folder / "scheduler.json"
    where = ["--scheduler-file", str(file), "--host", "127.0.0.1", *flags]
    with ExitStack() as stack:

        def start(name: str, *more: str) -> psutil.Process:
            return stack.enter_context(running([DASK, name, *where, *more], environment))

        scheduler = start("scheduler", "--port", "0", "--dashboard-address", "127.0.0.1:0")
        wait_until(file.exists)
        more = ["--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)]
        nannies = tuple(start("worker", *more) for _ in range(workers))
        yield Cluster(file, scheduler, nannies)


@contextmanager
def running(command: Sequence[str], environment: Any = None, **options: Any) -> Iterator[Any]:
    """Run a command in a process group of its own, of which nothing survives."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = psutil.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        start_new_session=True,
        **silent | options,
    )
    try:
        yield process
    finally:
        kill_group(process.pid)
        process.wait()


def kill_group(group: int) -> None:
    """Kill -9 every process of a group, if there is one left."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


@contextmanager
def no_hang(seconds: int) -> Iterator[None]:
    """Fail a test that waits, for instance for a timeout of Dask's, which are 30 s and more."""

    def stop(*_: object) -> None:
        pytest.fail(f"this waits, for {seconds} s by now")

    before = signal.signal(signal.SIGALRM, stop)
    left = signal.alarm(seconds)  # of the limit that every test has
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.alarm(left)


def wait_until(condition: Callable[[], Any], every_s: float = 0.01) -> None:
    """Wait until something is true; a wait without an end is an error."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing happened in {_PATIENCE_S:.0f} s")
        time.sleep(every_s)
