"""What a journal says of every frame of a result, in five bytes a frame: status and cell count."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from cypose_dask.errors import ResultError
from cypose_dask.results import Layout, Status
from cypose_dask.run.plan import Block
from cypose_dask.run.record import BlockRecord, FrameRecord

__all__ = ["Tally"]

_LARGEST_COUNT = 2**32 - 1


class Tally:
    """Status, cells and checksums of a result, filled from records; later records win.

    Parameters
    ----------
    layout : Layout
        Of the result.
    start : int
        The movie's frame that is the first of the result.
    records : iterable of BlockRecord
        Of earlier runs, in the order of the journal.

    Attributes
    ----------
    status, cells : (P, T, Z) ndarray of uint8, of uint32
        T counts the frames of the result.
    checksums : dict
        Of the labels of each block, by position, first T of the result and number of T; empty text
        where a block could not be written.

    Raises
    ------
    ResultError
        If a record names a frame that the result does not have, or holds no numbers.
    """

    def __init__(self, layout: Layout, start: int, records: Iterable[BlockRecord] = ()) -> None:
        self._first = start
        shape = (len(layout.position_names), layout.frames, layout.planes)
        self.status = np.zeros(shape, np.uint8)
        self.cells = np.zeros(shape, np.uint32)
        self.checksums: dict[tuple[int, int, int], str] = {}
        for record in records:
            self.add(record)

    def add(self, record: BlockRecord) -> None:
        """Take over what one block reports.

        Raises
        ------
        ResultError
            As for the class.
        """
        block = record.block
        numbers = (block.position, block.start, block.stop)
        if not all(map(_is_integer, numbers)) or not isinstance(record.checksum, str):
            raise _stray(block)
        first, length = block.start - self._first, block.stop - block.start
        self.checksums[block.position, first, length] = record.checksum
        for frame in record.frames:
            if not self._is_known(frame, (block.position, frame.t, frame.z)):
                raise _stray(f"t={frame.t} position={block.position} z={frame.z}")
            at = (block.position, frame.t - self._first, frame.z)
            self.status[at], self.cells[at] = frame.status, frame.cells

    def _is_known(self, frame: FrameRecord, at: tuple[Any, ...]) -> bool:
        if not all(map(_is_integer, (*at, frame.status, frame.cells))):
            return False
        place = (at[0], at[1] - self._first, at[2])
        inside = all(0 <= i < n for i, n in zip(place, self.status.shape, strict=True))
        return inside and 0 <= frame.status <= max(Status) and 0 <= frame.cells <= _LARGEST_COUNT

    def is_finished(self, block: Block) -> bool:
        """Tell whether nothing is left to do: failed frames are tried again, damaged ones not."""
        frames = slice(block.start - self._first, block.stop - self._first)
        left = np.isin(self.status[block.position, frames], (Status.PENDING, Status.FAILED))
        return not left.any()

    def forget(self, block: Block) -> None:
        """Take back what was reported of a block."""
        frames = slice(block.start - self._first, block.stop - self._first)
        self.status[block.position, frames] = Status.PENDING
        self.cells[block.position, frames] = 0

    @property
    def n_reported(self) -> int:
        """Number of frames that some run has reported."""
        return int(np.count_nonzero(self.status))


def _stray(what: object) -> ResultError:
    return ResultError(
        f"The journal names {what}, which this result does not have. It belongs to another result, "
        "or was changed; restore the journal, or begin again with --restart."
    )


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
