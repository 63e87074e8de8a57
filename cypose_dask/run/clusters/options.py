"""What a command line or a profile says of a cluster, and how `connect` is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cypose_dask.errors import SettingsError
from cypose_dask.run.certificates import Certificates
from cypose_dask.run.clusters.gpus import Gpus
from cypose_dask.run.clusters.slurm import SlurmJobs

__all__ = ["KINDS", "connect_arguments"]

KINDS = ("local", "gpus", "slurm")
# What describes a kind of cluster, and how its class names that.
_DESCRIBED: dict[str, tuple[type[Gpus | SlurmJobs], dict[str, str]]] = {
    "gpus": (Gpus, {"gpus": "names"}),
    "slurm": (
        SlurmJobs,
        {"walltime": "walltime", "job_cores": "cores", "job_memory": "memory", "sbatch": "sbatch"},
    ),
}
_AS_THEY_ARE = ("workers", "gpu", "scheduler", "scheduler_file")


def connect_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a cluster as `connect` names them.

    Parameters
    ----------
    options : mapping
        By the long name on the command line, with underscores; None is the same as missing.

    Raises
    ------
    SettingsError
        If one describes another kind of cluster than ``cluster``, which would be ignored.
    """
    given = {name: value for name, value in options.items() if value is not None}
    files = {name: given.get(f"tls_{name}") for name in ("ca_file", "cert", "key")}
    return {
        "kind": _kind(given),
        **{name: given[name] for name in _AS_THEY_ARE if name in given},
        "tls": Certificates(**files) if any(files.values()) else None,
    }


def _kind(given: Mapping[str, Any]) -> str | Gpus | SlurmJobs:
    kind: str | Gpus | SlurmJobs = given.get("cluster", KINDS[0])
    for other, (make, names) in _DESCRIBED.items():
        fields = {field: given[name] for name, field in names.items() if name in given}
        if given.get("cluster") == other:
            kind = make(**fields)
        elif fields:
            name = next(name for name in names if name in given)
            raise SettingsError(f"--{name.replace('_', '-')} needs --cluster {other}.")
    return kind
