"""Options that several commands share, and how their text becomes values."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = [
    "cluster_options",
    "engine_options",
    "open_options",
    "parse_channels",
    "parse_diameter",
    "parse_normalize",
    "position_option",
    "quiet_libraries",
    "take_cluster",
]

Command = TypeVar("Command", bound=Callable[..., Any])
# Options that describe a kind of cluster, and how `Gpus` and `SlurmJobs` name them.
_GPU_OPTIONS = {"gpus": "names"}
_SLURM_OPTIONS = {
    "walltime": "walltime",
    "job_cores": "cores",
    "job_memory": "memory",
    "sbatch": "sbatch",
}
_PEM = click.Path(exists=True, dir_okay=False)


def open_options(command: Command) -> Command:
    """Add the options of `open_movie`."""
    for option in (
        click.option(
            "--allow-damaged", is_flag=True, help="Go on when frames are damaged; mark them failed."
        ),
        click.option("--rgb", type=click.Choice(["mean"]), help="Average the samples of RGB(A)."),
        click.option("--position", metavar="NAME_OR_INDEX", help="Take one position only."),
        click.option(
            "--axes", metavar="LETTERS", help="Meaning of the stored axes, e.g. TYX or TCYX."
        ),
    ):
        command = option(command)
    return command


def cluster_options(command: Command) -> Command:
    """Add the options of `connect`."""
    for option in (
        click.option("--tls-key", type=_PEM, help="The certificate's key, if it lacks it."),
        click.option("--tls-cert", type=_PEM, help="This client's certificate."),
        click.option(
            "--tls-ca-file", type=_PEM, help="Talk TLS; whose certificates to trust (PEM)."
        ),
        click.option("--scheduler-file", metavar="FILE", help="... by its scheduler file."),
        click.option(
            "--scheduler",
            metavar="ADDRESS",
            help="Use a running Dask cluster, tcp://... or tls://...",
        ),
        click.option("--sbatch", metavar="TEXT", help="More options, '--partition=gpu ...'."),
        click.option("--job-memory", metavar="SIZE", help="Memory of a job, such as 16GB."),
        click.option("--job-cores", type=click.IntRange(1), help="Cores of a job."),
        click.option("--walltime", metavar="TIME", help="Of a job of SLURM, as sbatch takes it."),
        click.option(
            "--workers", type=click.IntRange(1),
            help="Worker processes on this machine, or jobs of SLURM.",
        ),
        click.option(
            "--gpus", metavar="NAME[,..]",
            help="GPUs of --cluster gpus, by index or UUID. All that are visible if left out.",
        ),
        click.option(
            "--cluster", "kind", type=click.Choice(["local", "gpus", "slurm"]), default="local",
            show_default=True,
            help="Start workers on this machine, one on each of its GPUs, or in jobs of SLURM.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def take_cluster(given: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `cluster_options` out of `given`, as `connect` names them."""
    from cypose_dask.run import Certificates

    files = {name: given.pop(f"tls_{name}") for name in ("ca_file", "cert", "key")}
    cluster = {name: given.pop(name) for name in ("workers", "scheduler", "scheduler_file")}
    cluster["kind"] = _kind(given)
    return {**cluster, "tls": Certificates(**files) if any(files.values()) else None}


def _kind(given: dict[str, Any]) -> Any:
    """Take what describes a kind of cluster out of `given`; what describes another is an error."""
    from cypose_dask.run.clusters import Gpus, SlurmJobs

    kind = given.pop("kind")
    described = {"gpus": (Gpus, _GPU_OPTIONS), "slurm": (SlurmJobs, _SLURM_OPTIONS)}
    found: Any = kind
    for other, (make, names) in described.items():
        taken = {field: given.pop(option) for option, field in names.items()}
        values = {field: value for field, value in taken.items() if value is not None}
        if values and other != kind:
            option = next(option for option, field in names.items() if field in values)
            raise click.UsageError(f"--{option.replace('_', '-')} needs --cluster {other}.")
        found = make(**values) if other == kind else found
    return found


def engine_options(command: Command) -> Command:
    """Add the options that choose an implementation."""
    for option in (
        click.option(
            "--skip-empty", is_flag=True,
            help="Leave out tiles in which nothing stands out of the noise.",
        ),
        click.option(
            "--dynamics-device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto",
            show_default=True, help="Where flows are followed; auto is the network's device.",
        ),
        click.option(
            "--precision", type=click.Choice(["single", "half"]), default="single",
            show_default=True, help="Of the network on a GPU; half moves some borders.",
        ),
        click.option(
            "--runtime", type=click.Choice(["auto", "openvino", "torch"]), default="auto",
            show_default=True, help="What runs the network.",
        ),
        click.option(
            "--engine", type=click.Choice(["fast", "reference"]), default="fast",
            show_default=True, help="Our own kernels, or Cellpose's functions frame by frame.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def quiet_libraries() -> None:
    """Keep libraries from writing below the level of errors to the terminal."""
    # Dask's configuration gives its client a level of its own.
    for name in ("distributed", "distributed.client", "cellpose", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def position_option(text: str | None) -> int | str | None:
    """Turn ``--position 2`` into an index and ``--position P2`` into a name."""
    return int(text) if text and text.isdigit() else text


def parse_channels(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    """Turn ``0,chlorophyll`` into ``(0, "chlorophyll")`` and ``mean`` into itself."""
    if text is None or text == "mean":
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise click.BadParameter(f"{text!r} has an empty name.")
    return tuple(int(part) if part.isdigit() else part for part in parts)


def parse_diameter(ctx: click.Context, param: click.Parameter, text: str) -> float | str:
    """Turn text into px, ``model`` or ``estimate``; 0 estimates, as in Cellpose."""
    if text in ("model", "estimate"):
        return text
    try:
        return float(text) or "estimate"
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is neither px nor 'model' nor 'estimate'.") from error


def parse_normalize(ctx: click.Context, param: click.Parameter, text: str) -> Any:
    """Turn ``frame``, ``movie``, ``none`` or ``LOW,HIGH[,LOW,HIGH]`` into a setting."""
    if text in ("frame", "movie", "none"):
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is neither frame, movie, none nor LOW,HIGH intensities."
        ) from error
