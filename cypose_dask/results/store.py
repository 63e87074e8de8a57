"""The result zarr: one store a movie, one group a position, one shard a block.

::

    movie.zarr/
      zarr.json                 attributes: plan, settings, model, versions, fingerprint
      0/labels/cells/0          uint32 (T, Z, Y, X), chunk = 1 frame, shard = 1 block
      0/flows, 0/cellprob       float32, only with debug
      0/status, 0/cells         (T, Z), written by the client alone

OME-NGFF 0.5 has no position axis, so the layout is bioformats2raw's: a group a position.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.errors import ResultError
from cypose_dask.results.layout import Layout

__all__ = [
    "ATTRIBUTES",
    "COUNTS",
    "LABELS",
    "READ_ERRORS",
    "Layout",
    "Result",
    "Status",
    "declared",
    "file_of",
    "open_result",
]

LABELS = "labels/cells/0"
ATTRIBUTES = "cypose_dask"
# Arrays of one number a frame, and their types.
COUNTS = {"status": "uint8", "cells": "uint32"}
# zarr and its codecs raise these on damaged files.
READ_ERRORS = (
    OSError, ValueError, RuntimeError, LookupError, TypeError, EOFError, ArithmeticError,
    MemoryError,
)  # fmt: skip


class Status(enum.IntEnum):
    """What is known about a frame's labels. Failed and damaged frames hold zeros."""

    PENDING = 0
    DONE = 1
    FAILED = 2
    DAMAGED = 3


class Result:
    """A result on disk, opened lazily.

    Parameters
    ----------
    path : Path
        The ``.zarr`` folder.

    Raises
    ------
    ResultError
        If there is no result of this package at `path`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._root = _open_root(self.path)
            self.attributes: dict[str, Any] = dict(self._root.attrs[ATTRIBUTES])
            self._layout = Layout.from_dict(self.attributes["layout"])
            self._start = self.attributes.get("plan", {}).get("start_frame", 0)
            if not isinstance(self._start, int) or self._start < 0:
                raise ResultError(f"The first frame is {self._start!r}, which is no number.")
        except (*READ_ERRORS, AttributeError) as error:
            raise ResultError(
                f"{self.path}: no result of cypose-dask ({_reason(error)}). Expected a zarr folder "
                "written by `cypose-dask segment` or `cypose_dask.segment`."
            ) from error
        self._root.store.allow(*_largest_reads(self._layout))

    def __repr__(self) -> str:
        layout = self.layout
        size = f"T {layout.frames}, P {self.n_positions}, Z {layout.planes}"
        return f"Result({str(self.path)!r}: {size}, Y {layout.height}, X {layout.width})"

    @property
    def layout(self) -> Layout:
        """The shape that the store was made with."""
        return self._layout

    @property
    def token(self) -> str | None:
        """What tells this store from any other that has, or had, its path."""
        return self.attributes.get("token")

    @property
    def n_positions(self) -> int:
        """Number of positions."""
        return len(self.layout.position_names)

    @property
    def start_frame(self) -> int:
        """The movie's frame that is the first of the result."""
        return int(self._start)

    def labels(self, position: int = 0) -> Any:
        """Return the labels of a position: zarr array (T, Z, Y, X), uint32, 0 = background."""
        return self._array(position, LABELS)

    def flows(self, position: int = 0) -> Any:
        """Return the flows (debug only): zarr array (T, Z, 2, Y, X), float32, (dy, dx)."""
        return self._array(position, "flows")

    def cellprob(self, position: int = 0) -> Any:
        """Return the logits (debug only): zarr array (T, Z, Y, X), float32."""
        return self._array(position, "cellprob")

    def status(self, position: int = 0) -> np.ndarray:
        """Return the `Status` of each frame: (T, Z) ndarray of uint8."""
        status = self._read_all(position, "status")
        if status.max(initial=0) > max(Status):
            raise ResultError(
                f"{self.path}: the status {status.max()} is unknown. The store is damaged, or was "
                "written by a newer version of this package."
            )
        return status

    def cells(self, position: int = 0) -> np.ndarray:
        """Return the number of cells of each frame: (T, Z) ndarray of uint32."""
        return self._read_all(position, "cells")

    def lost_shards(self, position: int, first: int) -> list[str]:
        """Return the arrays that have no file for the block of frame `first` of the result.

        A block that was written has a file in each, even if all of it is zero.
        """
        index = first // self.layout.frames_per_block
        group = self.path / str(position)
        files = {
            name: file_of(group / name, index, 1 + len(frame))
            for name, (frame, _) in self.layout.arrays().items()
        }
        return [n for n, file in files.items() if not file.is_file() or not file.stat().st_size]

    def frames_not_done(self) -> list[tuple[int, int, int, Status]]:
        """Return ``(t, position, z, status)`` of every frame without labels, t as in the movie."""
        return list(self._not_done(self._statuses()))

    def some_not_done(self, most: int) -> tuple[int, list[tuple[int, int, int, Status]]]:
        """Return how many frames have no labels, and the first of them."""
        statuses = self._statuses()
        number = sum(int(np.count_nonzero(status != Status.DONE)) for status in statuses)
        return number, list(islice(self._not_done(statuses), most))

    def _statuses(self) -> list[np.ndarray]:
        return [self.status(p) for p in range(self.n_positions)]

    def _not_done(self, statuses: list[np.ndarray]) -> Iterator[tuple[int, int, int, Status]]:
        for p, status in enumerate(statuses):
            for t, z in np.argwhere(status != Status.DONE):
                yield int(t) + self.start_frame, p, int(z), Status(int(status[t, z]))

    def _array(self, position: int, name: str) -> Any:
        from cypose_dask.results.guarded import guarded

        try:
            array = guarded(self._root[f"{position}/{name}"])
        except KeyError as error:
            raise ResultError(
                f"{self.path}: there is no {name!r} at position {position} (of "
                f"{self.n_positions}). Flows and cellprob are kept only with debug."
            ) from error
        except (*READ_ERRORS, AttributeError) as error:
            raise ResultError(
                f"{self.path}: {position}/{name} is no array of a result ({_reason(error)}). The "
                "store was changed or damaged; restore it, or segment again with --restart."
            ) from error
        self._require_declared(array, name)
        return array

    def _require_declared(self, array: Any, name: str) -> None:
        """Raise ResultError unless an array is what the layout says, in shape, type and chunks."""
        expected = declared(self.layout, name)
        found = (array.shape, str(array.dtype), array.chunks, array.shards, int(array.fill_value))
        if found != expected:
            words = "shape {}, type {}, chunks {}, shards {} and fill value {}"
            raise ResultError(
                f"{self.path}: {array.path} has {words.format(*found)}; by the layout it has "
                f"{words.format(*expected)}. The store was changed or damaged; restore it, or "
                "segment again with --restart."
            )

    def _read_all(self, position: int, name: str) -> np.ndarray:
        array = self._array(position, name)
        try:
            return np.asarray(array[:])
        except READ_ERRORS as error:
            raise ResultError(
                f"{self.path}: {array.path} cannot be read ({_reason(error)}). The store is "
                "damaged; restore it from a copy, or segment again with --restart."
            ) from error


