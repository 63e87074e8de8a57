"""``cypose-dask info``."""

from __future__ import annotations

from typing import Any

import click

from cypose_dask.cli.options import open_options, position_option, quiet_libraries

__all__ = ["command"]


@click.command("info")
@click.argument("sources", nargs=-1, required=True, metavar="MOVIE...")
@click.option("--model", default="default", show_default=True, help="Model of the plan shown.")
@open_options
def command(sources: tuple[str, ...], model: str, **given: Any) -> int:
    """Show axes, sizes, channels and positions of movies, and what `segment` would do."""
    quiet_libraries()
    from cypose_dask.run import find_movies

    failed = [source for source in find_movies(sources) if not _show(source.path, model, given)]
    return 1 if failed else 0


def _show(source: str, model: str, given: dict[str, Any]) -> bool:
    from cypose_dask.errors import CyposeError
    from cypose_dask.movies import open_movie
    from cypose_dask.run import make_plan
    from cypose_dask.settings import Settings

    given = {**given, "position": position_option(given["position"])}
    try:
        movie = open_movie(source, **given)
    except CyposeError as error:
        click.echo(f"{source}\n  cannot be segmented: {error}", err=True)
        return False
    click.echo("\n".join(_facts(movie.info)))
    try:
        lines = make_plan(movie, Settings(model=model)).describe()[1:]
    except CyposeError as error:
        click.echo(f"  would be refused: {error}")
        return False
    click.echo("  segment would use")
    click.echo("\n".join(f"    {line}" for line in lines))
    return True


def _facts(info: Any) -> list[str]:
    sizes = ", ".join(f"{axis} {size}" for axis, size in info.sizes.items())
    frames = info.sizes["T"] * info.sizes["P"] * info.sizes["Z"]
    gigabytes = frames * info.sizes["C"] * info.sizes["Y"] * info.sizes["X"] * info.dtype.itemsize
    return [
        info.path,
        f"  format      {info.format}, {info.dtype}, {gigabytes / 1e9:.3g} GB of pixels",
        f"  sizes       {sizes}",
        f"  channels    {', '.join(f'{i} {name}' for i, name in enumerate(info.channel_names))}",
        f"  positions   {', '.join(f'{i} {name}' for i, name in enumerate(info.position_names))}",
        f"  pixel size  {_known(info.pixel_size_um, 'um')}, z step {_known(info.z_step_um, 'um')}",
        f"  interval    {_known(info.interval_s, 's')}",
        *(f"  note        {note}" for note in info.notes),
        *([f"  damaged     {len(info.damaged)} frames"] if info.damaged else []),
    ]


def _known(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:g} {unit}"
