"""Jobs of SLURM, one worker each, which are submitted again until the work is done."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cypose_dask.errors import RunError, SettingsError
from cypose_dask.run.certificates import Certificates, security_of
from cypose_dask.run.clusters import leaving
from cypose_dask.run.clusters.own import (
    CONFIGURATION,
    GPU_THREADS,
    MOST_THREADS,
    THREAD_BYTES,
    thread_variables,
)
from cypose_dask.run.clusters.renewal import renewed, submit

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

__all__ = ["SlurmJobs", "client_of_jobs", "job_script"]

_CORES = 4
# A worker begins no block in the last part of its job, so that none is lost, s.
_LEAVE_BEFORE_S = 300
_NOWHERE = "tcp://SCHEDULER"
# Source: sbatch(1), --time: "minutes", "minutes:seconds", "hours:minutes:seconds", "days-hours",
# "days-hours:minutes" and "days-hours:minutes:seconds".
_WALLTIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<fields>\d+(?::\d+){0,2})")
_SETTLED = {
    "-t": "walltime", "--time": "walltime",
    "-c": "cores", "--cpus-per-task": "cores",
    "--mem": "memory", "--mem-per-cpu": "memory", "--mem-per-gpu": "memory",
    "-n": "workers", "--ntasks": "workers", "-N": "workers", "--nodes": "workers",
    "-a": "workers", "--array": "workers",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class SlurmJobs:
    """Jobs of one worker each, for `connect`.

    What is None is taken from ``jobqueue.slurm`` in Dask's configuration, where sites describe
    themselves (``~/.config/dask/jobqueue.yaml``).

    Parameters
    ----------
    walltime : str or None
        Of a job, as sbatch takes it: ``4:00:00``, ``1-12`` (days-hours), ``90`` (minutes). Workers
        leave before it is over, and new jobs take their place.
    cores : int or None
        Of a job; 4 if the configuration has none.
    memory : str or None
        Of a job, such as ``16GB``; 2 GiB a core and 2 GiB more if the configuration has none.
    sbatch : str
        More options for sbatch, as on its command line: ``--partition=gpu --account=lab``.
    """

    walltime: str | None = None
    cores: int | None = None
    memory: str | None = None
    sbatch: str = ""

    def directives(self) -> list[str]:
        """Return the further options for sbatch one by one.

        Raises
        ------
        SettingsError
            If the text is not a list of options, or repeats what has a parameter of its own.
        """
        options: list[str] = []
        for word in _words(self.sbatch):
            if word.startswith("-"):
                _check_not_settled(word)
                name, equals, value = word.partition("=")
                options.append(name + equals + (value and shlex.quote(value)))
            elif options:
                options[-1] += f" {shlex.quote(word)}"
            else:
                raise SettingsError(f"{word!r} is no option of sbatch; expected --NAME=VALUE.")
        return options


def job_script(jobs: SlurmJobs, *, gpu: bool = False, security: Security | None = None) -> str:
    """Return what is submitted for every worker, with SCHEDULER for the address of the scheduler.

    Parameters
    ----------
    jobs : SlurmJobs
    gpu : bool
        Ask for a GPU a job, unless `jobs` does.
    security : distributed.Security or None
        From `security_of`.

    Raises
    ------
    SettingsError
        If dask-jobqueue is missing, or an option is unusable.
    """
    slurm = _dask_jobqueue().slurm
    options = _job_options(jobs, gpu=gpu)
    if security is not None and security.require_encryption:
        options |= {"security": security, "protocol": "tls://"}
    job = slurm.SLURMJob(_NOWHERE, name="NAME", **options)
    return str(job.job_script())


@contextmanager
def client_of_jobs(
    jobs: SlurmJobs, count: int, *, gpu: bool, security: Security
) -> Iterator[Client]:
    """Submit jobs, wait for the first worker, and submit others for those that end.

    Parameters
    ----------
    jobs : SlurmJobs
    count : int
        Jobs at once.
    gpu : bool
        Ask for a GPU a job, unless `jobs` does.
    security : distributed.Security
        Without certificates, some are made for this run.

    Raises
    ------
    RunError
        If SLURM is not there, refuses a job, or ends job after job before its worker came.
    SettingsError
        If dask-jobqueue is missing, or an option is unusable.
    """
    import dask
    from distributed import Client

    slurm = _dask_jobqueue().slurm
    options = _job_options(jobs, gpu=gpu)
    _check_commands()
    with (
        dask.config.set(CONFIGURATION),
        _encrypted(security) as security,
        slurm.SLURMCluster(
            **options, scheduler_options=_scheduler_options(), security=security
        ) as cluster,
        Client(cluster, security=security) as client,
    ):
        submit(cluster, count)
        with renewed(cluster, count) as renewal:
            renewal.wait_for_first(client)
            yield client


def _dask_jobqueue() -> Any:
    try:
        import dask_jobqueue
    except ImportError as error:
        raise SettingsError(
            f"SLURM jobs need dask-jobqueue, which is missing ({error}). Install it with "
            "pip install 'cypose-dask[slurm]'."
        ) from error
    return dask_jobqueue


def _check_commands() -> None:
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise RunError(
            f"SLURM's {', '.join(missing)} cannot be found here. Run this where jobs are submitted "
            "from, or give --scheduler with a cluster that runs already."
        )


@contextmanager
def _encrypted(security: Security) -> Iterator[Security]:
    """Make certificates for one run if there are none: a Dask port runs anyone's code as this user.

    Jobs read them from files, and start in the folder from which they are submitted, so that is
    there on every node.
    """
    if security.require_encryption:
        yield security
        return
    folder = _configured("shared-temp-directory", ".")
    with TemporaryDirectory(prefix=".cypose-tls-", dir=Path(folder).expanduser()) as made:
        yield security_of(_certificates(Path(made).resolve()))


def _certificates(folder: Path) -> Certificates:
    from distributed.security import Security

    try:
        made = Security.temporary().get_tls_config_for_role("client")
    except ImportError as error:
        raise SettingsError(
            "Workers on other machines are talked to by TLS, for which the package cryptography "
            "is missing. Install it with pip install 'cypose-dask[tls]', or give --tls-ca-file, "
            "--tls-cert and --tls-key."
        ) from error
    names = ("ca_file", "cert", "key")
    for name in names:
        (folder / f"{name}.pem").write_text(made[name])
    return Certificates(**{name: folder / f"{name}.pem" for name in names})


def _scheduler_options() -> dict[str, Any]:
    """Return how the scheduler listens; its status pages are for this machine alone."""
    return {"dashboard_address": "127.0.0.1:0"} | _configured("scheduler-options", {})


def _job_options(jobs: SlurmJobs, *, gpu: bool) -> dict[str, Any]:
    """Return what dask-jobqueue is told about a job."""
    from dask.utils import parse_bytes

    cores = jobs.cores or _configured("job-cpu", None) or _configured("cores", _CORES)
    memory = jobs.memory or _configured("memory", f"{2 * cores + 2}GiB")
    walltime = jobs.walltime or _configured("walltime", "00:30:00")
    try:
        fit = int(parse_bytes(memory) // THREAD_BYTES)
    except ValueError as error:
        raise SettingsError(f"memory is {memory!r}; expected a size such as 16GB.") from error
    return {
        # What dask-jobqueue calls cores are the threads of the worker.
        "cores": GPU_THREADS if gpu else max(1, min(cores, fit, MOST_THREADS)),
        "processes": 1,
        "job_cpu": cores,
        "memory": memory,
        "walltime": walltime,
        "job_extra_directives": _directives(jobs, gpu=gpu),
        "job_script_prologue": [
            *_configured("job-script-prologue", []),
            *_exports(cores),
            f"export {leaving.LEAVE_AT}=$(($(date +%s) + {_lifetime_s(walltime)}))",
        ],
        "worker_extra_args": [
            *_configured("worker-extra-args", []),
            # Status pages would be served to the whole network.
            "--dashboard-address",
            "127.0.0.1:0",
            "--preload",
            leaving.__name__,
        ],
    }


def _directives(jobs: SlurmJobs, *, gpu: bool) -> list[str]:
    given = [*_configured("job-extra-directives", []), *jobs.directives()]
    has_gpu = any(re.match(r"(--gres|--gpus|-G)", one) for one in given)
    return given if has_gpu or not gpu else [*given, "--gres=gpu:1"]


def _exports(cores: int) -> list[str]:
    """Return the lines that give a job's worker what those on this machine have."""
    settings = {name: value for name, value in CONFIGURATION.items() if ".worker." in name}
    # Nothing is stored that could spill, and an allocator that keeps memory must not stop a worker.
    settings |= dict.fromkeys(
        (f"distributed.worker.memory.{name}" for name in ("target", "spill", "pause")), False
    )
    variables = thread_variables(cores) | {_variable(name): v for name, v in settings.items()}
    return [f"export {name}={value}" for name, value in variables.items()]


