"""``segment --dry-run``: what would be done, and where."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cypose_dask.results import OutputNames
    from cypose_dask.run import Job, Source

__all__ = ["show_plans"]


def show_plans(
    movies: Sequence[Source], output: Path | None, *, job: Job, cluster: dict[str, Any]
) -> int:
    """Print the plan and the outputs of each movie, and the job script; return the exit code.

    Parameters
    ----------
    movies : sequence of Source
    output : Path or None
        As for `segment_files`.
    job : Job
    cluster : dict
        Arguments of `connect`. Jobs are not submitted; their plans are made in this process.
    """
    from cypose_dask.run import SlurmJobs, connect
    from cypose_dask.run.directory import names_of

    named = zip(movies, names_of(movies, output), strict=True)
    on_slurm = isinstance(cluster["kind"], SlurmJobs)
    with nullcontext() if on_slurm else connect(**cluster) as client:
        planned = [_show(movie, names, job, client) for movie, names in named]
    if on_slurm:
        _show_script(cluster)
    return 0 if all(planned) else 1


def _show(movie: Source, names: OutputNames, job: Job, client: Any) -> bool:
    from cypose_dask.errors import CyposeError
    from cypose_dask.movies import open_movie
    from cypose_dask.run import make_plan

    try:
        opened = open_movie(movie.path, **job.open_options)
        plan = make_plan(opened, job.settings, job.options, client=client)
    except CyposeError as error:
        click.echo(f"refused   {movie.path}: {error}", err=True)
        return False
    click.echo("\n".join(plan.describe()))
    there = names.zarr.exists() and not job.options.restart
    click.echo(f"result    {names.zarr}{' (is there, and would be continued)' if there else ''}")
    click.echo(f"labels    {names.tif}")
    return True


def _show_script(cluster: dict[str, Any]) -> None:
    from cypose_dask.run.certificates import security_of
    from cypose_dask.run.clusters import job_script

    click.echo(f"job       {cluster.get('workers') or 1} at once, each of this script")
    click.echo(
        job_script(cluster["kind"], gpu=cluster["gpu"], security=security_of(cluster["tls"]))
    )
