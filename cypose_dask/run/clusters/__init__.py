"""Get a Dask client: a cluster on this machine, on SLURM, or one that somebody runs already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cypose_dask.errors import SettingsError
from cypose_dask.run.certificates import Certificates, security_of
from cypose_dask.run.clusters.existing import address_of, client_of
from cypose_dask.run.clusters.gpus import Gpus, chosen_gpus, gpu_cluster
from cypose_dask.run.clusters.local import local_options
from cypose_dask.run.clusters.own import CONFIGURATION, started
from cypose_dask.run.clusters.profiles import profile
from cypose_dask.run.clusters.slurm import SlurmJobs, client_of_jobs, job_script

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

__all__ = ["Gpus", "SlurmJobs", "active_client", "connect", "job_script", "profile"]

_KINDS = {"local": None, "gpus": Gpus(), "slurm": SlurmJobs()}


@contextmanager
def connect(
    *,
    kind: str | Gpus | SlurmJobs | None = None,
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
    kind : {"local", "gpus", "slurm"}, Gpus, SlurmJobs or None
        Where workers are started. ``local``: on this machine, sized by its cores and its memory.
        ``gpus``: one worker process for each GPU of this machine that ``CUDA_VISIBLE_DEVICES``
        leaves visible, which sees that GPU alone; `Gpus` names some of them. ``slurm``: in jobs of
        one worker each, and in others when these end; `SlurmJobs` describes them. The ``with``
        block begins when the first worker is there. None is ``local``, unless the environment
        names a scheduler.
    workers : int or None
        Worker processes on this machine. None fits the cores and the memory: one for up to eight
        cores; one with `gpu`. For ``slurm``, the jobs at once; None is one.
    gpu : bool
        Start one worker, so that one process owns the GPU, with three threads: two blocks read,
        follow flows and write while one is on the device. Otherwise every core has a thread, which
        works on a block of its own. For ``slurm``, ask for a GPU a job.
    processes : bool
        False runs the workers as threads of this process, which needs no
        ``if __name__ == "__main__"`` in a script.
    scheduler, scheduler_file : str or None
        Connect to a running cluster instead, by address or by its file. The environment variable
        ``DASK_SCHEDULER_ADDRESS`` is used when neither they nor `kind` are given.
    tls : Certificates or None
        Encrypt, and trust only who has a certificate of the same authority. None takes what
        ``distributed.comm.tls`` says in Dask's configuration.

    Yields
    ------
    distributed.Client
        When the cluster is started on this machine, its scheduler, workers and dashboard listen on
        127.0.0.1 only. For others to reach them, start ``dask scheduler --host ADDRESS`` and name
        it here. With ``slurm``, its scheduler listens to the network, by TLS: with certificates of
        its own where none are given.

    Raises
    ------
    RunError
        If the scheduler cannot be reached or refuses this client, no worker can be started, or
        SLURM starts no jobs.
    DeviceError
        If there is no GPU for ``gpus``.
    SettingsError
        If arguments contradict each other, a GPU is unknown, an option of SLURM or a certificate
        is unusable, or a package is missing for it.
    """
    where = _where(kind)
    _check_together(where, workers, processes=processes, scheduler=scheduler or scheduler_file)
    security = security_of(tls)
    if address := address_of(scheduler, scheduler_file, from_environment=kind is None):
        opened = client_of(address, security)
    elif isinstance(where, SlurmJobs):
        opened = client_of_jobs(where, workers or 1, gpu=gpu, security=security)
    elif where:
        opened = _on_gpus(where, security)
    else:
        opened = _on_this_machine(security, workers, gpu=gpu, processes=processes)
    with opened as client:
        yield client


def active_client() -> Client | None:
    """Return the client that the caller has made active, or None."""
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


def _where(kind: str | Gpus | SlurmJobs | None) -> Gpus | SlurmJobs | None:
    """Return what describes a cluster that is no plain local one."""
    if kind is None or isinstance(kind, Gpus | SlurmJobs):
        return kind
    if kind in _KINDS:
        return _KINDS[kind]
    raise SettingsError(
        f"kind is {kind!r}; expected one of {', '.join(_KINDS)}, a `Gpus` or a `SlurmJobs`."
    )


def _check_together(
    where: Gpus | SlurmJobs | None,
    workers: int | None,
    *,
    processes: bool,
    scheduler: str | None,
) -> None:
    """Raise SettingsError for arguments of which one would be ignored."""
    if scheduler and (where or workers):
        other = "another kind of cluster" if where else "workers"
        raise SettingsError(
            f"A scheduler ({scheduler}) and {other} were asked for; a cluster that runs already "
            "has its own workers. Leave one of them out."
        )
    if isinstance(where, Gpus) and workers:
        raise SettingsError(
            f"workers is {workers}, but there is one worker a GPU. Name the GPUs with --gpus "
            "(`Gpus` in Python) instead."
        )
    if where and not processes:
        raise SettingsError(
            "processes=False runs workers as threads of this process; each GPU, and each job of "
            "SLURM, has a worker process of its own."
        )


@contextmanager
def _on_gpus(gpus: Gpus, security: Security) -> Iterator[Client]:
    import dask
    from distributed import Client

    names = chosen_gpus(gpus.listed())
    with (
        dask.config.set(CONFIGURATION),
        started(lambda: gpu_cluster(names, security)) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def _on_this_machine(
    security: Security, workers: int | None, *, gpu: bool, processes: bool
) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    options = local_options(workers, gpu=gpu, processes=processes)
    with (
        dask.config.set(CONFIGURATION),
        started(lambda: LocalCluster(**options, security=security)) as cluster,
        Client(cluster) as client,
    ):
        yield client
