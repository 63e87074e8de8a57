"""``cypose-dask link``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cypose_dask.cli.options import (
    a_process_a_core,
    cluster_options,
    quiet_libraries,
    take_cluster,
)

if TYPE_CHECKING:
    from cypose_dask.results import Layout
    from cypose_dask.run import Linked

__all__ = ["command", "echo_linked"]


@click.command("link")
@click.argument("result", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--gap", type=click.IntRange(0), default=1, show_default=True,
    help="For how many frames a cell may be lost and be found again.",
)  # fmt: skip
@click.option(
    "--linker", type=click.Choice(["overlap", "laptrack"]), default="overlap", show_default=True,
    help="Ours, or LapTrack (pip install 'cypose-dask[laptrack]'); both go by overlaps.",
)  # fmt: skip
@cluster_options
def command(result: Path, gap: int, linker: str, **given: Any) -> int:
    """Link the cells of a result (a .zarr folder) over time, with their divisions.

    Writes NAME_tracks.parquet (the track of every cell, which `export` takes), NAME_lineages.csv
    (a row for each track: parent, birth, division, growth rate) and NAME_growth.csv (a row for each
    lineage and frame: cells and area).

    Exit code 0 when every frame has labels, 1 when some were passed over.
    """
    quiet_libraries()
    from cypose_dask.cli.progress import frames_bar
    from cypose_dask.results import open_result
    from cypose_dask.results.handoff import frames_without_labels
    from cypose_dask.run import connect, link

    opened, cluster = open_result(result), take_cluster(given)
    with connect(**a_process_a_core(cluster)) as client, frames_bar() as show:
        linked = link(opened, gap=gap, linker=linker, client=client, progress=show)
    echo_linked(linked, opened.layout)
    without = frames_without_labels(opened)
    for line in without:
        click.echo(
            f"warning   {line}, passed over (frames count from 0, as in the movie)", err=True
        )
    return 1 if without else 0


def echo_linked(linked: Linked, layout: Layout, *, to_stderr: bool = False) -> None:
    """Print what linking gave, and which columns are empty."""
    numbers = {
        "track": linked.n_tracks,
        "lineage": linked.n_lineages,
        "division": linked.n_divisions,
    }
    tracks, lineages, divisions = (f"{n} {w}{'' if n == 1 else 's'}" for w, n in numbers.items())
    click.echo(f"linked    {tracks} of {lineages}, {divisions}", err=to_stderr)
    for name in ("tracks", "lineages", "growth"):
        click.echo(f"{name:<10}{getattr(linked, name)}", err=to_stderr)
    unknown = {"pixel size": layout.pixel_size_um, "time between frames": layout.interval_s}
    for what, value in unknown.items():
        if value is None:
            click.echo(
                f"note      the movie does not say its {what}; columns that need it are empty",
                err=True,
            )