def _open_root(path: Path) -> Any:
    import zarr

    from cypose_dask.results.guarded import GuardedStore

    return zarr.open_group(GuardedStore(path), mode="r", use_consolidated=False)


def _reason(error: BaseException) -> str:
    """Return what an error says, if it is ours or a plain one; else its kind."""
    return str(error) if type(error) in (ResultError, ValueError) else type(error).__name__


def declared(layout: Layout, name: str) -> tuple[Any, ...]:
    """Return shape, type, chunks, shards and fill value of an array by the layout."""
    if name in layout.arrays():
        frame, dtype = layout.arrays()[name]
        shards = (layout.frames_per_block, *frame)
        return (layout.frames, *frame), dtype, (1, 1, *frame[1:]), shards, 0
    shape = (layout.frames, layout.planes)
    return shape, COUNTS[name], shape, None, 0


def _largest_reads(layout: Layout) -> tuple[int, int]:
    """Return the most bytes of a file, and of a part of one, that a result of a layout has."""
    from cypose_dask.results.guarded import packed_bytes

    chunks = [packed_bytes(4 * math.prod(frame[1:])) for frame, _ in layout.arrays().values()]
    per_shard = layout.frames_per_block * layout.planes
    counts = packed_bytes(4 * layout.frames * layout.planes)
    index = 16 * per_shard + 4
    return max(counts, max(chunks) * per_shard + index), max(chunks)


def open_result(path: str | Path) -> Result:
    """Open a result for reading; nothing is loaded yet.

    Raises
    ------
    ResultError
        If there is no result of this package at `path`.
    """
    return Result(path)


def file_of(array: Path, index: int, ndim: int) -> Path:
    """Return the file of a shard or chunk that is whole in all axes but the first."""
    return array / "c" / str(index) / "/".join("0" * (ndim - 1))
