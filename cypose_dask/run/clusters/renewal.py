"""Submit jobs of a batch system again when they have ended and their workers are still needed."""

from __future__ import annotations

import asyncio
import getpass
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

from cypose_dask.errors import RunError

if TYPE_CHECKING:
    from dask_jobqueue.slurm import SLURMCluster
    from distributed import Client

__all__ = ["Renewal", "renewed", "submit"]

logger = logging.getLogger(__name__)

# Sites ask users not to question SLURM every second.
_LOOK_EVERY_S = 20.0
# How soon a worker that came is noticed, s.
_LISTEN_EVERY_S = 1.0
# So many jobs in a row may end before their worker came.
_MOST_BARREN = 3
_NUMBERS = itertools.count()


def submit(cluster: SLURMCluster, count: int) -> None:
    """Submit jobs until there are `count`.

    Raises
    ------
    RunError
        If SLURM refuses one.
    """
    try:
        cluster.sync(_open, cluster, count)
    except (RuntimeError, ValueError, OSError) as error:
        raise RunError(
            f"SLURM took no job ({' '.join(str(error).split())}). The job script is:\n"
            f"{cluster.job_script()}"
        ) from error


class Renewal:
    """Replaces jobs that have ended, whether their workers left, were cancelled or never came.

    Dask's own `adapt` counts a job that has ended as one that is there, and submits no other.

    Parameters
    ----------
    cluster : dask_jobqueue.SLURMCluster
    count : int
        Jobs at once.
    """

    def __init__(self, cluster: SLURMCluster, count: int) -> None:
        self.cluster, self.count = cluster, count
        self.seen: set[object] = set()
        self.barren: list[str] = []

    def look(self) -> None:
        """Replace what has ended, unless jobs end one after the other without a worker."""
        if self.given_up():
            return
        try:
            self.cluster.sync(self._replace)
        except (RuntimeError, ValueError, OSError) as error:
            logger.warning("SLURM cannot be asked, or took no job; later again: %s", error)
        if self.given_up():
            logger.error("%s", self._why())

    def wait_for_first(self, client: Client) -> None:
        """Wait for a worker, for as long as SLURM lets its job wait.

        Raises
        ------
        RunError
            If jobs end one after the other before their workers came.
        """
        while True:
            try:
                client.wait_for_workers(1, timeout=_LISTEN_EVERY_S)
            except TimeoutError:
                if self.given_up():
                    raise RunError(self._why()) from None
            else:
                return

    def given_up(self) -> bool:
        """Whether so many jobs brought no worker that no other is submitted."""
        return len(self.barren) >= _MOST_BARREN

    async def _replace(self) -> None:
        self._count_workers()
        if len(self._connected()) >= self.count:
            return
        jobs = dict(self.cluster.workers)
        queued = await _queued()
        for name, job in jobs.items():
            if job.job_id not in queued and self.cluster.workers.pop(name, None):
                self.cluster.worker_spec.pop(name, None)
                self._count_barren(name, str(job.job_id))
                await job.close()
        if not self.given_up():
            await _open(self.cluster, self.count)

    def _count_workers(self) -> None:
        new = self._connected() - self.seen
        if new:
            self.barren.clear()
        self.seen |= new

    def _count_barren(self, name: object, job: str) -> None:
        if name not in self.seen:
            self.barren.append(job)

    def _connected(self) -> set[object]:
        return {worker.name for worker in self.cluster.scheduler.workers.values()}

    def _why(self) -> str:
        return (
            f"SLURM ended jobs {', '.join(self.barren)} before their workers came, so no other is "
            "submitted. Their output, slurm-JOB.out in the folder from which this was started, "
            "says why."
        )


@contextmanager
def renewed(cluster: SLURMCluster, count: int) -> Iterator[Renewal]:
    """Keep `count` jobs for the duration of a ``with`` block."""
    renewal, over = Renewal(cluster, count), Event()

    def keep() -> None:
        while not over.wait(_LOOK_EVERY_S):
            renewal.look()

    thread = Thread(target=keep, name="renewal of jobs", daemon=True)
    thread.start()
    try:
        yield renewal
    finally:
        over.set()
        thread.join()


async def _open(cluster: SLURMCluster, count: int) -> None:
    """Submit jobs until there are `count`, and return when SLURM has them.

    Every job has a name of its own: Dask closes what has the name of a worker that it lost 15 s
    ago.
    """
    from distributed.core import Status

    while len(cluster.worker_spec) < count:
        cluster.worker_spec[f"job-{next(_NUMBERS)}"] = cluster.new_spec
    try:
        await cluster
    finally:
        for job in cluster.workers.values():
            if job.job_id is None:  # else Dask could not close a cluster with a job that never was
                job.status = Status.failed


async def _queued() -> set[str]:
    """Return the numbers of this user's jobs that wait or run."""
    command = ("squeue", "--noheader", "--format=%A", f"--user={getpass.getuser()}")
    asked = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asked.communicate()
    if asked.returncode:
        raise RuntimeError(f"{' '.join(command)}: {err.decode(errors='replace').strip()}")
    return set(out.decode().split())
