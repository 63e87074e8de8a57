"""``cypose-dask export``."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("export")
@click.argument("result", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The .tif to write.")
@click.option("--debug", is_flag=True, help="Write flows and probabilities too (of a debug run).")
@click.option("--allow-incomplete", is_flag=True, help="Leave frames without labels blank.")
def command(result: Path, output: Path | None, debug: bool, allow_incomplete: bool) -> int:
    """Write the labelled TIFs of a result (a .zarr folder) again."""
    from cypose_dask.results import export_debug_tifs, export_tif, open_result, tif_name

    opened = open_result(result)
    target = tif_name(output) if output else result.with_name(f"{result.stem}_cp_masks.tif")
    written = export_tif(opened, target, allow_incomplete=allow_incomplete)
    if debug:
        written += export_debug_tifs(opened, target, allow_incomplete=allow_incomplete)
    for path in written:
        click.echo(path)
    blank = opened.frames_not_done()
    for t, position, z, status in blank:
        click.echo(f"blank: t={t} position={position} z={z} ({status.name.lower()})", err=True)
    return 1 if blank else 0
