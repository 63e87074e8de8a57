"""``cypose-dask plan``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cypose_dask.cli.options import quiet_libraries, segmentation_options
from cypose_dask.cli.segment import make_job

if TYPE_CHECKING:
    from cypose_dask.results import OutputNames
    from cypose_dask.run import Estimate, Job, Source

__all__ = ["command"]

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.I)
_SIZES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def _parse_deadline(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """Turn ``6h``, ``90m``, ``1h30m`` or ``2d`` into seconds."""
    if text is None:
        return None
    match = _DURATION.fullmatch(text.replace(" ", ""))
    numbers = [int(number or 0) for number in match.groups()] if match else []
    seconds = sum(n * s for n, s in zip(numbers, _SECONDS.values(), strict=False))
    if not seconds:
        raise click.BadParameter(f"{text!r} is no time; give one like 6h, 90m, 1h30m or 2d.")
    return seconds


@click.command("plan")
@click.argument("sources", nargs=-1, required=True, metavar="MOVIE...")
@click.option(
    "--deadline", "deadline_s", callback=_parse_deadline, metavar="TIME",
    help="How many workers would be done in 6h, 90m, 1h30m or 2d.",
)  # fmt: skip
@segmentation_options
def command(
    sources: tuple[str, ...],
    output: Path | None,
    recursive: bool,
    deadline_s: int | None,
    **given: Any,
) -> int:
    """Try what `segment` would do on a few frames, and print what the whole would take.

    Takes the options of `segment`, and its cluster. Frames spread over each movie are segmented on
    all workers at once, into temporary folders there; nothing is written beside the movies.
    """
    quiet_libraries()
    from cypose_dask.cli.dry_run import show_plans
    from cypose_dask.run import connect, find_movies
    from cypose_dask.run.directory import names_of

    movies = find_movies(sources, recursive=recursive)
    job, cluster = make_job(given)
    if given["dry_run"]:
        return show_plans(movies, output, job=job, cluster=cluster)
    named = zip(movies, names_of(movies, output), strict=True)
    with connect(**cluster) as client:
        tried = [_try(movie, names, job=job, client=client) for movie, names in named]
    estimates = [found for found in tried if found]
    if len(estimates) > 1:
        click.echo("\n".join(_total(estimates)))
    if deadline_s and estimates:
        click.echo("\n".join(_deadline(estimates, deadline_s)))
    return 0 if len(estimates) == len(movies) else 1


def _try(movie: Source, names: OutputNames, *, job: Job, client: Any) -> Estimate | None:
    """Print what one movie would take; None if it would be refused."""
    from cypose_dask.errors import CyposeError, RunError
    from cypose_dask.movies import open_movie
    from cypose_dask.run import estimate

    try:
        opened = open_movie(movie.path, **job.open_options)
        options, store = job.options, names.zarr
        found = estimate(opened, job.settings, client=client, options=options, store=store)
    except RunError:
        raise  # no cluster: the next movie would fail like this one
    except CyposeError as error:
        click.echo(f"refused   {movie.path}: {error}", err=True)
        return None
    click.echo("\n".join([*found.plan.describe(), *_lines(found, names)]))
    return found


def _lines(found: Estimate, names: OutputNames) -> Iterator[str]:
    from cypose_dask.cli.progress import duration

    if found.frames_left < found.plan.n_frames:
        yield f"left      {found.frames_left} frames; the others are in {names.zarr}"
    yield (
        f"speed     {found.frames_per_s:.3g} frames/s on {_workers(found.workers)} with "
        f"{found.threads} blocks at once (timed on {found.frames_timed} frames)"
    )
    yield (
        f"memory    {_size(found.memory_bytes)} a worker were seen; a block takes about "
        f"{_size(found.block_bytes)}"
    )
    yield f"vram      {'-' if found.gpu_bytes is None else f'{_size(found.gpu_bytes)} a worker'}"
    yield f"disk      {_size(found.disk_bytes)} for results, {_free(names.zarr)}"
    yield f"time      {duration(found.seconds_left)}, and for the TIF at the end"


def _total(estimates: Sequence[Estimate]) -> Iterator[str]:
    from cypose_dask.cli.progress import duration

    yield f"all       {len(estimates)} movies, {sum(e.frames_left for e in estimates)} frames left"
    yield f"disk      {_size(sum(e.disk_bytes for e in estimates))} for results"
    yield f"time      {duration(sum(e.seconds_left for e in estimates))}"


def _deadline(estimates: Sequence[Estimate], deadline_s: int) -> Iterator[str]:
    from cypose_dask.cli.progress import duration
    from cypose_dask.run import workers_until

    number = workers_until(estimates, deadline_s)
    if not number:
        yield "deadline  no frame is left to segment"
        return
    needed_s = sum(e.seconds_left * e.workers for e in estimates) / number
    yield (
        f"deadline  {_workers(number)} like {'this' if estimates[0].workers == 1 else 'these'} in "
        f"{duration(deadline_s)}, if twice the workers are twice as fast"
    )
    if needed_s > deadline_s:
        yield (
            f"          not even then: there are no more blocks, and one each takes "
            f"{duration(needed_s)}"
        )


def _workers(number: int) -> str:
    return f"{number} worker{'s' if number != 1 else ''}"


def _free(path: Path) -> str:
    """Say how much room there is where a result will be."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    return f"{_size(shutil.disk_usage(folder).free)} are free in {folder}"


def _size(number: float) -> str:
    for unit, size in _SIZES:
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} bytes"
