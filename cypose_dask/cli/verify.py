"""``cypose-dask verify``."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("verify")
@click.argument("result", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--tif", type=click.Path(path_type=Path), help="The exported TIF, if not beside the result."
)
@click.option("--movie", metavar="FILE", help="Where the movie is now, if not where it was.")
@click.option(
    "--frames", type=click.IntRange(0), default=3, show_default=True,
    help="Frames to segment again and compare.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of their choice."
)
def command(result: Path, tif: Path | None, movie: str | None, frames: int, seed: int) -> int:
    """Read a result (a .zarr folder), its journal and TIFs again, and check them to the pixel.

    Exit code 0 when all is well, 1 when something was found.
    """
    from cypose_dask.cli.options import quiet_libraries
    from cypose_dask.cli.outcomes import printable
    from cypose_dask.run.checks import iter_findings

    quiet_libraries()
    faults = 0
    for finding in iter_findings(result, tif=tif, movie=movie, frames=frames, seed=seed):
        faults += finding.is_fault
        kind = "fault" if finding.is_fault else "note"
        click.echo(f"{kind:<10}{printable(finding)}", err=finding.is_fault)
    summary = f"{faults} fault{'s' if faults != 1 else ''} found" if faults else "no fault found"
    click.echo(f"verified  {printable(result)}: {summary}")
    return 1 if faults else 0
