"""Link the cells of a result: overlaps by Dask, block by block, then one frame after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cypose_dask.errors import SettingsError
from cypose_dask.results import Layout, Result, Status, open_result
from cypose_dask.results.linking import (
    LINKERS,
    FrameOverlaps,
    LinkedCells,
    frame_overlaps,
    growth_curves,
    track_table,
)
from cypose_dask.results.naming import beside
from cypose_dask.results.pages import LabelPages
from cypose_dask.results.table import Columns, table_file
from cypose_dask.results.tracks import keep_tracks
from cypose_dask.run.each_block import Block, each_block
from cypose_dask.run.state import catch_up

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Linked", "link"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Linked:
    """What linking a result gave.

    Attributes
    ----------
    tracks : Path
        ``movie_tracks.parquet``: the track of every cell, which exports take.
    lineages : Path
        ``movie_lineages.csv``: a row for each track.
    growth : Path
        ``movie_growth.csv``: a row for each lineage and frame.
    n_tracks, n_divisions, n_lineages : int
        Over all positions.
    """

    tracks: Path
    lineages: Path
    growth: Path
    n_tracks: int
    n_divisions: int
    n_lineages: int


def link(
    result: Result | str | Path,
    *,
    gap: int = 1,
    linker: str = "overlap",
    client: Client | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Linked:
    """Find out which cells of a result are one cell over time, and which divided.

    It depends on the labels alone: not on blocks, workers or interruptions. Frames without labels
    are passed over.

    Parameters
    ----------
    result : Result, str or Path
        Of one plane.
    gap : int
        For how many frames a cell may be lost and still be found again.
    linker : {"overlap", "laptrack"}
        ``"overlap"`` is ours (`cypose_dask.results.linking`). ``"laptrack"`` is the package of
        that name, which has to be installed, on the same overlaps.
    client : distributed.Client or None
        None uses the active client; without one, this machine.
    progress : callable or None
        Called with frames done and their total.

    Returns
    -------
    Linked
        Three files beside the result; earlier ones are replaced.

    Raises
    ------
    SettingsError
        If the movie has several planes, `gap` is negative, or `linker` is unknown or not installed.
    ResultError
        If the result is damaged, or files cannot be written.
    RunError
        If the cluster loses its scheduler or too many workers.

    Examples
    --------
    >>> from cypose_dask.run import segment
    >>> link(segment(movie, tmp_path / "movie.zarr")).growth.name
    'movie_growth.csv'
    """
    result = result if isinstance(result, Result) else open_result(result)
    _check(result, gap, linker)
    catch_up(result)
    positions = [
        LINKERS[linker](frames, gap)
        for frames in _positions(result, gap, client=client, progress=progress)
    ]
    return _kept(result, positions, {"linker": linker, "gap": gap})


def _check(result: Result, gap: int, linker: str) -> None:
    if linker not in LINKERS:
        raise SettingsError(f"linker is {linker!r}; choose one of {', '.join(LINKERS)}.")
    if gap < 0:
        raise SettingsError(f"gap is {gap}; choose 0 or more frames.")
    if result.layout.planes > 1:
        raise SettingsError(
            f"{result.path} has {result.layout.planes} planes, whose cells are numbered plane by "
            "plane, and cells are linked over time only. Segment a movie of one plane."
        )


def _positions(
    result: Result,
    gap: int,
    *,
    client: Client | None,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Iterator[FrameOverlaps]]:
    """Yield the frames of one position after the other; each must be used up before the next."""
    work = partial(_compare, gap=gap)
    total, done = result.layout.frames * result.n_positions, 0

    def told() -> Iterator[tuple[Block, list[FrameOverlaps]]]:
        nonlocal done
        for block, frames in each_block(result, work, client=client):
            yield block, frames
            done += block.stop - block.start
            if progress:
                progress(done, total)

    for _, blocks in groupby(told(), key=lambda pair: pair[0].position):
        yield (frame for _, frames in blocks for frame in frames)


def _compare(path: Path, block: Block, gap: int) -> list[FrameOverlaps]:
    """Compare each frame of a block with the frames with labels before it; runs on a worker."""
    pages = LabelPages.of(open_result(path), block.position)
    done = np.flatnonzero(pages.status[:, 0] == Status.DONE)
    first, stop = np.searchsorted(done, (block.start, block.stop))
    held: dict[int, np.ndarray] = {}
    compared = []
    for i in range(first, stop):
        wanted = done[max(0, i - gap - 1) : i + 1].tolist()
        held = {t: held[t] if t in held else pages[t] for t in wanted}
        before = {t + pages.first: held[t] for t in wanted[:-1]}
        compared.append(frame_overlaps(wanted[-1] + pages.first, held[wanted[-1]], before))
    return compared


def _kept(result: Result, positions: list[LinkedCells], about: dict[str, object]) -> Linked:
    """Write the three files."""
    layout = result.layout
    scale = {"pixel_size_um": layout.pixel_size_um, "interval_s": layout.interval_s}
    for ending, table_of in (("_lineages.csv", track_table), ("_growth.csv", growth_curves)):
        with table_file(beside(result.path, ending)) as append:
            for position, cells in enumerate(positions):
                append(_of_position(layout, position, table_of(cells, **scale)))
    return Linked(
        tracks=keep_tracks(result, positions, about),
        lineages=beside(result.path, "_lineages.csv"),
        growth=beside(result.path, "_growth.csv"),
        n_tracks=sum(len(cells.parent) for cells in positions),
        n_divisions=sum(len(np.unique(cells.parent[cells.parent > 0])) for cells in positions),
        n_lineages=sum(len(np.unique(cells.lineage)) for cells in positions),
    )


def _of_position(layout: Layout, position: int, columns: Columns) -> Columns:
    """Return a table with the position in front of each row."""
    rows = len(next(iter(columns.values())))
    name = np.full(rows, layout.position_names[position], object)
    return {"position": np.full(rows, position), "position_name": name, **columns}
