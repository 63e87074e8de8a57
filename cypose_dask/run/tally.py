"""What is known of every frame, in five bytes a frame: status and cell count."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cypose_dask.errors import ResultError
from cypose_dask.results import Status
from cypose_dask.run.plan import Block, Plan
from cypose_dask.run.record import BlockRecord

__all__ = ["Tally"]


class Tally:
    """Status and cells of a movie's frames, filled from records; later records win.

    Parameters
    ----------
    plan : Plan
    records : iterable of BlockRecord
        Of earlier runs, in the order of the journal.

    Attributes
    ----------
    status, cells : (P, T, Z) ndarray of uint8, of uint32
        T counts the frames of the plan.
    """

    def __init__(self, plan: Plan, records: Iterable[BlockRecord] = ()) -> None:
        self._first = plan.start
        shape = (len(plan.positions), plan.stop - plan.start, plan.movie.info.sizes["Z"])
        self.status = np.zeros(shape, np.uint8)
        self.cells = np.zeros(shape, np.uint32)
        for record in records:
            self.add(record)

    def add(self, record: BlockRecord) -> None:
        """Take over what one block reports.

        Raises
        ------
        ResultError
            If the record names a frame that the plan does not have.
        """
        for frame in record.frames:
            at = (record.block.position, frame.t - self._first, frame.z)
            if not all(0 <= i < n for i, n in zip(at, self.status.shape, strict=True)):
                raise ResultError(
                    f"The journal names t={frame.t} position={at[0]} z={frame.z}, which this plan "
                    "does not have. It belongs to another result; begin again with --restart."
                )
            self.status[at], self.cells[at] = frame.status, frame.cells

    def is_finished(self, block: Block) -> bool:
        """Tell whether nothing is left to do: failed frames are tried again, damaged ones not."""
        frames = slice(block.start - self._first, block.stop - self._first)
        left = np.isin(self.status[block.position, frames], (Status.PENDING, Status.FAILED))
        return not left.any()

    @property
    def n_reported(self) -> int:
        """Number of frames that some run has reported."""
        return int(np.count_nonzero(self.status))
