"""``cypose-dask preview``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cypose_dask.results import Result

__all__ = ["command"]

_PANELS, _FRAMES = 3, 100


@click.command("preview")
@click.argument("result", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="A .png with frames side by side, or a film: .gif or .apng. [default: NAME_preview.png "
    "beside the result]",
)  # fmt: skip
@click.option("--movie", metavar="FILE", help="Where the movie is now, if not where it was.")
@click.option("--position", metavar="NAME_OR_INDEX", default="0", help="[default: the first]")
@click.option(
    "--frames", type=click.IntRange(1, 600), metavar="N",
    help=f"How many at most, evenly over time. [default: {_PANELS}; {_FRAMES} of a film]",
)  # fmt: skip
@click.option("--picture-px", type=click.IntRange(64, 4096), help="Longest side of a film, px.")
@click.option("--fps", type=click.FloatRange(0.1, 50), help="Frames of a film in a second.")
def command(
    result: Path,
    output: Path | None,
    movie: str | None,
    position: str,
    frames: int | None,
    picture_px: int | None,
    fps: float | None,
) -> int:
    """Draw one position of a result (a .zarr folder) with the outlines of its cells.

    Without the movie it draws coloured labels.
    """
    from cypose_dask.cli.outcomes import printable
    from cypose_dask.results import open_result, save_animation, save_preview
    from cypose_dask.results.animation import ENDINGS
    from cypose_dask.results.naming import beside
    from cypose_dask.results.preview import evenly
    from cypose_dask.results.source import movie_if_found
    from cypose_dask.run.state import catch_up

    path = output or beside(result, "_preview.png")
    given = {"picture_px": picture_px, "frames_per_s": fps}
    of_film: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    is_film = path.suffix.lower() in ENDINGS
    _check(path, is_film=is_film, has_film_options=bool(of_film))
    opened = open_result(result)
    catch_up(opened)
    where = _index(opened, position)
    source, note = movie_if_found(opened, movie)
    if note:
        click.echo(f"note      {note}", err=True)
    if is_film:
        save_animation(opened, source, path, position=where, frames=frames or _FRAMES, **of_film)
    else:
        times = evenly(opened.layout.frames, frames or _PANELS)
        save_preview(opened, source, path, position=where, times=times)
    click.echo(f"preview   {printable(path)}")
    return 0


def _check(path: Path, *, is_film: bool, has_film_options: bool) -> None:
    if not is_film and path.suffix.lower() != ".png":
        raise click.UsageError(f"{path} is no picture; expected a name in .png, .gif or .apng.")
    if has_film_options and not is_film:
        raise click.UsageError("--picture-px and --fps are of a film (-o NAME.gif or NAME.apng).")


def _index(result: Result, position: str) -> int:
    """Return the index of a position that is named, or counted from 0."""
    names = result.layout.position_names
    if position in names and names.count(position) == 1:
        return names.index(position)
    if position.isdecimal() and int(position) < len(names):
        return int(position)
    listed = ", ".join(f"{i} ({name})" for i, name in enumerate(names[:10]))
    raise click.UsageError(f"There is no position {position}; choose one of {listed}.")
