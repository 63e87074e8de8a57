"""One result while it is filled: which blocks are left, and the journal of those that return."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cypose_dask.errors import CyposeError, RunError
from cypose_dask.results import Result, Status, open_result
from cypose_dask.results.naming import journal_of
from cypose_dask.results.writing import write_status
from cypose_dask.run.journal import Journal
from cypose_dask.run.lock import Lock
from cypose_dask.run.plan import Block, Plan
from cypose_dask.run.record import BlockRecord
from cypose_dask.run.tally import Tally

__all__ = ["Feed", "Progress"]

logger = logging.getLogger(__name__)

# Called with the finished block, the frames done so far (earlier runs included) and their total.
Progress = Callable[[BlockRecord, int, int], None]

# How often the status arrays follow the journal while a run goes on, s.
_STATUS_EVERY_S = 30.0


class Feed:
    """What is left of one plan, and what has come back.

    Parameters
    ----------
    plan : Plan
    path : Path
        The result store.
    lock : Lock
        The result's, held; `close` gives it back.
    progress : callable or None
        Called after every block.

    Attributes
    ----------
    store : Result
    tally : Tally
        Of all blocks until now, those of earlier runs included.
    under_way : int
        Blocks that were taken from `next_window` and have not returned.
    error : CyposeError or None
        Why no other block of this result makes sense.
    """

    def __init__(
        self, plan: Plan, path: Path, lock: Lock, *, progress: Progress | None = None
    ) -> None:
        self.plan, self.path, self.progress = plan, path, progress
        self.store: Result = open_result(path)
        self.journal = Journal(journal_of(path))
        self.tally = Tally(plan.layout(), plan.start, self.journal.read())
        self.under_way = 0
        self.error: CyposeError | None = None
        self._lock = lock
        self._status_written = time.monotonic()
        self._forget_lost_blocks()
        self._left = (block for block in plan.blocks() if not self.tally.is_finished(block))
        self._next = next(self._left, None)

    def _forget_lost_blocks(self) -> None:
        """Do blocks again whose files are gone since."""
        for block in self.plan.blocks():
            first = block.start - self.plan.start
            if self.tally.is_finished(block) and self.store.lost_shards(block.position, first):
                logger.warning("%s: block %s has lost files; it is done again", self.path, block)
                self.tally.forget(block)

    @property
    def exhausted(self) -> bool:
        """Whether no block is left that was not taken."""
        return self._next is None or self.error is not None

    @property
    def ended(self) -> bool:
        """Whether all blocks have returned."""
        return self.exhausted and not self.under_way

    @property
    def n_done(self) -> int:
        """Number of frames with labels, or with pixels that cannot have any."""
        return self.tally.n_reported - int(np.count_nonzero(self.tally.status == Status.FAILED))

    def next_window(self, most: int) -> list[Block]:
        """Take consecutive blocks of one position, at most so many."""
        window: list[Block] = []
        while self._next and self.error is None and len(window) < most:
            if window and not self._next.follows(window[-1]):
                break
            window.append(self._next)
            self._next = next(self._left, None)
        self.under_way += len(window)
        return window

    def give_up(self, error: CyposeError) -> None:
        """Take no other block, because of an error that they would all meet."""
        self.error = self.error or error

    def add(self, record: BlockRecord) -> None:
        """Journal what a block reports.

        Raises
        ------
        RunError
            If the disk does not take it, or another run has taken the result over.
        """
        self._lock.check()
        try:
            self.journal.append(record)
        except OSError as error:
            raise RunError(
                f"{self.journal.path}: block {record.block} could not be noted ({error}). Finished "
                "blocks are kept; make room or mend the disk, then run the same command again."
            ) from error
        self.tally.add(record)
        if self.progress:
            self.progress(record, self.tally.n_reported, self.plan.n_frames)
        if time.monotonic() - self._status_written > _STATUS_EVERY_S:
            self._write_status()

    def close(self) -> None:
        """Write the status of every frame, and give the lock back.

        Raises
        ------
        RunError
            If the disk does not take it.
        """
        try:
            if not self._lock.lost:
                self._write_status()
        finally:
            self._lock.release()

    def _write_status(self) -> None:
        tally = self.tally
        try:
            for position in self.plan.positions:
                write_status(self.path, position, tally.status[position], tally.cells[position])
        except OSError as error:
            raise RunError(
                f"{self.path}: the status of the frames could not be written ({error}). Finished "
                "blocks are kept; make room or mend the disk, then run the same command again."
            ) from error
        self._status_written = time.monotonic()
