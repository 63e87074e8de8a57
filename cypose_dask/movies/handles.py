"""Open files of this process, each opened once.

A Dask task carries an address; the file behind it is opened here, at its first use in a
process, and kept for the next task. Opening is what costs: parsing the chunk map of a
100,000-frame ND2 takes 0.2 s, the pages of a 20,000-page TIFF 0.9 s.

The cache lives in a module because a lock in a class of ``__main__`` would be pickled.
"""

from __future__ import annotations

import atexit
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Protocol, TypeVar, cast

__all__ = ["CAPACITY", "Handle", "close_all", "count_opened", "discard", "lease"]

CAPACITY = 8


class Handle(Protocol):
    """Something open that can be closed."""

    def close(self) -> None:
        """Release the file."""


H = TypeVar("H", bound=Handle)


class _Entry:
    """One open file, and how many readers are inside it."""

    __slots__ = ("handle", "lock", "users")

    def __init__(self) -> None:
        self.handle: Handle | None = None
        self.lock = Lock()
        self.users = 0


class _Cache:
    """Least recently used handles first; a handle in use is never closed."""

    def __init__(self) -> None:
        self.entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self.lock = Lock()
        self.opened = 0

    def enter(self, key: Hashable) -> _Entry:
        with self.lock:
            entry = self.entries.setdefault(key, _Entry())
            self.entries.move_to_end(key)
            entry.users += 1
            return entry

    def fill(self, entry: _Entry, opener: Callable[[], Handle]) -> Handle:
        # The lock is the entry's own: opening one slow file does not hold up the others.
        with entry.lock:
            if entry.handle is None:
                entry.handle = opener()
                with self.lock:
                    self.opened += 1
            return entry.handle

    def leave(self, entry: _Entry) -> None:
        with self.lock:
            entry.users -= 1
            spare = self._take_spare(CAPACITY)
        _close(spare)

    def _take_spare(self, keep: int) -> list[_Entry]:
        idle = [key for key, entry in self.entries.items() if not entry.users]
        empty = [key for key in idle if self.entries[key].handle is None]
        excess = max(0, len(self.entries) - len(empty) - keep)
        old = [key for key in idle if key not in empty][:excess]
        return [self.entries.pop(key) for key in empty + old]

    def take(self, key: Hashable) -> list[_Entry]:
        with self.lock:
            entry = self.entries.get(key)
            if entry is None or entry.users:
                return []
            return [self.entries.pop(key)]

    def take_idle(self) -> list[_Entry]:
        with self.lock:
            return self._take_spare(0)


def _close(entries: list[_Entry]) -> None:
    for entry in entries:
        if entry.handle is not None:
            entry.handle.close()


_cache = _Cache()
# Handles of the parent of a fork: closing them could wait for a lock that a thread of the
# parent held at the fork, so they are kept, unused, for the life of the child.
_inherited: list[_Cache] = []


def _forget_after_fork() -> None:
    global _cache
    _inherited.append(_cache)
    _cache = _Cache()


os.register_at_fork(after_in_child=_forget_after_fork)


@contextmanager
def lease(key: Hashable, opener: Callable[[], H]) -> Iterator[H]:
    """Lend the handle of `key`, opening it if this process has not done so yet.

    The handle stays open at least until the block ends: a view into a memory map that is
    read after closing would kill the process.
    """
    cache = _cache
    entry = cache.enter(key)
    try:
        yield cast("H", cache.fill(entry, opener))
    finally:
        cache.leave(entry)


def discard(key: Hashable) -> None:
    """Close the handle of `key` unless somebody is using it, so that the next lease opens anew."""
    _close(_cache.take(key))


def close_all() -> None:
    """Close every handle that nobody is using."""
    _close(_cache.take_idle())


def count_opened() -> int:
    """Return how many files this process has opened so far (handles found open not counted)."""
    return _cache.opened


# nd2 warns about files that are still open when the interpreter ends.
atexit.register(close_all)
