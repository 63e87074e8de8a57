"""Tracks kept beside a result: which cells of its frames are one cell over time.

``movie_tracks.parquet`` has a row for every cell, by position, frame and label: `position`, `t`
(0-based as in the movie), `label`, `area` (px), `track`, `parent` (0 for none) and `lineage`. It
belongs to the labels that were linked, and is refused when they are others by now.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.errors import ResultError
from cypose_dask.results.atomic import whole_file
from cypose_dask.results.linking import LinkedCells
from cypose_dask.results.naming import beside
from cypose_dask.results.store import Result, Status

__all__ = ["has_tracks", "keep_tracks", "read_tracks", "tracks_file"]

_ABOUT = b"cypose_dask"
_COLUMNS = ("position", "t", "label", "area", "track", "parent", "lineage")


def tracks_file(store: Path) -> Path:
    """Return where a result's tracks lie: ``movie.zarr`` -> ``movie_tracks.parquet``."""
    return beside(store, "_tracks.parquet")


def has_tracks(result: Result) -> bool:
    """Return whether there are tracks beside a result; they may be of other labels."""
    return tracks_file(result.path).is_file()


def keep_tracks(result: Result, linked: Sequence[LinkedCells], about: dict[str, Any]) -> Path:
    """Write the tracks of all positions, whole or not at all.

    Parameters
    ----------
    result : Result
    linked : sequence of LinkedCells
        One for each position.
    about : dict
        JSON values that say how they were linked.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    positions = [_columns(position, cells) for position, cells in enumerate(linked)]
    columns = {name: np.concatenate([one[name] for one in positions]) for name in _COLUMNS}
    kept = json.dumps({**about, "labels": _digest(result)}).encode()
    path = tracks_file(result.path)
    with whole_file(path) as partial:
        table = pa.table(columns).replace_schema_metadata({_ABOUT: kept})
        pq.write_table(table, partial, compression="zstd")
    return path


def read_tracks(result: Result) -> list[LinkedCells]:
    """Read the tracks of every position.

    Raises
    ------
    ResultError
        If there are none, they are of other labels, or the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tracks_file(result.path)
    if not path.is_file():
        raise ResultError(
            f"{result.path} has no tracks (there is no {path.name} beside it). Link its cells "
            f"first: cypose-dask link {result.path}"
        )
    try:
        with pq.ParquetFile(path) as file:
            _require_current(file, result)
            table = file.read(columns=list(_COLUMNS))
        columns = {name: table[name].to_numpy().astype(np.int64) for name in _COLUMNS}
        return [_linked(columns, result, position) for position in range(result.n_positions)]
    except ResultError:
        raise
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        raise ResultError(
            f"{path} cannot be read as tracks ({error}). Expected what `cypose-dask link` wrote; "
            f"link again: cypose-dask link {result.path}"
        ) from error


def _columns(position: int, cells: LinkedCells) -> dict[str, np.ndarray]:
    of_cell = (
        np.full(len(cells.t), position),
        cells.t,
        cells.label,
        cells.area,
        cells.track,
        cells.parent[cells.track - 1],
        cells.lineage[cells.track - 1],
    )
    return dict(zip(_COLUMNS, (values.astype(np.uint32) for values in of_cell), strict=True))


def _require_current(file: Any, result: Result) -> None:
    """Raise ResultError unless tracks are those of the labels that the result has now."""
    about = json.loads((file.schema_arrow.metadata or {})[_ABOUT])
    if about["labels"] != _digest(result):
        raise ResultError(
            f"{tracks_file(result.path)} has the tracks of other labels than {result.path} has "
            f"now. Link again: cypose-dask link {result.path}"
        )
    cells = sum(int(_counts(result, position).sum()) for position in range(result.n_positions))
    if file.metadata.num_rows != cells:
        raise ValueError(f"{file.metadata.num_rows} rows for {cells} cells")


def _digest(result: Result) -> str:
    """Return what changes when frames get other labels: the store, status and cells."""
    digest = hashlib.blake2b(str(result.token).encode(), digest_size=16)
    for position in range(result.n_positions):
        digest.update(result.status(position).tobytes())
        digest.update(result.cells(position).tobytes())
    return digest.hexdigest()


def _counts(result: Result, position: int) -> np.ndarray:
    """Return the cells of each frame of a position, (T,) ndarray of int64; 0 without labels."""
    done = result.status(position)[:, 0] == Status.DONE
    return np.where(done, result.cells(position)[:, 0], 0).astype(np.int64)


def _cells(result: Result, position: int) -> tuple[np.ndarray, np.ndarray]:
    """Return t and label of every cell of a position, (M,) each, in the order of the file."""
    cells = _counts(result, position)
    frames = np.repeat(np.arange(len(cells)), cells)
    before = (np.cumsum(cells) - cells)[frames]
    return frames + result.start_frame, np.arange(len(frames)) - before + 1


def _linked(columns: dict[str, np.ndarray], result: Result, position: int) -> LinkedCells:
    """Take the tracks of a position.

    Raises
    ------
    ValueError
        If they are not those of its cells, or no tracks.
    """
    here = columns["position"] == position
    own = {name: values[here] for name, values in columns.items()}
    t, label = _cells(result, position)
    if not (np.array_equal(own["t"], t) and np.array_equal(own["label"], label)):
        raise ValueError(f"other cells than position {position} has")
    parent, lineage = (np.zeros(own["track"].max(initial=0), np.int64) for _ in range(2))
    parent[own["track"] - 1], lineage[own["track"] - 1] = own["parent"], own["lineage"]
    if (lineage == 0).any() or (parent > np.arange(len(parent))).any():
        raise ValueError(f"numbers of tracks that contradict each other at position {position}")
    return LinkedCells(t, own["track"], own["area"], parent, lineage)
