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
    """Write the labelled TIFs of a result (a .zarr folder) again.

    Exit code 0 when every frame has labels, 1 when pages are blank.
    """
    from cypose_dask.results import export_debug_tifs, export_tif, open_result, tif_name
    from cypose_dask.results.blank import blank_pages, keep_blank_pages
    from cypose_dask.run.state import catch_up

    opened = open_result(result)
    catch_up(opened)
    target = tif_name(output) if output else result.with_name(f"{result.stem}_cp_masks.tif")
    tifs = export_tif(opened, target, allow_incomplete=allow_incomplete)
    flows = export_debug_tifs(opened, target, allow_incomplete=allow_incomplete) if debug else []
    for path in (*tifs, *flows):
        click.echo(path)
    blank = blank_pages(opened, target)
    for pages in blank:
        click.echo(f"warning   {pages}", err=True)
    keep_blank_pages(opened, tifs, blank)
    return 1 if blank else 0
