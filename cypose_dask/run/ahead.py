"""Begin results one ahead of the stream: opening and planning a movie may take a while."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event, Lock, Semaphore, Thread

from cypose_dask.run.feed import Feed

__all__ = ["Ahead"]

logger = logging.getLogger(__name__)

# How long a movie that is being opened may keep a run from ending, s.
_PATIENCE_S = 10.0


class Ahead:
    """The results of several movies, as `Feeds` of a stream; one waits, begun, for its turn.

    Parameters
    ----------
    begin : iterable of callable
        Each begins one result, or returns None if there is nothing to do for it. Called in a
        thread of its own, one after the other.
    tell : callable
        Is given what the thread of the stream has to do meanwhile.
    """

    def __init__(
        self,
        begin: Iterable[Callable[[], Feed | None]],
        tell: Callable[[Callable[[], None]], None],
    ) -> None:
        self._tell, self._ended = tell, False
        self._ready: SimpleQueue[Feed] = SimpleQueue()
        self._room, self._over, self._closing = Semaphore(1), Event(), Lock()
        self._thread = Thread(target=self._begin_all, args=(begin,), daemon=True)
        self._thread.start()

    def next(self) -> Feed | None:
        """Return the next result, if one is ready, and begin another."""
        try:
            feed = self._ready.get_nowait()
        except Empty:
            return None
        self._room.release()
        return feed

    @property
    def exhausted(self) -> bool:
        """Whether none will come any more."""
        return self._ended and self._ready.empty()

    def close(self) -> None:
        """Begin no other, and close the one that waits."""
        with self._closing:
            self._over.set()
        self._room.release()
        self._thread.join(_PATIENCE_S)
        while not self._ready.empty():
            self._ready.get().close()

    def _begin_all(self, begin: Iterable[Callable[[], Feed | None]]) -> None:
        try:
            for one in begin:
                self._room.acquire()
                if self._over.is_set():
                    return
                self._keep(one())
        except Exception as error:  # the stream's thread ends the run
            logger.debug("no other movie is begun", exc_info=True)
            self._tell(partial(_raise, error))
        finally:
            self._ended = True
            self._tell(lambda: None)

    def _keep(self, feed: Feed | None) -> None:
        if feed is None:
            self._room.release()
            return
        with self._closing:
            if not self._over.is_set():
                self._ready.put(feed)
                self._tell(lambda: None)
                return
        feed.close()


def _raise(error: Exception) -> None:
    raise error