def _variable(name: str) -> str:
    return f"DASK_{name.upper().replace('.', '__').replace('-', '_')}"


def _configured(name: str, otherwise: Any) -> Any:
    """Return a value of the site's configuration, which dask-jobqueue has completed."""
    import dask

    found = dask.config.get(f"jobqueue.slurm.{name}", None)
    return otherwise if found is None else found


def _lifetime_s(walltime: str) -> int:
    """Return after how many seconds a worker leaves by itself."""
    total = _seconds(walltime)
    return total - min(_LEAVE_BEFORE_S, total // 4)


def _seconds(walltime: str) -> int:
    """Read a duration as sbatch does."""
    match = _WALLTIME.fullmatch(str(walltime).strip())
    if match is None:
        raise SettingsError(
            f"walltime is {walltime!r}; expected HOURS:MINUTES:SECONDS, DAYS-HOURS or MINUTES."
        )
    numbers = [int(number) for number in match["fields"].split(":")]
    if match["days"] is None and len(numbers) < 3:
        numbers = [0, *numbers]  # minutes come first, without days
    hours, minutes, seconds = (*numbers, 0, 0)[:3]
    total = ((int(match["days"] or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    if total < 60:
        raise SettingsError(f"walltime is {walltime!r}, {total} s; a job needs a minute at least.")
    return total


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SettingsError(
            f"The options for sbatch cannot be read ({error}): {text!r}."
        ) from error
    if any("\n" in word for word in words):
        raise SettingsError(f"An option for sbatch has a line break: {text!r}.")
    return words


def _check_not_settled(word: str) -> None:
    name = word.partition("=")[0] if word.startswith("--") else word[:2]
    if name in _SETTLED:
        raise SettingsError(
            f"{word!r} is among the options for sbatch, but {_SETTLED[name]} decides that. Give "
            f"{_SETTLED[name]} instead."
        )
