"""``cypose-dask frames``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from cypose_dask.cli.options import parse_channels, position_option, quiet_libraries

__all__ = ["command"]


@click.command("frames")
@click.argument("sources", nargs=-1, required=True, metavar="MOVIE...")
@click.option("-n", "--number", type=click.IntRange(1), default=20, show_default=True,
              help="Frames in all, dealt out evenly over the movies.")  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True,
    help="Folder for the TIFs and frames.json.",
)  # fmt: skip
@click.option("--crop", type=click.IntRange(16), metavar="PX",
              help="Square crops of this side, with cells in them, not whole frames.")  # fmt: skip
@click.option(
    "--channels", callback=parse_channels, metavar="NAME_OR_INDEX[,..]",
    help="Channels to write, 0-based or by name; all without.",
)  # fmt: skip
@click.option("--plane", type=click.IntRange(0), help="Plane (Z), 0-based; the middle one without.")
@click.option("--start-frame", type=click.IntRange(0), default=0, help="First frame, 0-based.")
@click.option("--end-frame", type=click.IntRange(1), help="Frame after the last.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Another seed chooses other frames.")  # fmt: skip
@click.option("--add", is_flag=True, help="Choose further frames into a folder that has some.")
@click.option("--recursive", is_flag=True, help="Look into folders of folders.")
@click.option("--axes", metavar="LETTERS", help="Meaning of the stored axes, e.g. TYX or TCYX.")
@click.option("--position", metavar="NAME_OR_INDEX", help="Take one position only.")
@click.option("--rgb", type=click.Choice(["mean"]), help="Average the samples of RGB(A).")
def command(sources: tuple[str, ...], output: Path, recursive: bool, **given: Any) -> int:
    """Pick frames that differ out of movies (files, folders or patterns), to annotate them.

    Sparse and dense, early and late, from all positions. A bounded number of frames is read,
    however long the movies are; damaged and blank ones are passed over. Files are called
    MOVIE_p000_t0123.tif after their place in the movie. Files that exist are never overwritten.
    """
    quiet_libraries()
    from cypose_dask.errors import MovieError
    from cypose_dask.learn import FrameRequest, save_frames
    from cypose_dask.movies import Movie
    from cypose_dask.run import find_movies

    request = FrameRequest(
        n=given["number"],
        crop_px=given["crop"],
        z=given["plane"],
        start_frame=given["start_frame"],
        end_frame=given["end_frame"],
        seed=given["seed"],
    )
    movies: list[Movie] = []
    failed = 0
    for source in find_movies(sources, recursive=recursive):
        try:
            movies.append(_open(source.path, given))
        except MovieError as error:
            failed += 1
            click.echo(f"left out  {source.path}: {error}", err=True)
    if not movies:
        return 1
    saved = save_frames(movies, output, request, add=given["add"])
    _report(saved, [movie.info.path for movie in movies])
    return 1 if failed else 0


def _open(path: str, given: dict[str, Any]) -> Any:
    from cypose_dask.movies import open_movie

    if given["channels"] == "mean":
        raise click.BadParameter("name the channels to write; a mean cannot be annotated.",
                                 param_hint="--channels")  # fmt: skip
    # Damaged frames are passed over one by one, and counted.
    return open_movie(
        path,
        axes=given["axes"],
        position=position_option(given["position"]),
        channels=given["channels"],
        rgb=given["rgb"],
        allow_damaged=True,
    )


def _report(saved: Any, paths: list[str]) -> None:
    for i, path in enumerate(paths):
        found = [entry for entry in saved.entries if entry["movie"] == i]
        click.echo(f"movie     {path}: {_about(found)}")
    for note in saved.notes:
        click.echo(f"note      {note}")
    if saved.looked_at:
        click.echo(f"looked at {saved.looked_at} frames")
    kept = f", {len(saved.kept)} were there and stay as they are" if saved.kept else ""
    click.echo(f"wrote     {_counted(len(saved.written), 'TIF')} to {saved.folder}{kept}")
    click.echo("\n".join(_next_steps(saved.folder)))


def _about(entries: list[dict[str, Any]]) -> str:
    if not entries:
        return "no frames"
    frames = _counted(len(entries), "frame")
    if entries[0]["window"]:
        frames = f"{_counted(len(entries), 'crop')} of {entries[0]['window'][2]} px"
    positions = _counted(len({entry["p"] for entry in entries}), "position")
    times = _between(sorted({str(entry["t"]) for entry in entries}, key=int))
    densities = sorted(entry["features"]["density"] for entry in entries)
    area = _between(list(dict.fromkeys(f"{density:.0%}" for density in densities)))
    return f"{frames}, t {times}, {positions}, cells on about {area} of the area"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _between(values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _next_steps(folder: Path) -> list[str]:
    name = f"'{folder}'" if " " in os.fspath(folder) else folder
    return [
        "",
        "Next",
        "  1. Outline every cell of these frames, those at the border too:",
        "     - Cellpose's GUI (pip install 'cellpose[gui]<4'; python -m cellpose) keeps",
        "       NAME_seg.npy beside each TIF. Let a model draw first and correct it: much faster.",
        "     - or napari: save the labels beside the TIF as NAME_cp_masks.tif.",
        f"  2. cypose-dask train {name} -o models/NAME",
    ]
