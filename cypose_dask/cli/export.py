"""``cypose-dask export``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cypose_dask.results import Result

__all__ = ["command"]


def parse_frames(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    """Turn ``0,10,20-25`` into a list of frames."""
    if text is None:
        return None
    try:
        ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is no list of frames; expected one such as 0,10,20-25."
        ) from error
    if any(len(end) > 2 or end[0] > end[-1] for end in ends):
        raise click.BadParameter(f"{text!r} has a range that is none; expected e.g. 20-25.")
    return [t for end in ends for t in range(end[0], end[-1] + 1)]


@click.command("export")
@click.argument("result", type=click.Path(path_type=Path))
@click.option(
    "--to", "target", default="tif", show_default=True,
    type=click.Choice(["tif", "ome-zarr", "seg-npy", "trackmate", "ctc", "cyan"]),
    help="labelled TIFs; movie and labels for napari; frames to correct in Cellpose's GUI; a "
         "hyperstack for TrackMate; a folder of the Cell Tracking Challenge; masks for CyAn.",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The .tif, or folder.")
@click.option(
    "--ids", type=click.Choice(["frame", "movie", "track"]),
    help="Number the cells of each frame from 1, or every cell of the movie, or keep the number "
         "of a linked cell. (tif, trackmate) [default: frame]",
)  # fmt: skip
@click.option("--frames", callback=parse_frames, metavar="LIST",
              help="Frames of the movie, such as 0,10,20-25. (seg-npy)")  # fmt: skip
@click.option("--every", type=click.IntRange(1), metavar="N", help="Every N-th frame. (seg-npy)")
@click.option(
    "--movie", type=click.Path(path_type=Path),
    help="Where the movie lies now, if it was moved. (all but tif and cyan)",
)  # fmt: skip
@click.option("--unlinked", is_flag=True, help="Make every cell of a frame a track. (ctc)")
@click.option("--debug", is_flag=True, help="Flows and probabilities too, of a debug run. (tif)")
@click.option("--allow-incomplete", is_flag=True, help="Leave frames without labels blank, or out.")
def command(
    result: Path, target: str, output: Path | None, allow_incomplete: bool, **given: Any
) -> int:
    """Write a result (a .zarr folder) for other programs: labelled TIFs without --to.

    Exit code 0 when every frame has labels, 1 when some are blank or left out.
    """
    from cypose_dask.results import open_result
    from cypose_dask.run.state import catch_up

    chosen = _TARGETS[target]
    given = {name: value for name, value in given.items() if value not in (None, False)}
    _require_taken(target, given)
    opened = open_result(result)
    catch_up(opened)
    place = output or result.with_name(f"{result.stem}{chosen.ending}")
    with _said_aloud():
        return chosen.write(opened, place, {**given, "allow_incomplete": allow_incomplete})


def _require_taken(target: str, given: dict[str, Any]) -> None:
    foreign = [name for name in given if name not in _TARGETS[target].takes]
    if foreign:
        raise click.UsageError(f"--{foreign[0]} means nothing with --to {target}.")
    if {"frames", "every"} <= set(given):
        raise click.UsageError("Choose frames with --frames or with --every.")


@contextmanager
def _said_aloud() -> Iterator[None]:
    """Print what the hand-off warns of."""
    log, handler = logging.getLogger("cypose_dask.results.handoff"), _Echo(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


class _Echo(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"warning   {record.getMessage()}", err=True)


# ---- the targets ---------------------------------------------------------------------------


def _tif(result: Result, place: Path, how: dict[str, Any]) -> int:
    from cypose_dask.results import export_debug_tifs, export_tif, tif_name
    from cypose_dask.results.blank import blank_pages, keep_blank_pages

    debug, place = how.pop("debug", False), tif_name(place)
    tifs = export_tif(result, place, **how)
    allowed = {"allow_incomplete": how["allow_incomplete"]}
    flows = export_debug_tifs(result, place, **allowed) if debug else []
    for path in (*tifs, *flows):
        click.echo(path)
    blank = blank_pages(result, place)
    for pages in blank:
        click.echo(f"warning   {pages}", err=True)
    keep_blank_pages(result, tifs, blank)
    return 1 if blank else 0


def _ome_zarr(result: Result, place: Path, how: dict[str, Any]) -> int:
    from cypose_dask.results import export_ome_zarr

    return _listed(result, export_ome_zarr(result, place, **how), "blank")


def _trackmate(result: Result, place: Path, how: dict[str, Any]) -> int:
    from cypose_dask.results import export_trackmate, tif_name

    return _listed(result, export_trackmate(result, tif_name(place), **how), "blank")


def _ctc(result: Result, place: Path, how: dict[str, Any]) -> int:
    from cypose_dask.results import export_ctc

    return _listed(result, export_ctc(result, place, **how), "blank")


def _cyan(result: Result, place: Path, how: dict[str, Any]) -> int:
    from cypose_dask.results import export_cyan

    return _listed(result, export_cyan(result, place, **how), "blank")


def _seg_npy(result: Result, place: Path, how: dict[str, Any]) -> int:
    from cypose_dask.results import export_seg_npy

    every, first = how.pop("every", None), result.start_frame
    if every:
        how["frames"] = list(range(first, first + result.layout.frames, every))
    images = export_seg_npy(result, place, **how)
    click.echo(f"wrote     {len(images)} frame{'' if len(images) == 1 else 's'} to {place}")
    name = f"'{place}'" if " " in str(place) else place
    click.echo(
        "\nNext\n"
        "  1. Open the .tif files in Cellpose's GUI (pip install 'cellpose[gui]<4'; python -m\n"
        "     cellpose). It shows our labels, and keeps what you correct in NAME_seg.npy.\n"
        f"  2. cypose-dask train {name} -o models/NAME"
    )
    return _told(result, "left out", how.get("frames"))


def _listed(result: Result, paths: list[Path], instead: str) -> int:
    for path in paths:
        click.echo(path)
    return _told(result, instead)


def _told(result: Result, instead: str, frames: list[int] | None = None) -> int:
    """Say which frames have no labels and what they are instead; return the exit code."""
    from cypose_dask.results.handoff import frames_without_labels

    without = frames_without_labels(result, frames)
    for line in without:
        click.echo(f"warning   {line}, {instead} (frames count from 0, as in the movie)", err=True)
    return 1 if without else 0


@dataclass(frozen=True, slots=True)
class _Target:
    """How a target is written, by which options, and its name without -o."""

    write: Callable[[Result, Path, dict[str, Any]], int]
    ending: str
    takes: tuple[str, ...]


_TARGETS = {
    "tif": _Target(_tif, "_cp_masks.tif", ("ids", "debug")),
    "ome-zarr": _Target(_ome_zarr, ".ome.zarr", ("movie",)),
    "seg-npy": _Target(_seg_npy, "_seg_npy", ("frames", "every", "movie")),
    "trackmate": _Target(_trackmate, "_trackmate.tif", ("ids", "movie")),
    "ctc": _Target(_ctc, "_ctc", ("unlinked", "movie")),
    "cyan": _Target(_cyan, "_cyan", ()),
}
