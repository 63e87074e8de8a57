"""``cypose-dask report``."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("report")
@click.argument("result", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="The .html to write. [default: NAME_report.html beside the result]",
)  # fmt: skip
@click.option("--movie", metavar="FILE", help="Where the movie is now, if not where it was.")
@click.option(
    "--frames", type=click.IntRange(1, 600), default=60, show_default=True,
    help="Frames to picture, evenly over time and positions; flagged ones, at most 24, come on "
    "top.",
)  # fmt: skip
@click.option(
    "--picture-px", type=click.IntRange(64, 4096), default=720, show_default=True,
    help="Longest side of a picture, px.",
)  # fmt: skip
def command(
    result: Path, output: Path | None, movie: str | None, frames: int, picture_px: int
) -> int:
    """Write a report of a result (a .zarr folder): one HTML file that needs nothing else.

    It shows frames with outlines, curves over time, frames to look at, and how the result was made.
    Without the movie it shows labels alone.
    """
    from cypose_dask.cli.options import quiet_libraries
    from cypose_dask.cli.outcomes import printable
    from cypose_dask.run.report import write_report

    quiet_libraries()
    path = write_report(result, output, movie=movie, frames=frames, picture_px=picture_px)
    click.echo(f"report    {printable(path)}")
    return 0
