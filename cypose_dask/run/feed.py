"""Feed the pending blocks of one plan to the cluster, and journal what returns."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from cypose_dask.errors import CyposeError, DeviceMemoryError, RunError, RunStoppedError
from cypose_dask.results import Status, open_result
from cypose_dask.results.naming import journal_of
from cypose_dask.results.writing import write_status
from cypose_dask.run.journal import Journal
from cypose_dask.run.lock import Lock
from cypose_dask.run.plan import Block, Plan
from cypose_dask.run.record import BlockRecord
from cypose_dask.run.tally import Tally
from cypose_dask.run.watch import Watch, keys_under_way
from cypose_dask.run.worker import BlockTask, segment_block
from cypose_dask.settings import RunOptions

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Feed", "Progress"]

logger = logging.getLogger(__name__)

# Called with the finished block, the frames done so far (earlier runs included) and their total.
Progress = Callable[[BlockRecord, int, int], None]

_BLOCKS_PER_THREAD = 3
# How often the status arrays follow the journal while a run goes on, s.
_STATUS_EVERY_S = 30.0
# How soon a wish to stop is heard while no block ends, s.
_LISTEN_EVERY_S = 0.5
# A record is a few hundred bytes a frame; what takes longer than this has lost its worker.
_FETCH_S = 10.0


@dataclass(frozen=True, slots=True)
class _Task:
    """A block on the cluster."""

    block: Block
    future: Future
    alone: bool


class Feed:
    """One run over the pending blocks of one plan.

    Parameters
    ----------
    plan : Plan
    path : Path
        The result store; its lock is held by the caller.
    client : distributed.Client
    options : RunOptions
    progress : callable or None
        Called after every block.
    """

    def __init__(
        self,
        plan: Plan,
        path: Path,
        client: Client,
        *,
        options: RunOptions,
        progress: Progress | None = None,
    ) -> None:
        self.plan, self.path, self.client = plan, path, client
        self.store = open_result(path)
        self.options, self.progress = options, progress
        self.journal = Journal(journal_of(path))
        self.tally = Tally(plan.layout(), plan.start, self.journal.read())
        self._forget_lost_blocks()
        self.watch = Watch(client, options.wait_for_workers_s)
        self.pending: dict[object, _Task] = {}
        self.finished: SimpleQueue[Future] = SimpleQueue()
        self.status_written = time.monotonic()
        # Of this run alone: Dask would answer a task that it remembers without doing it again.
        self.token = secrets.token_hex(4)

    def run(self, lock: Lock, stop: Event) -> None:
        """Submit windows of blocks, two at a time, and journal what returns.

        Raises
        ------
        RunStoppedError
            If `stop` was set before the end.
        RunError
            If the cluster, the disk or the lock is lost. What was finished is kept.
        """
        windows = self._windows()
        try:
            while not stop.is_set():
                lock.check()
                self._submit(windows)
                if not self.pending:
                    return
                self._take_one()
            self._drain()
            self._say_stopped()
        finally:
            self._cancel(list(self.pending))
            if not lock.lost:
                self._write_status()

    def _forget_lost_blocks(self) -> None:
        """Do blocks again whose files are gone since."""
        for block in self.plan.blocks():
            first = block.start - self.plan.start
            if self.tally.is_finished(block) and self.store.lost_shards(block.position, first):
                logger.warning("%s: block %s has lost files; it is done again", self.path, block)
                self.tally.forget(block)

    def _windows(self) -> Iterator[list[Block]]:
        """Yield runs of consecutive pending blocks of one position."""
        window: list[Block] = []
        for block in self.plan.blocks():
            if self.tally.is_finished(block):
                continue
            if window and (len(window) >= self._window_length or not block.follows(window[-1])):
                yield window
                window = []
            window.append(block)
        if window:
            yield window

    @property
    def _in_flight(self) -> int:
        return self.options.blocks_in_flight or _BLOCKS_PER_THREAD * self.watch.threads

    @property
    def _window_length(self) -> int:
        # Half of what is in flight, so that the next window arrives before this one is done.
        return max(1, self._in_flight // 2)

    def _submit(self, windows: Iterator[list[Block]]) -> None:
        while len(self.pending) <= self._in_flight - self._window_length:
            window = next(windows, None)
            if window is None:
                return
            self._begin(window)

    def _begin(self, window: list[Block], *, alone: bool = False) -> None:
        """Build one window's graph on a fresh array, and send it to the cluster."""
        from distributed import futures_of

        first, last = window[0], window[-1]
        frames = self.plan.network_input.blocks(
            first.start, last.stop, first.position, self.plan.frames_per_block
        )
        records = frames.map_blocks(
            segment_block,
            BlockTask.of(self.plan, self.store, alone=alone),
            name=f"{'alone' if alone else 'segment'}-{first}-{self.token}",
            dtype=object,
            chunks=((1,) * len(window), *((1,),) * 5),
            meta=np.empty((0,) * 6, dtype=object),
        )
        for future in futures_of(self.client.persist(records)):
            self._expect(_Task(window[future.key[1]], future, alone))

    def _expect(self, task: _Task) -> None:
        self.pending[task.future.key] = task
        task.future.add_done_callback(self.finished.put)

    def _take_one(self) -> None:
        """Journal the next block that ends, if one does soon."""
        self.watch.look()
        try:
            future = self.finished.get(timeout=_LISTEN_EVERY_S)
        except Empty:
            return
        task = self.pending.pop(future.key, None)
        if task:  # else it was cancelled, by us
            self._finish(task)

    def _finish(self, task: _Task) -> None:
        record = self._record_of(task)
        if record is None:
            return
        self._append(record)
        self.tally.add(record)
        if self.progress:
            self.progress(record, self.tally.n_reported, self.plan.n_frames)
        if time.monotonic() - self.status_written > _STATUS_EVERY_S:
            self._write_status()

    def _record_of(self, task: _Task) -> BlockRecord | None:
        """Return a block's record; None if it is tried again; raise where that is pointless."""
        from distributed import KilledWorker

        block, future = task.block, task.future
        if future.status == "finished":
            return self._fetched(task)
        if future.status in ("pending", "lost"):  # since it was finished, its worker has died
            self._expect(task)
            return None
        if future.status == "cancelled":
            raise RunError(
                f"The scheduler was lost while block {block} was under way. Finished blocks are "
                "kept; run the same command again to continue."
            )
        error = future.exception()
        if isinstance(error, KilledWorker) and not task.alone:
            logger.warning("block %s has killed its workers; its frames are tried alone", block)
            self._begin([block], alone=True)
            return None
        if isinstance(error, CyposeError) and not isinstance(error, DeviceMemoryError):
            raise error
        if isinstance(error, OSError):
            raise RunError(
                f"Block {block} could not be written ({error}). Finished blocks are kept; make "
                "room or mend the disk, then run the same command again to continue."
            ) from error
        logger.error("block %s failed: %s", block, error)
        planes = self.plan.movie.info.sizes["Z"]
        return BlockRecord.failed(block, planes, f"{type(error).__name__}: {error}")

    def _fetched(self, task: _Task) -> BlockRecord | None:
        """Return the record of a block that is done; None if its worker died with it."""
        from distributed import CancelledError, KilledWorker

        try:
            return task.future.result(timeout=_FETCH_S)[0, 0, 0, 0, 0, 0]
        except (TimeoutError, KilledWorker, CancelledError):
            # Dask does the block again, which takes a worker: wait where that is watched.
            self._expect(task)
            return None

    def _append(self, record: BlockRecord) -> None:
        try:
            self.journal.append(record)
        except OSError as error:
            raise RunError(
                f"{self.journal.path}: block {record.block} could not be noted ({error}). Finished "
                "blocks are kept; make room or mend the disk, then run the same command again."
            ) from error

    def _drain(self) -> None:
        """Finish the blocks that workers are computing; let go of those that wait."""
        done = {key for key, task in self.pending.items() if task.future.done()}
        self._cancel(self.pending.keys() - keys_under_way(self.client) - done)
        while self.pending:
            self._take_one()

    def _cancel(self, keys: Iterable[object]) -> None:
        tasks = [self.pending.pop(key) for key in keys]
        if tasks and self.client.status == "running":
            self.client.cancel([task.future for task in tasks], force=True)

    def _say_stopped(self) -> None:
        failed = np.count_nonzero(self.tally.status == Status.FAILED)
        done, total = self.tally.n_reported - failed, self.plan.n_frames
        if done < total:
            raise RunStoppedError(
                f"{self.path}: stopped on request with {done} of {total} frames done. Run the same "
                "command again to continue."
            )

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
        self.status_written = time.monotonic()
