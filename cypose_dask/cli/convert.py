"""``cypose-dask convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cypose_dask.cli.options import (
    cluster_options,
    open_options,
    position_option,
    quiet_libraries,
    take_cluster,
)

__all__ = ["command"]


@click.command("convert")
@click.argument("sources", nargs=-1, required=True, metavar="MOVIE...")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True,
    help="Folder for the .zarr of each movie.",
)  # fmt: skip
@click.option("--recursive", is_flag=True, help="Look into folders of folders.")
@open_options
@cluster_options
def command(sources: tuple[str, ...], output: Path, recursive: bool, **given: Any) -> int:
    """Convert movies (files, folders or patterns) to OME-Zarr 0.5: NAME.ome.zarr each."""
    quiet_libraries()
    from cypose_dask.run import connect, convert_files, find_movies

    cluster = take_cluster(given)
    given["position"] = position_option(given["position"])
    movies = find_movies(sources, recursive=recursive)
    with connect(**cluster) as client:
        outcomes = convert_files(movies, output, client=client, open_options=given)
    for source, path, error in outcomes:
        click.echo(f"{source}: {error or path}", err=error is not None)
    return 1 if any(error for *_, error in outcomes) else 0
