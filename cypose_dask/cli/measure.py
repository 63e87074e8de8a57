"""``cypose-dask measure``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cypose_dask.cli.options import (
    a_process_a_core,
    cluster_options,
    quiet_libraries,
    take_cluster,
)

__all__ = ["command"]


@click.command("measure")
@click.argument("result", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="The .parquet or .csv to write. [default: NAME_cells.parquet beside the result]",
)  # fmt: skip
@click.option("--movie", metavar="FILE", help="Where the movie is now, if not where it was.")
@click.option("--no-intensities", is_flag=True, help="Measure labels alone, without the movie.")
@cluster_options
def command(
    result: Path, output: Path | None, movie: str | None, no_intensities: bool, **given: Any
) -> int:
    """Measure every cell of a result (a .zarr folder): a table with a row a cell and frame.

    Area, place, length and width along the cell's own axis, shape, whether it touches the border,
    and the intensity of every channel above the background; in pixels and um, with the time in s;
    after `link` also its track.

    Exit code 0 when every frame has labels, 1 when some have none.
    """
    quiet_libraries()
    from cypose_dask.cli.outcomes import printable
    from cypose_dask.cli.progress import frames_bar
    from cypose_dask.results import open_result
    from cypose_dask.results.handoff import frames_without_labels
    from cypose_dask.run import connect, measure

    opened, cluster = open_result(result), take_cluster(given)
    with connect(**a_process_a_core(cluster)) as client, frames_bar() as show:
        measured = measure(
            opened,
            output,
            movie=movie,
            intensities=not no_intensities,
            client=client,
            progress=show,
        )
    click.echo(f"measured  {measured.rows} cells{'' if measured.tracked else ', not linked'}")
    click.echo(f"table     {printable(measured.path)}")
    without = frames_without_labels(opened)
    for line in without:
        click.echo(f"warning   {line}, no rows (frames count from 0, as in the movie)", err=True)
    return 1 if without else 0
