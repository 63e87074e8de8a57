"""``cypose-dask explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = ["command"]


@click.command("explain")
@click.argument("result", metavar="RESULT", type=click.Path(exists=True, path_type=Path))
@click.option("--frame", "t", type=click.IntRange(0), metavar="T",
              help="Frame that the calls are about. [default: the first]")  # fmt: skip
@click.option("--position", "p", type=click.IntRange(0), default=0, show_default=True,
              help="Its position, by index.")  # fmt: skip
@click.option("--plane", "z", type=click.IntRange(0), default=0, show_default=True,
              help="Its plane, by index.")  # fmt: skip
@click.option("--python", "only", flag_value="python", help="Print the Python call alone.")
@click.option("--command", "only", flag_value="command", help="Print the command alone.")
def command(result: Path, t: int | None, p: int, z: int, only: str | None) -> int:
    """Show the Cellpose command and Python call that give the labels of a result.

    The command is for an image that holds the frame alone, as `cypose-dask export RESULT --to
    seg-npy` writes it. What Cellpose cannot say, or does otherwise, follows in words.
    """
    from cypose_dask.likeness import equal_calls
    from cypose_dask.results import open_result

    opened = open_result(result)
    t = opened.start_frame if t is None else t
    _require_frame(opened, (t, p, z))
    image = f"{opened.path.stem}_p{p:03d}_t{t:04d}{_plane(opened, z)}.tif"
    calls = equal_calls(opened.attributes.get("plan", {}), (t, p, z), image)
    if only == "python":
        click.echo(calls.python, nl=False)
    elif only == "command":
        click.echo(_said(calls, image))
        return 0 if calls.command else 1
    else:
        _show(calls, image)
    return 0


def _show(calls: Any, image: str) -> None:
    notes = [f"# {note}" for note in calls.notes]
    made = f"# where {image} is written by: cypose-dask export RESULT --to seg-npy"
    lines = ["# Cellpose's command line", _said(calls, image), *([made] if calls.command else [])]
    click.echo("\n".join([*lines, "", "# Python", calls.python, "# What differs", *notes]))


def _said(calls: Any, image: str) -> str:
    if calls.command:
        return str(calls.command)
    return "\n".join(["# It cannot say this:", *(f"# {why}" for why in calls.unsaid)])


def _require_frame(result: Any, place: tuple[int, int, int]) -> None:
    from cypose_dask.errors import SettingsError

    t, p, z = place
    layout, first = result.layout, result.start_frame
    last = first + layout.frames - 1
    if not (first <= t <= last and p < result.n_positions and z < layout.planes):
        raise SettingsError(
            f"{result.path} has no frame {t} at position {p}, plane {z}: it has frames {first} to "
            f"{last}, {result.n_positions} positions and {layout.planes} planes."
        )


def _plane(result: Any, z: int) -> str:
    return f"_z{z:02d}" if result.layout.planes > 1 else ""
