"""Options that several commands share, and how their text becomes values."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from cypose_dask.cli.like import like_option

__all__ = [
    "a_process_a_core",
    "cluster_options",
    "engine_options",
    "open_options",
    "parse_channels",
    "parse_diameter",
    "parse_normalize",
    "position_option",
    "quiet_libraries",
    "segmentation_options",
    "take_cluster",
]

Command = TypeVar("Command", bound=Callable[..., Any])
# Options that name a cluster, that describe it, and that are used whichever it is.
_NAMES = ("cluster", "scheduler", "scheduler_file")
_DESCRIPTION = ("workers", "gpus", "walltime", "job_cores", "job_memory", "sbatch")
_CERTIFICATES = ("tls_ca_file", "tls_cert", "tls_key")
# Who is believed, in this order, of those that name a cluster.
_PROFILE = ParameterSource.DEFAULT_MAP
_BELIEVED = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, _PROFILE)
_OTHERWISE = {"cluster": "local", "gpu": False}
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


def _read_profile(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """Let what a profile says take the place of the defaults, which come after the environment."""
    if name:
        from cypose_dask.run.clusters.profiles import profile_options

        ctx.default_map = profile_options(name)
    return name


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
            "--scheduler", metavar="ADDRESS", envvar="DASK_SCHEDULER_ADDRESS", show_envvar=True,
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
            "--cluster", type=click.Choice(["local", "gpus", "slurm"]), default="local",
            show_default=True,
            help="Start workers on this machine, one on each of its GPUs, or in jobs of SLURM.",
        ),
        click.option(
            "--profile", metavar="NAME", envvar="CYPOSE_PROFILE", show_envvar=True,
            is_eager=True, callback=_read_profile,
            help="Take what follows from [profiles.NAME] of cypose-dask.toml, here or in "
            "~/.config/cypose-dask/profiles.toml.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def take_cluster(given: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `cluster_options` out of `given`, as `connect` names them.

    The command line is believed before the environment, and that before a profile.
    """
    from cypose_dask.run.clusters.options import connect_arguments

    _set_aside(given)
    return connect_arguments({n: given.pop(n) for n in (*_NAMES, *_DESCRIPTION, *_CERTIFICATES)})


def a_process_a_core(cluster: dict[str, Any]) -> dict[str, Any]:
    """Start a process for each core of this machine, for what is Python's own work.

    Python runs one thread of a process at a time. Takes and returns arguments of `connect`.
    """
    from cypose_dask.engine import usable_cores

    elsewhere = cluster["kind"] != "local" or cluster.keys() & {"scheduler", "scheduler_file"}
    return cluster if elsewhere else {"workers": usable_cores(), **cluster}


def _set_aside(given: dict[str, Any]) -> None:
    """Forget every name of a cluster but the one to be believed, and what describes another."""
    ctx, profile = click.get_current_context(), given.pop("profile")
    said = {name: ctx.get_parameter_source(name) for name in given}
    believed = next((s for s in _BELIEVED if s in {said[name] for name in _NAMES}), None)
    aside = [name for name in _NAMES if said[name] is not believed]
    if profile and believed is not _PROFILE and _place(given, aside) != _place(ctx.default_map, ()):
        aside += [name for name in (*_DESCRIPTION, "gpu") if said.get(name) is _PROFILE]
        click.echo(
            f"note      profile {profile} describes another cluster than the command line or "
            "DASK_SCHEDULER_ADDRESS names; only its certificates are used",
            err=True,
        )
    given.update({name: _OTHERWISE.get(name) for name in aside})


def _place(options: Any, aside: Sequence[str]) -> str:
    """Return which kind of cluster options name."""
    named = {n: v for n, v in options.items() if n not in aside and v is not None}
    runs_already = {"scheduler", "scheduler_file"} & named.keys()
    return "running" if runs_already else named.get("cluster", "local")


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
            "--runtime", type=click.Choice(["auto", "winograd", "openvino", "torch"]),
            default="auto", show_default=True, help="What runs the network.",
        ),
        click.option(
            "--engine", type=click.Choice(["fast", "reference"]), default="fast",
            show_default=True, help="Our own kernels, or Cellpose's functions frame by frame.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def segmentation_options(command: Command) -> Command:
    """Add the options of `segment` that say what is segmented, how, where and into what."""
    for option in reversed((
        click.option(
            "-o", "--output", type=click.Path(path_type=Path),
            help="A .tif, or a folder.",
        ),
        click.option("--recursive", is_flag=True, help="Look into folders of folders."),
        click.option(
            "--model", "--pretrained_model", "--pretrained-model", default="default",
            show_default=True,
            help="Bundled or Cellpose name, or a path to weights.",
        ),
        like_option,
        click.option(
            "--channels", callback=parse_channels, metavar="NAME_OR_INDEX[,..]",
            help="Channels for the network, 0-based or by name, or 'mean'.",
        ),
        click.option(
            "--chan", type=click.IntRange(0),
            help="As in Cellpose: 1-based, 0 is the mean.",
        ),
        click.option("--chan2", type=click.IntRange(0), help="As in Cellpose: 1-based, 0 is none."),
        click.option(
            "--diameter", callback=parse_diameter, default="model", show_default=True,
            help="Cell diameter in px, 'model' (as trained) or 'estimate' (0 too).",
        ),
        click.option(
            "--niter", type=click.FloatRange(0),
            help="Steps of the flow dynamics; 0 is auto.",
        ),
        click.option(
            "--flow-threshold", "--flow_threshold", type=float, default=0.75, show_default=True,
            help="Largest flow error of a cell; 0 turns the check off.",
        ),
        click.option(
            "--cellprob-threshold", "--cellprob_threshold", type=float, default=0.0,
            show_default=True,
            help="Pixels with a larger logit belong to cells.",
        ),
        click.option(
            "--min-size-px", "--min-size", "--min_size", type=int, default=15, show_default=True,
            help="Smallest cell in px; -1 keeps all.",
        ),
        click.option(
            "--fix-small-masks", "--fix_small_masks", is_flag=True,
            help="Remove the cells that are too small, where Cellpose 3 removes others.",
        ),
        click.option(
            "--normalize", callback=parse_normalize, default="frame", show_default=True,
            help="frame, movie, none, or intensities LOW,HIGH.",
        ),
        click.option(
            "--percentiles", "--norm_percentile", nargs=2, type=float, default=(1.0, 99.0),
            show_default=True, help="What becomes 0 and 1.",
        ),
        click.option("--invert", is_flag=True, help="Invert after normalisation."),
        click.option("--denoise", is_flag=True, help="Restore frames first, with denoise_cyto3."),
        click.option(
            "--restoration", metavar="NAME",
            help="Restore frames first, with another network.",
        ),
        click.option(
            "--start-frame", "--start_frame", type=int, default=0,
            help="First frame, 0-based.",
        ),
        click.option("--end-frame", "--end_frame", type=int, help="Frame after the last."),
        click.option("--gpu", "--use_gpu", is_flag=True, help="Demand a GPU: CUDA, else MPS."),
        engine_options,
        click.option("--debug", is_flag=True, help="Keep flows and probabilities too."),
        click.option(
            "--restart", is_flag=True,
            help="Delete an earlier result instead of continuing it.",
        ),
        click.option("--frames-per-block", type=click.IntRange(1), help="Frames of one task."),
        click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing."),
        open_options,
        cluster_options,
        click.option(
            "--wait-for-workers", "wait_for_workers_s", type=click.FloatRange(1), metavar="SECONDS",
            help="End a run that is without a worker for so long. [default: 300, slurm: a week]",
        ),
    )):  # fmt: skip
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
