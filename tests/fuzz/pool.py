"""A pool of child processes that read mutants: reused, bounded in memory and in time."""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Queue
from typing import Any

from fuzz.mutate import Mutant
from fuzz.seen import Seen, look

__all__ = ["Pool", "bound_memory"]

TIME_LIMIT_S = 20.0
# Beyond what the child has when its libraries are loaded.
MEMORY_LIMIT_BYTES = 2**30


class Pool:
    """Child processes that open files; one that dies or hangs is replaced.

    Parameters
    ----------
    children
        How many; two if the machine has two cores or more.
    """

    def __init__(self, children: int | None = None) -> None:
        self._children = children or min(2, os.cpu_count() or 1)
        self._idle: Queue[_Child] = Queue()
        for _ in range(self._children):
            self._idle.put(_Child.start())

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: Any) -> None:
        while not self._idle.empty():
            self._idle.get().stop()

    def look(self, path: str | Path, *, allow_damaged: bool = False) -> Seen:
        """Let a child read a file."""
        child = self._idle.get()
        seen = child.look(str(path), allow_damaged)
        self._idle.put(child if child.process.is_alive() else _Child.start())
        return seen

    def look_at_all(
        self, mutants: Iterable[Mutant], *, allow_damaged: bool = False
    ) -> Iterator[tuple[Mutant, Seen]]:
        """Yield every mutant with what was seen of it, in their order."""
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(self._children) as threads:

            def one(mutant: Mutant) -> tuple[Mutant, Seen]:
                path = Path(folder) / f"{mutant.number}-{mutant.name}"
                path.write_bytes(mutant.data)
                try:
                    return mutant, self.look(path, allow_damaged=allow_damaged)
                finally:
                    path.unlink()

            # Not all mutants at once: together they are gigabytes.
            rest = iter(mutants)
            while batch := list(islice(rest, 50 * self._children)):
                yield from threads.map(one, batch)


@dataclass
class _Child:
    process: Any
    pipe: Connection

    @classmethod
    def start(cls) -> _Child:
        # Not forked: a child must not inherit the parent's threads, memory and open files.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        ours.recv()
        return cls(process, ours)

    def look(self, path: str, allow_damaged: bool) -> Seen:
        self.pipe.send((path, allow_damaged))
        try:
            if self.pipe.poll(TIME_LIMIT_S):
                return self.pipe.recv()  # type: ignore[no-any-return]
        except EOFError:
            self.process.join()
            return Seen("crashed", f"the child died with code {self.process.exitcode}")
        self.process.kill()
        self.process.join()
        return Seen("hung", f"no answer within {TIME_LIMIT_S} s")

    def stop(self) -> None:
        self.pipe.close()
        self.process.join(5)
        self.process.kill()


def _serve(pipe: Connection) -> None:
    """Read files until the parent closes the pipe."""
    _load_readers()
    bound_memory()
    pipe.send("ready")
    while True:
        try:
            path, allow_damaged = pipe.recv()
        except EOFError:
            return
        pipe.send(look(path, allow_damaged=allow_damaged))


def bound_memory() -> None:
    """Let this process take no more than `MEMORY_LIMIT_BYTES` beyond what it has now."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = now + MEMORY_LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _load_readers() -> None:
    """Load what reading needs now, so that the limit is about the file and not about imports."""
    from fuzz.seeds import write_smallest

    with tempfile.TemporaryDirectory() as folder:
        for path in write_smallest(Path(folder)):
            assert look(str(path)).outcome == "opened"
