"""One stream of blocks to the cluster, from one result after the other, and what returns."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cypose_dask.errors import CyposeError, DeviceMemoryError, RunError
from cypose_dask.run.feed import Feed
from cypose_dask.run.plan import Block
from cypose_dask.run.record import BlockRecord
from cypose_dask.run.watch import Watch, keys_under_way, let_go, scheduler_may_be_lost
from cypose_dask.run.worker import BlockTask, segment_block
from cypose_dask.settings import RunOptions

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Feeds", "OneFeed", "Stream"]

logger = logging.getLogger(__name__)

_BLOCKS_PER_THREAD = 3
# How soon a wish to stop is heard while no block ends, s.
_LISTEN_EVERY_S = 0.5
# A record is a few hundred bytes a frame; what takes longer than this has lost its worker.
_FETCH_S = 10.0


class Feeds(Protocol):
    """Where a stream gets results from."""

    def next(self) -> Feed | None:
        """Return the next result to fill, or None if none is ready now."""

    @property
    def exhausted(self) -> bool:
        """Whether none will come any more."""

    def close(self) -> None:
        """Close those that were not taken."""


class OneFeed:
    """A single result, as `Feeds`."""

    def __init__(self, feed: Feed) -> None:
        self._feed: Feed | None = feed

    def next(self) -> Feed | None:
        """Return the result, once."""
        feed, self._feed = self._feed, None
        return feed

    @property
    def exhausted(self) -> bool:
        """Whether it was taken."""
        return self._feed is None

    def close(self) -> None:
        """Close it, if it was not taken."""
        if self._feed:
            self._feed.close()


@dataclass(frozen=True, slots=True)
class _Task:
    """A block on the cluster."""

    feed: Feed
    block: Block
    future: Future
    alone: bool


class Stream:
    """Blocks of all results of one call, so that the end of one leaves no worker idle.

    Parameters
    ----------
    client : distributed.Client
    options : RunOptions
    on_begin, on_end : callable
        Called with each result before its first block, and when all its blocks have returned and
        it is closed.
    """

    def __init__(
        self,
        client: Client,
        options: RunOptions,
        *,
        on_begin: Callable[[Feed], None] = lambda feed: None,
        on_end: Callable[[Feed], None] = lambda feed: None,
    ) -> None:
        self.client, self.options = client, options
        self._on_begin, self._on_end = on_begin, on_end
        self.watch = Watch(client, options.wait_for_workers_s)
        self.pending: dict[object, _Task] = {}
        # What happens meanwhile, in other threads; it is done in the one that runs the stream.
        self.events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        # Of this run alone: Dask would answer a task that it remembers without doing it again.
        self._token = secrets.token_hex(4)
        self._open: list[Feed] = []

    def run(self, feeds: Feeds, stop: Event) -> None:
        """Submit windows of blocks, two at a time, and journal what returns.

        Returns when all is done, or when `stop` is set and what was under way has ended.

        Raises
        ------
        RunError
            If the cluster, a disk or a lock is lost. What was finished is kept.
        """
        try:
            while not stop.is_set():
                self._submit(feeds)
                if not self.pending and not self._open and feeds.exhausted:
                    return
                self._wait()
            self._drain()
        finally:
            self._cancel(list(self.pending))
            feeds.close()
            self._close(self._open)

    @property
    def _in_flight(self) -> int:
        return self.options.blocks_in_flight or _BLOCKS_PER_THREAD * self.watch.threads

    @property
    def _window_length(self) -> int:
        # Half of what is in flight, so that the next window arrives before this one is done.
        return max(1, self._in_flight // 2)

    def _submit(self, feeds: Feeds) -> None:
        self._end()
        while len(self.pending) <= self._in_flight - self._window_length:
            feed = self._unexhausted(feeds)
            if feed is None:
                return
            window = feed.next_window(self._window_length)
            if window:
                self._begin(feed, window)
            self._end()

    def _unexhausted(self, feeds: Feeds) -> Feed | None:
        """Return a result with blocks left, in the order in which they came."""
        feed = next((feed for feed in self._open if not feed.exhausted), None)
        if feed is None and (feed := feeds.next()):
            self._open.append(feed)
            self._on_begin(feed)
        return feed

    def _begin(self, feed: Feed, window: list[Block], *, alone: bool = False) -> None:
        """Build one window's graph on a fresh array, and send it to the cluster."""
        from distributed import futures_of

        first, last = window[0], window[-1]
        frames = feed.plan.network_input.blocks(
            first.start, last.stop, first.position, feed.plan.frames_per_block
        )
        name = f"{'alone' if alone else 'segment'}-{first}-{feed.store.token}-{self._token}"
        records = frames.map_blocks(
            segment_block,
            BlockTask.of(feed.plan, feed.store, alone=alone),
            name=name,
            dtype=object,
            chunks=((1,) * len(window), *((1,),) * 5),
            meta=np.empty((0,) * 6, dtype=object),
        )
        with scheduler_may_be_lost(self.client):
            futures = futures_of(self.client.persist(records))
        for future in futures:
            self._expect(_Task(feed, window[future.key[1]], future, alone))

    def _expect(self, task: _Task) -> None:
        self.pending[task.future.key] = task
        ended = partial(self._returned, task.future.key)
        task.future.add_done_callback(lambda _: self.events.put(ended))

    def tell_all(self) -> None:
        """Do what other threads have left to do, after the end."""
        while not self.events.empty():
            self.events.get()()

    def _wait(self) -> None:
        """Do what has to be done next, if anything has soon."""
        self.watch.look()
        try:
            event = self.events.get(timeout=_LISTEN_EVERY_S)
        except Empty:
            return
        event()

    def _returned(self, key: object) -> None:
        task = self.pending.pop(key, None)
        if task is None:  # it was cancelled, by us
            return
        try:
            record = self._record_of(task)
        except RunError:
            raise
        except CyposeError as error:
            task.feed.under_way -= 1
            self._abandon(task.feed, error)
            return
        if record is not None:
            task.feed.under_way -= 1
            task.feed.add(record)

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
            self._begin(task.feed, [block], alone=True)
            return None
        if isinstance(error, CyposeError) and not isinstance(error, DeviceMemoryError):
            raise error
        if isinstance(error, OSError):
            raise RunError(
                f"Block {block} could not be written ({error}). Finished blocks are kept; make "
                "room or mend the disk, then run the same command again to continue."
            ) from error
        logger.error("block %s failed: %s", block, error)
        planes = task.feed.plan.movie.info.sizes["Z"]
        return BlockRecord.failed(block, planes, f"{type(error).__name__}: {error}")

    def _fetched(self, task: _Task) -> BlockRecord | None:
        """Return the record of a block that is done; None if its worker died with it."""
        from distributed import CancelledError, KilledWorker

        try:
            return task.future.result(timeout=_FETCH_S)[0, 0, 0, 0, 0, 0]
        except (OSError, KilledWorker, CancelledError):
            # Dask does the block again, which takes a worker: wait where that is watched. Of a
            # scheduler that is lost the client tells there.
            self._expect(task)
            return None

    def _abandon(self, feed: Feed, error: CyposeError) -> None:
        """Let go of a result whose other blocks would meet the same error."""
        feed.give_up(error)
        keys = [key for key, task in self.pending.items() if task.feed is feed]
        self._cancel(keys)
        feed.under_way -= len(keys)

    def _drain(self) -> None:
        """Finish the blocks that workers are computing; let go of those that wait."""
        done = {key for key, task in self.pending.items() if task.future.done()}
        self._cancel(self.pending.keys() - keys_under_way(self.client) - done)
        while self.pending:
            self._wait()

    def _cancel(self, keys: Iterable[object]) -> None:
        let_go(self.client, [self.pending.pop(key).future for key in keys])

    def _end(self) -> None:
        """Close the results whose blocks have all returned, and tell of them."""
        ended = [feed for feed in self._open if feed.ended]
        self._close(ended)
        for feed in ended:
            self._on_end(feed)

    def _close(self, feeds: list[Feed]) -> None:
        with ExitStack() as closing:  # all of them, even if a disk is full
            for feed in list(feeds):
                self._open.remove(feed)
                closing.callback(feed.close)
