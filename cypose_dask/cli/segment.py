"""``cypose-dask segment``."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from cypose_dask.cli.options import (
    cluster_options,
    engine_options,
    open_options,
    parse_channels,
    parse_diameter,
    parse_normalize,
    position_option,
    quiet_libraries,
    take_cluster,
)
from cypose_dask.cli.progress import KINDS
from cypose_dask.cli.stopping import stop_requests

__all__ = ["command"]

_RUN_OPTIONS = ("frames_per_block", "debug", "restart", "wait_for_workers_s")
# How long a run may be without a worker, s. Jobs wait in a queue for as long as others compute.
_PATIENCE_S, _QUEUE_S = 300.0, 7 * 86400.0


@click.command("segment")
@click.argument("sources", nargs=-1, required=True, metavar="MOVIE...")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A .tif, or a folder.")
@click.option("--recursive", is_flag=True, help="Look into folders of folders.")
@click.option(
    "--model", "--pretrained_model", "--pretrained-model", default="default", show_default=True,
    help="Bundled or Cellpose name, or a path to weights.",
)  # fmt: skip
@click.option(
    "--channels", callback=parse_channels, metavar="NAME_OR_INDEX[,..]",
    help="Channels for the network, 0-based or by name, or 'mean'.",
)  # fmt: skip
@click.option("--chan", type=click.IntRange(0), help="As in Cellpose: 1-based, 0 is the mean.")
@click.option("--chan2", type=click.IntRange(0), help="As in Cellpose: 1-based, 0 is none.")
@click.option(
    "--diameter", callback=parse_diameter, default="model", show_default=True,
    help="Cell diameter in px, 'model' (as trained) or 'estimate' (0 too).",
)  # fmt: skip
@click.option("--niter", type=click.FloatRange(0), help="Steps of the flow dynamics; 0 is auto.")
@click.option(
    "--flow-threshold", "--flow_threshold", type=float, default=0.75, show_default=True,
    help="Largest flow error of a cell; 0 turns the check off.",
)  # fmt: skip
@click.option(
    "--cellprob-threshold", "--cellprob_threshold", type=float, default=0.0, show_default=True,
    help="Pixels with a larger logit belong to cells.",
)  # fmt: skip
@click.option(
    "--min-size-px", "--min-size", "--min_size", type=int, default=15, show_default=True,
    help="Smallest cell in px; -1 keeps all.",
)  # fmt: skip
@click.option(
    "--normalize", callback=parse_normalize, default="frame", show_default=True,
    help="frame, movie, none, or intensities LOW,HIGH.",
)  # fmt: skip
@click.option(
    "--percentiles", "--norm_percentile", nargs=2, type=float, default=(1.0, 99.0),
    show_default=True, help="What becomes 0 and 1.",
)  # fmt: skip
@click.option("--invert", is_flag=True, help="Invert after normalisation.")
@click.option("--denoise", is_flag=True, help="Restore frames first, with denoise_cyto3.")
@click.option("--restoration", metavar="NAME", help="Restore frames first, with another network.")
@click.option("--start-frame", "--start_frame", type=int, default=0, help="First frame, 0-based.")
@click.option("--end-frame", "--end_frame", type=int, help="Frame after the last.")
@click.option("--gpu", "--use_gpu", is_flag=True, help="Demand a GPU: CUDA, else MPS.")
@engine_options
@click.option("--debug", is_flag=True, help="Keep flows and probabilities too.")
@click.option("--preview", is_flag=True, help="Draw outlines over three frames, as PNG.")
@click.option("--restart", is_flag=True, help="Delete an earlier result instead of continuing it.")
@click.option("--frames-per-block", type=click.IntRange(1), help="Frames of one task.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option(
    "--progress", type=click.Choice(KINDS), default="auto", show_default=True,
    help="How a run tells how far it is; json is one object a line, for programs.",
)  # fmt: skip
@open_options
@cluster_options
@click.option(
    "--wait-for-workers", "wait_for_workers_s", type=click.FloatRange(1), metavar="SECONDS",
    help="End a run that is without a worker for so long. [default: 300, slurm: a week]",
)  # fmt: skip
def command(sources: tuple[str, ...], output: Path | None, recursive: bool, **given: Any) -> int:
    """Segment movies: files, folders, or a quoted pattern such as 'dir/img*.tif' (one sequence).

    Writes NAME_cp_masks.tif (labels: 0 is background, 1..N are cells), NAME.zarr, NAME_run.json and
    NAME.log beside each movie, or where -o says. Run the same command again to continue a run that
    stopped.
    """
    quiet_libraries()
    from cypose_dask.cli.dry_run import show_plans
    from cypose_dask.cli.progress import make_reporter, watcher_of
    from cypose_dask.cli.report import summarise
    from cypose_dask.cli.run_log import RunLog
    from cypose_dask.run import Gpus, SlurmJobs, connect, find_movies, segment_files

    movies = find_movies(sources, recursive=recursive)
    cluster = take_cluster(given)
    given["gpu"] = cluster["gpu"] = given["gpu"] or isinstance(cluster["kind"], Gpus)
    given["wait_for_workers_s"] = given["wait_for_workers_s"] or (
        _QUEUE_S if isinstance(cluster["kind"], SlurmJobs) else _PATIENCE_S
    )
    job = make_job(given)
    if given["dry_run"]:
        return show_plans(movies, output, job=job, cluster=cluster)
    with (
        closing(make_reporter(given["progress"], len(movies))) as reporter,
        RunLog(movies, output) as log,
        stop_requests(job.stop),
        connect(**cluster) as client,
    ):
        reporter.cluster(client.dashboard_link)
        job = replace(job, watcher=watcher_of(reporter, log))
        outcomes = segment_files(movies, output, client=client, job=job)
    as_json = given["progress"] == "json"
    if given["preview"]:
        _draw(outcomes, job.open_options, to_stderr=as_json)
    return summarise(outcomes, quiet=as_json)


def make_job(given: dict[str, Any]) -> Any:
    """Build the job of a command line; `given` holds its options by name."""
    from cypose_dask.run import Job
    from cypose_dask.settings import RunOptions, Settings

    settings = {field.name: given[field.name] for field in fields(Settings) if field.name in given}
    return Job(
        settings=Settings(
            **settings | {"channels": _channels(given), "denoise": _restoration(given)}
        ),
        options=RunOptions(**{n: given[n] for n in _RUN_OPTIONS}),
        open_options={
            "axes": given["axes"],
            "position": position_option(given["position"]),
            "rgb": given["rgb"],
            "allow_damaged": given["allow_damaged"],
        },
    )


def _channels(given: dict[str, Any]) -> Any:
    """Merge --channels with Cellpose's 1-based --chan and --chan2."""
    chan, chan2 = given["chan"], given["chan2"]
    if chan is None and chan2 is None:
        return given["channels"]
    if given["channels"] is not None:
        raise click.UsageError("Give --channels (0-based) or --chan and --chan2 (1-based).")
    if not chan:
        if chan2:
            raise click.UsageError("--chan2 needs --chan of at least 1, as in Cellpose.")
        return "mean"
    return (chan - 1, chan2 - 1) if chan2 else (chan - 1,)


def _restoration(given: dict[str, Any]) -> str | None:
    from cypose_dask.settings import DEFAULT_RESTORATION

    return given["restoration"] or (DEFAULT_RESTORATION if given["denoise"] else None)


def _draw(outcomes: list[Any], open_options: dict[str, Any], *, to_stderr: bool) -> None:
    from cypose_dask.movies import open_movie
    from cypose_dask.results import save_preview

    for outcome in outcomes:
        if outcome.error is None:
            movie = open_movie(outcome.source, **open_options)
            name = f"{outcome.names.zarr.stem}_preview.png"
            path = save_preview(outcome.names.zarr, movie, outcome.names.zarr.with_name(name))
            click.echo(f"preview   {path}", err=to_stderr)
