"""``cypose-dask diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = ["command"]


@click.command("diff")
@click.argument("a", type=click.Path(exists=True, path_type=Path))
@click.argument("b", type=click.Path(exists=True, path_type=Path))
@click.option("-n", "--frames", type=click.IntRange(1), default=3, show_default=True,
              help="Frames to segment with each setting.")  # fmt: skip
@click.option("--movie", type=click.Path(path_type=Path), help="Where the movie lies now.")
@click.option("--gpu", is_flag=True, help="Demand a GPU: CUDA, else MPS.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False),
              help="Write it all as JSON.")  # fmt: skip
def command(a: Path, b: Path, frames: int, **given: Any) -> int:
    """Say which settings differ between two results, and what each does to the labels.

    A and B are results (.zarr) or files of Cellpose's GUI (_seg.npy). A few frames are segmented
    with A's settings, and again with one of B's at a time: cells lost and gained, and how well the
    others fit (AP and mean IoU, with A as the truth).
    """
    from cypose_dask.cli.options import quiet_libraries
    from cypose_dask.learn import diff_sides

    quiet_libraries()
    sides, movie = _read(a, b, given["movie"])
    found = diff_sides(*sides, movie, frames=frames, gpu=given["gpu"], progress=_progress)
    click.echo("\n".join(_lines(found)))
    if given["json_path"]:
        from cypose_dask.results.atomic import write_json

        write_json(given["json_path"], {"a": str(a), "b": str(b), **found.to_dict()})
        click.echo(f"json      {given['json_path']}")
    return 0


def _read(a: Path, b: Path, movie: Path | None) -> tuple[list[Any], Any]:
    """Read both sides, and the pixels of A, or those of B where A has none."""
    from cypose_dask.errors import MovieNotFoundError
    from cypose_dask.learn import read_side
    from cypose_dask.results.source import movie_of

    (one, its), (other, others) = (read_side(path, lambda r: movie_of(r, movie)) for path in (a, b))
    pixels = others if one.result is None and other.result is not None else its or others
    if pixels is None:
        raise MovieNotFoundError(
            f"The image of {a} is not beside it, nor where the file says. Put it there."
        )
    if one.result and other.result and not _is_same(its, others):
        click.echo("note      A and B are of different movies; the frames are A's", err=True)
    return [one, other], pixels


def _progress(name: str) -> None:
    click.echo(f"segment   with {name}", err=True)


def _lines(found: Any) -> list[str]:
    frames = ", ".join(f"t{t} p{p} z{z}" for t, p, z in found.places)
    if not found.effects:
        return ["same      no setting differs", *(f"note      {note}" for note in found.notes)]
    tried = [effect for effect in found.effects if effect.counts]
    rows = [("setting", "A", "B", "cells", "lost", "gained", "AP@0.5", "IoU"), *map(_row, tried)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
             for row in rows] if tried else []  # fmt: skip
    rest = [
        f"not tried {one.name}: {one.a} in A, {one.b} in B. {one.why_not}"
        for one in found.effects
        if not one.counts
    ]
    return [f"frames    {frames}", *table, *rest, *(f"note      {note}" for note in found.notes)]


def _row(effect: Any) -> tuple[str, ...]:
    counts = effect.counts
    return (
        effect.name, effect.a, effect.b, f"{counts.true_cells} -> {counts.predicted_cells}",
        str(effect.lost), str(effect.gained), f"{counts.ap[0]:.3f}", f"{counts.sq:.3f}",
    )  # fmt: skip


def _is_same(one: Any, other: Any) -> bool:
    first, second = one.info.fingerprint, other.info.fingerprint
    return bool(first.content_sha256 == second.content_sha256)
