"""How far a job of several movies is, how fast it goes, and how long it still takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cypose_dask.run import Plan
    from cypose_dask.run.record import BlockRecord

__all__ = ["Pace"]


class Pace:
    """Counts what a job has done; frames of earlier runs are done, but tell nothing of its speed.

    Parameters
    ----------
    n_movies : int
    clock : callable
        Seconds that only grow.

    Attributes
    ----------
    opened, ended : int
        Movies.
    done, total : int
        Frames of the movies that are opened, those of earlier runs included.
    computed, failed : int
        Frames of this run, and how many of them have no labels.
    """

    def __init__(self, n_movies: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.n_movies, self._clock = n_movies, clock
        self.opened = self.ended = self.total = self.computed = self.failed = 0
        self._done: dict[str, int] = {}
        self._workers: set[str] = set()
        self._on_device_s = 0.0
        self._begun: float | None = None

    @property
    def done(self) -> int:
        """Frames that are done, of the movies that are opened."""
        return sum(self._done.values())

    def plan(self, source: str, plan: Plan) -> None:
        """Count a movie that begins."""
        self._begun = self._clock() if self._begun is None else self._begun
        self.opened += 1
        self.total += plan.n_frames
        self._done[source] = 0

    def block(self, source: str, record: BlockRecord, done: int) -> None:
        """Count a block; `done` is the movie's number of frames with it."""
        self._done[source] = done
        self.computed += len(record.frames)
        self.failed += sum(frame.error is not None for frame in record.frames)
        self._workers |= {record.worker} - {""}
        self._on_device_s += sum(frame.seconds.get("forward", 0.0) for frame in record.frames)

    def end(self) -> None:
        """Count a movie that has ended, however."""
        self.ended += 1

    @property
    def elapsed_s(self) -> float:
        """Time since the first movie began, s."""
        return 0.0 if self._begun is None else self._clock() - self._begun

    @property
    def frames_per_s(self) -> float:
        """Frames of this run over its time, 1/s."""
        return self.computed / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Time to the end, s; movies that are not opened yet are taken to be like the others."""
        if not self.frames_per_s:
            return None
        unopened = (self.n_movies - self.opened) * self.total / max(self.opened, 1)
        return (self.total - self.done + unopened) / self.frames_per_s

    @property
    def busy(self) -> float:
        """Share of the time in which the network ran, per worker process; above 1 with threads."""
        time_s = self.elapsed_s * max(len(self._workers), 1)
        return self._on_device_s / time_s if time_s > 0 else 0.0
