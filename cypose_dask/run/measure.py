"""Measure every cell of a result: frames by Dask, block by block, into one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cypose_dask.movies import Movie
from cypose_dask.results import Result, Status, open_result
from cypose_dask.results.linking import LinkedCells
from cypose_dask.results.measuring import column_names, measure_frame
from cypose_dask.results.naming import beside
from cypose_dask.results.pages import LabelPages
from cypose_dask.results.source import frame_or_blank, movie_of
from cypose_dask.results.table import Columns, require_table_name, table_file
from cypose_dask.results.tracks import has_tracks, read_tracks
from cypose_dask.run.each_block import Block, each_block
from cypose_dask.run.state import catch_up

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Measured", "measure"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A table of cells.

    Attributes
    ----------
    path : Path
    rows : int
        One a cell and frame.
    tracked : bool
        Whether it says which cells are one over time.
    """

    path: Path
    rows: int
    tracked: bool


def measure(
    result: Result | str | Path,
    path: str | Path | None = None,
    *,
    movie: str | Path | None = None,
    intensities: bool = True,
    client: Client | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Write a table with a row for every cell of every frame.

    Frames without labels give no rows. Memory does not grow with the movie.

    Parameters
    ----------
    result : Result, str or Path
    path : str, Path or None
        ``.parquet`` or ``.csv``; None is ``movie_cells.parquet`` beside the result.
    movie : str, Path or None
        Where the movie lies now; None looks where it was, and beside the result.
    intensities : bool
        Whether to read the movie; its channels are measured above the background, which is the
        median of the pixels farther than 3 px from every cell of a frame.
    client : distributed.Client or None
        None uses the active client; without one, this machine.
    progress : callable or None
        Called with frames done and their total.

    Returns
    -------
    Measured
        Rows are ordered by position, `t` (0-based as in the movie), `z` and `label`. Further
        columns are `position_name`, `time_s`, those of
        `cypose_dask.results.measuring.measure_frame`, and, if the cells were linked, `track`,
        `parent` and `lineage`. What is unknown is null.

    Raises
    ------
    SettingsError
        If `path` has another ending.
    MovieNotFoundError
        If the movie is gone and `intensities` are asked for.
    MovieError
        If a frame with labels cannot be read.
    ResultError
        If the result is damaged, its tracks are of other labels, or the table cannot be written.
    RunError
        If the cluster loses its scheduler or too many workers.

    Examples
    --------
    >>> from cypose_dask.run import segment
    >>> measure(segment(movie, tmp_path / "movie.zarr")).path.name
    'movie_cells.parquet'
    """
    result = result if isinstance(result, Result) else open_result(result)
    target = beside(result.path, "_cells.parquet") if path is None else Path(path)
    require_table_name(target)
    catch_up(result)
    tracks = read_tracks(result) if has_tracks(result) else None
    work = partial(_measure_block, movie=movie_of(result, movie) if intensities else None)
    total, done, rows = result.layout.frames * result.n_positions, 0, 0
    with table_file(target) as append:
        for block, columns in each_block(result, work, client=client):
            append({**columns, **(_tracks_of(tracks[block.position], columns) if tracks else {})})
            rows, done = rows + len(columns["label"]), done + block.stop - block.start
            if progress:
                progress(done, total)
    return Measured(path=target, rows=rows, tracked=tracks is not None)


def _measure_block(path: Path, block: Block, movie: Movie | None) -> Columns:
    """Measure the frames of a block; runs on a worker."""
    result = open_result(path)
    pages = LabelPages.of(result, block.position)
    frames = [
        _measure(result, pages, (t, block.position, z), movie)
        for t in range(block.start, block.stop)
        for z in range(result.layout.planes)
    ]
    return {name: np.concatenate([frame[name] for frame in frames]) for name in frames[0]}


def _measure(
    result: Result, pages: LabelPages, place: tuple[int, int, int], movie: Movie | None
) -> Columns:
    """Measure a frame at T of the result, P and Z; one without labels has no cells."""
    t, position, z = place
    layout, t_movie = result.layout, t + result.start_frame
    channels: dict[str, np.ndarray] = {}
    if movie is not None:
        blank = bool(pages.status[t, z] != Status.DONE)
        image = frame_or_blank(movie, (t_movie, position, z), may_be_damaged=blank)
        channels = dict(zip(column_names(movie.info.channel_names), image, strict=True))
    cells = measure_frame(
        pages[t * layout.planes + z], channels, pixel_size_um=layout.pixel_size_um
    )
    rows = len(cells["label"])
    interval_s = np.nan if layout.interval_s is None else layout.interval_s
    return {
        "position": np.full(rows, position),
        "position_name": np.full(rows, layout.position_names[position], object),
        "t": np.full(rows, t_movie),
        "time_s": np.full(rows, t_movie * interval_s),
        "z": np.full(rows, z),
        **cells,
    }


def _tracks_of(cells: LinkedCells, columns: Columns) -> Columns:
    """Return the tracks of measured cells, which are in the same order."""
    kept = np.isin(cells.t, columns["t"])
    track = cells.track[kept]
    return {
        "track": track,
        "parent": cells.parent[track - 1],
        "lineage": cells.lineage[track - 1],
    }
