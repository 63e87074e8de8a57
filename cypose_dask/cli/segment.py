"""``cypose-dask segment``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from cypose_dask.cli.like import liken
from cypose_dask.cli.options import (
    position_option,
    quiet_libraries,
    segmentation_options,
    take_cluster,
)
from cypose_dask.cli.progress import KINDS
from cypose_dask.cli.stopping import stop_requests

__all__ = ["command", "make_job"]

_RUN_OPTIONS = ("frames_per_block", "debug", "restart", "wait_for_workers_s")
# How long a run may be without a worker, s. Jobs wait in a queue for as long as others compute.
_PATIENCE_S, _QUEUE_S = 300.0, 7 * 86400.0


@click.command("segment")
@click.argument("sources", nargs=-1, required=True, metavar="MOVIE...")
@segmentation_options
@click.option("--preview", is_flag=True, help="Draw outlines over three frames, as PNG.")
@click.option("--report", is_flag=True, help="Write a report, as `cypose-dask report` does.")
@click.option("--link", is_flag=True, help="Link cells over time, as `cypose-dask link` does.")
@click.option(
    "--progress", type=click.Choice(KINDS), default="auto", show_default=True,
    help="How a run tells how far it is; json is one object a line, for programs.",
)  # fmt: skip
def command(sources: tuple[str, ...], output: Path | None, recursive: bool, **given: Any) -> int:
    """Segment movies: files, folders, or a quoted pattern such as 'dir/img*.tif' (one sequence).

    Writes NAME_cp_masks.tif (labels: 0 is background, 1..N are cells), NAME.zarr, NAME_run.json and
    NAME.log beside each movie, or where -o says. Run the same command again to continue a run that
    stopped.
    """
    quiet_libraries()
    from cypose_dask.cli.dry_run import show_plans
    from cypose_dask.cli.outcomes import summarise
    from cypose_dask.cli.progress import make_reporter, watcher_of
    from cypose_dask.cli.run_log import RunLog
    from cypose_dask.run import connect, find_movies, segment_files

    movies = find_movies(sources, recursive=recursive)
    job, cluster = make_job(given)
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
        if given["link"]:
            _link(outcomes, client, to_stderr=as_json)
    if given["preview"]:
        _draw(outcomes, job.open_options, to_stderr=as_json)
    if given["report"]:
        _report(outcomes, to_stderr=as_json)
    return summarise(outcomes, quiet=as_json)


def make_job(given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Build the job of a command line, and the arguments of `connect`.

    `given` holds the options by name; those of the cluster are taken out of it.
    """
    from cypose_dask.run import Gpus, Job, SlurmJobs
    from cypose_dask.settings import RunOptions, Settings

    cluster = take_cluster(given)
    given["gpu"] = cluster["gpu"] = given["gpu"] or isinstance(cluster["kind"], Gpus)
    given["wait_for_workers_s"] = given["wait_for_workers_s"] or (
        _QUEUE_S if isinstance(cluster["kind"], SlurmJobs) else _PATIENCE_S
    )
    settings = {field.name: given[field.name] for field in fields(Settings) if field.name in given}
    settings |= {"channels": _channels(given), "denoise": _restoration(given)}
    job = Job(
        settings=Settings(**liken(settings, given["like"])),
        options=RunOptions(**{n: given[n] for n in _RUN_OPTIONS}),
        open_options={
            "axes": given["axes"],
            "position": position_option(given["position"]),
            "rgb": given["rgb"],
            "allow_damaged": given["allow_damaged"],
        },
    )
    return job, cluster


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


def _link(outcomes: list[Any], client: Any, *, to_stderr: bool) -> None:
    from cypose_dask.cli.link import echo_linked
    from cypose_dask.results import open_result
    from cypose_dask.run import link

    def link_one(outcome: Any) -> None:
        result = open_result(outcome.names.zarr)
        echo_linked(link(result, client=client), result.layout, to_stderr=to_stderr)

    _for_each(outcomes, link_one, "not linked")


def _report(outcomes: list[Any], *, to_stderr: bool) -> None:
    from cypose_dask.run import write_report

    def report_one(outcome: Any) -> None:
        path = write_report(outcome.names.zarr, movie=outcome.source)
        click.echo(f"report    {path}", err=to_stderr)

    _for_each(outcomes, report_one, "no report")


def _for_each(outcomes: list[Any], act: Callable[[Any], None], otherwise: str) -> None:
    """Act on each movie that was segmented; what fails is told, for the labels are there."""
    from cypose_dask.errors import CyposeError

    for outcome in outcomes:
        if outcome.error is None:
            try:
                act(outcome)
            except CyposeError as error:
                click.echo(f"warning   {otherwise}: {error}", err=True)


def _draw(outcomes: list[Any], open_options: dict[str, Any], *, to_stderr: bool) -> None:
    from cypose_dask.movies import open_movie
    from cypose_dask.results import save_preview
    from cypose_dask.results.naming import beside

    for outcome in outcomes:
        if outcome.error is None:
            movie = open_movie(outcome.source, **open_options)
            store = outcome.names.zarr
            path = save_preview(store, movie, beside(store, "_preview.png"))
            click.echo(f"preview   {path}", err=to_stderr)
