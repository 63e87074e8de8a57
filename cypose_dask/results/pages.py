"""The pages of one TIF: read from a result block by block, and checked on the way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.errors import ResultError
from cypose_dask.results.linking import LinkedCells
from cypose_dask.results.store import READ_ERRORS, Layout, Result, Status

__all__ = [
    "FlowPages",
    "LabelPages",
    "MovieLabelPages",
    "Pages",
    "ProbabilityPages",
    "TrackLabelPages",
    "read_array",
]

# What is read and held at once, unless one frame is larger.
_GROUP_BYTES = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of one position: a zarr array (T, Z, [C,] Y, X) and how it is stored.

    Attributes
    ----------
    store : Path
        The result, for messages.
    array : zarr.Array
    layout : Layout
    first : int
        The movie's frame that is the first of the result.
    status, cells : (T, Z) ndarray
        What the client wrote about each frame. Frames that are not done are blank pages.
    dtype : numpy.dtype
        Of the pages.
    """

    store: Path
    array: Any
    layout: Layout
    first: int
    status: np.ndarray
    cells: np.ndarray
    dtype: np.dtype

    @property
    def axes(self) -> str:
        """Letters of the axes, without those of length 1 before Y and X."""
        return "".join(a for a, n in self._sizes if n > 1 or a in "YX")

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of `axes`."""
        return tuple(n for a, n in self._sizes if n > 1 or a in "YX")

    @property
    def _sizes(self) -> list[tuple[str, int]]:
        letters = "TZCYX" if self.array.ndim == 5 else "TZYX"
        return list(zip(letters, self.array.shape, strict=True))

    def __len__(self) -> int:
        return int(np.prod(self.array.shape[:-2], dtype=int))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (Y, X) pages in file order, reading some T of a shard at a time."""
        for times in self._groups():
            first, block = times.start, self._read(times)
            for index in np.ndindex(block.shape[:-2]):
                yield self._page(block[index], (first + index[0], index[1]))

    def _groups(self) -> Iterator[slice]:
        frame_bytes = math.prod(self.array.shape[1:]) * self.array.dtype.itemsize
        length, block = self.array.shape[0], self.layout.frames_per_block
        step = max(1, min(block, _GROUP_BYTES // frame_bytes))
        for first in range(0, length, block):
            stop = min(first + block, length)
            yield from (slice(t, min(t + step, stop)) for t in range(first, stop, step))

    def __getitem__(self, number: int) -> np.ndarray:
        """Return one page, read on its own."""
        t, *rest = (int(i) for i in np.unravel_index(number, self.array.shape[:-2]))
        return self._page(self._read((t, *rest)), (t, rest[0]))

    def _read(self, where: Any) -> np.ndarray:
        return read_array(self.store, self.array, where)

    def _page(self, page: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
        # A run that was killed leaves pixels of blocks that nobody vouches for.
        if self.status[frame] != Status.DONE:
            return np.zeros(page.shape, self.dtype)
        return self._converted(page, frame).astype(self.dtype, copy=False)

    def _converted(self, page: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
        return page


class LabelPages(Pages):
    """Labels of one position: uint16 where the cells can be numbered in it, else uint32."""

    @classmethod
    def of(cls, result: Result, position: int) -> LabelPages:
        """Take the labels of a position."""
        cells = result.cells(position)
        dtype = np.uint16 if cells.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
        return cls(*_start(result, position, result.labels(position)), np.dtype(dtype))

    @property
    def highest(self) -> int:
        """The highest number of a cell."""
        return int(self.cells[self.status == Status.DONE].max(initial=0))

    def _converted(self, page: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
        # Labels run from 1 to their number. A lost shard would otherwise look like "no cells".
        if page.max(initial=0) != self.cells[frame]:
            t, z = frame[0] + self.first, frame[1]
            raise ResultError(
                f"{self.store}: frame t={t} z={z} of {self.array.path} has labels up to "
                f"{page.max(initial=0)}, but {self.cells[frame]} cells were counted in it. The "
                "store was changed or damaged after the run; restore it from a copy, or segment "
                "again with --restart."
            )
        return page


@dataclass(frozen=True, slots=True)
class MovieLabelPages(LabelPages):
    """Labels of one position, each number once in the whole movie: label plus offset.

    Attributes
    ----------
    offsets : (T, Z) ndarray of uint64
        Cells in the frames before, of this position and those before it.
    """

    offsets: np.ndarray

    @classmethod
    def of_all(cls, result: Result) -> Iterator[MovieLabelPages]:
        """Yield the labels of every position.

        Raises
        ------
        ResultError
            If the cells of the movie cannot be numbered in 32 bits.
        """
        total = sum(int(_cells_done(result, p).sum()) for p in range(result.n_positions))
        if total > np.iinfo(np.uint32).max:
            raise ResultError(
                f"{result.path}: {total} cells, and a label has 32 bits, which number "
                f"{np.iinfo(np.uint32).max}. Number the cells of each frame (--ids frame)."
            )
        dtype = np.dtype(np.uint16 if total <= np.iinfo(np.uint16).max else np.uint32)
        before = 0
        for position in range(result.n_positions):
            cells = _cells_done(result, position)
            offsets = (before + np.cumsum(cells) - cells.ravel()).reshape(cells.shape)
            array = result.labels(position)
            yield cls(*_start(result, position, array), dtype=dtype, offsets=offsets)
            before += int(cells.sum())

    @property
    def highest(self) -> int:
        """The highest number of a cell."""
        numbered = (self.offsets + self.cells)[self.status == Status.DONE]
        return int(numbered.max(initial=0))

    def _converted(self, page: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
        labels = LabelPages._converted(self, page, frame)
        # uint32: the sum was checked to fit, and no page is held in 64 bits.
        return np.where(labels > 0, labels + np.uint32(self.offsets[frame]), np.uint32(0))


@dataclass(frozen=True, slots=True)
class TrackLabelPages(LabelPages):
    """Labels of one position, each cell with the number of its track.

    Attributes
    ----------
    tracks : LinkedCells
    """

    tracks: LinkedCells

    @classmethod
    def of_tracks(cls, result: Result, position: int, tracks: LinkedCells) -> TrackLabelPages:
        """Take the labels of a position, whose cells were linked."""
        number = len(tracks.parent)
        dtype = np.dtype(np.uint16 if number <= np.iinfo(np.uint16).max else np.uint32)
        array = result.labels(position)
        return cls(*_start(result, position, array), dtype=dtype, tracks=tracks)

    @property
    def highest(self) -> int:
        """The highest number of a track."""
        return len(self.tracks.parent)

    def _converted(self, page: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
        labels = LabelPages._converted(self, page, frame)
        return np.concatenate([[0], self.tracks.of_frame(frame[0] + self.first)])[labels]


def _cells_done(result: Result, position: int) -> np.ndarray:
    """Return the cells (T, Z) of a position, uint64; frames without labels have none."""
    done = result.status(position) == Status.DONE
    return np.where(done, result.cells(position), 0).astype(np.uint64)


class FlowPages(Pages):
    """Flows of one position: (dy, dx), float32, dimensionless."""

    @classmethod
    def of(cls, result: Result, position: int) -> FlowPages:
        """Take the flows of a position."""
        return cls(*_start(result, position, result.flows(position)), np.dtype(np.float32))


class ProbabilityPages(Pages):
    """Probabilities of one position: sigmoid of cellprob, float32, 0 to 1."""

    @classmethod
    def of(cls, result: Result, position: int) -> ProbabilityPages:
        """Take the cellprob of a position."""
        return cls(*_start(result, position, result.cellprob(position)), np.dtype(np.float32))

    def _converted(self, page: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
        # Written with tanh because exp overflows for large negative logits.
        return 0.5 * (1.0 + np.tanh(0.5 * page))


def read_array(store: Path, array: Any, where: Any) -> np.ndarray:
    """Read a part of an array of a result.

    Raises
    ------
    ResultError
        If it cannot be read, or memory does not hold it.
    """
    try:
        return np.asarray(array[where])
    except MemoryError as error:
        raise ResultError(
            f"{store}: {array.path}[{where}] does not fit into memory. It is part of an array of "
            f"{array.shape} {array.dtype}; if no movie was that large, the store was changed."
        ) from error
    except READ_ERRORS as error:
        raise ResultError(
            f"{store}: {array.path}[{where}] cannot be read ({error}). The store is damaged; "
            "restore it from a copy, or segment again with --restart."
        ) from error


def _start(
    result: Result, position: int, array: Any
) -> tuple[Path, Any, Layout, int, np.ndarray, np.ndarray]:
    status, cells = result.status(position), result.cells(position)
    return result.path, array, result.layout, result.start_frame, status, cells
