"""What a run says while it goes on: a bar on a terminal, lines elsewhere, or JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click

from cypose_dask.cli.outcomes import echo_outcome
from cypose_dask.cli.pace import Pace

if TYPE_CHECKING:
    from cypose_dask.run import MovieOutcome, Plan, Watcher
    from cypose_dask.run.record import BlockRecord

__all__ = ["KINDS", "Listener", "frames_bar", "make_reporter", "watcher_of"]

KINDS = ("auto", "bar", "lines", "json", "none")
_LINE_EVERY_S = 30.0
_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


class Listener(Protocol):
    """Hears of a job: the callables of a `Watcher`."""

    def plan(self, source: str, plan: Plan) -> None:
        """Hear that a movie begins."""

    def block(self, source: str, record: BlockRecord, done: int, total: int) -> None:
        """Hear that a block has ended."""

    def outcome(self, outcome: MovieOutcome) -> None:
        """Hear that a movie has ended."""


class Reporter(Listener, Protocol):
    """A listener that hears of the cluster too, and has an end."""

    def cluster(self, dashboard: str) -> None:
        """Hear that the cluster is there."""

    def close(self) -> None:
        """Hear that the job has ended."""


def make_reporter(kind: str, n_movies: int) -> Reporter:
    """Return what speaks for a job; ``auto`` is a bar on a terminal and lines elsewhere."""
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "lines"
    pace = Pace(n_movies)
    made: dict[str, Any] = {"bar": _Bar, "lines": _Lines, "json": _Json, "none": _Silent}
    reporter: Reporter = made[kind](pace)
    return reporter


def watcher_of(*listeners: Listener) -> Watcher:
    """Return a watcher that tells all of them."""
    from cypose_dask.run import Watcher

    def tell(name: str) -> Any:
        heard = [getattr(listener, name) for listener in listeners]
        return lambda *what: [hear(*what) for hear in heard]

    return Watcher(plan=tell("plan"), block=tell("block"), outcome=tell("outcome"))


class _Silent:
    """Says what failed, and nothing else."""

    def __init__(self, pace: Pace) -> None:
        self.pace, self.device = pace, "cpu"

    def cluster(self, dashboard: str) -> None:
        pass

    def plan(self, source: str, plan: Plan) -> None:
        self.device = plan.device
        self.pace.plan(source, plan)

    def block(self, source: str, record: BlockRecord, done: int, total: int) -> None:
        self.pace.block(source, record, done)

    def outcome(self, outcome: MovieOutcome) -> None:
        self.pace.end()
        if not outcome.whole:
            echo_outcome(outcome)

    def close(self) -> None:
        pass


class _Lines(_Silent):
    """Prints a line every half minute, for logs of batch systems."""

    def __init__(self, pace: Pace) -> None:
        super().__init__(pace)
        self._printed = time.monotonic()

    def cluster(self, dashboard: str) -> None:
        if dashboard:
            click.echo(f"dashboard {dashboard}")

    def plan(self, source: str, plan: Plan) -> None:
        super().plan(source, plan)
        click.echo("\n".join(plan.describe()))

    def block(self, source: str, record: BlockRecord, done: int, total: int) -> None:
        super().block(source, record, done, total)
        if time.monotonic() - self._printed > _LINE_EVERY_S or self.pace.done == self.pace.total:
            click.echo(f"          {self._line()}")
            self._printed = time.monotonic()

    def outcome(self, outcome: MovieOutcome) -> None:
        self.pace.end()
        echo_outcome(outcome)

    def _line(self) -> str:
        pace = self.pace
        left = "" if pace.left_s is None else f", {duration(pace.left_s)} left"
        frames = f"{pace.done} of {pace.total} frames, {pace.frames_per_s:.2f} frames/s{left}"
        return ", ".join([frames, *self._remarks()])

    def _remarks(self) -> list[str]:
        pace = self.pace
        movies = f"movie {pace.ended + 1} of {pace.n_movies}"
        return [
            *([movies] if pace.n_movies > 1 and pace.ended < pace.n_movies else []),
            *([f"{pace.failed} failed"] if pace.failed else []),
            *([] if self.device == "cpu" else [f"GPU {min(pace.busy, 1.0):.0%} busy"]),
        ]


class _Bar(_Lines):
    """Moves one bar for all movies."""

    def __init__(self, pace: Pace) -> None:
        super().__init__(pace)
        from tqdm import tqdm

        self._bar = tqdm(unit="frame", smoothing=0.1, disable=None)

    def plan(self, source: str, plan: Plan) -> None:
        with self._bar.external_write_mode():
            super().plan(source, plan)
        self._bar.total = self.pace.total
        self._bar.refresh()

    def block(self, source: str, record: BlockRecord, done: int, total: int) -> None:
        self.pace.block(source, record, done)
        self._bar.update(self.pace.done - self._bar.n)
        self._bar.set_postfix_str(", ".join(self._remarks()))

    def outcome(self, outcome: MovieOutcome) -> None:
        with self._bar.external_write_mode():
            super().outcome(outcome)

    def close(self) -> None:
        self._bar.close()


class _Json(_Silent):
    """Prints one JSON object a line on standard output, and nothing else there."""

    def cluster(self, dashboard: str) -> None:
        _print_json("cluster", dashboard=dashboard or None)

    def plan(self, source: str, plan: Plan) -> None:
        super().plan(source, plan)
        blocks = sum(1 for _ in plan.blocks())
        _print_json("plan", movie=source, frames=plan.n_frames, blocks=blocks, device=plan.device)

    def block(self, source: str, record: BlockRecord, done: int, total: int) -> None:
        super().block(source, record, done, total)
        pace = self.pace
        left = None if pace.left_s is None else round(pace.left_s, 1)
        _print_json(
            "block",
            movie=source,
            position=record.block.position,
            start=record.block.start,
            stop=record.block.stop,
            cells=sum(frame.cells for frame in record.frames),
            movie_done=done,
            movie_frames=total,
            done=pace.done,
            frames=pace.total,
            movies_ended=pace.ended,
            movies=pace.n_movies,
            failed=pace.failed,
            frames_per_s=round(pace.frames_per_s, 3),
            busy=round(pace.busy, 3),
            seconds_left=left,
        )

    def outcome(self, outcome: MovieOutcome) -> None:
        self.pace.end()
        _print_json(
            "outcome",
            movie=outcome.source,
            whole=outcome.whole,
            error=outcome.error,
            frames=outcome.frames,
            frames_not_done=len(outcome.not_done),
            cells=outcome.cells,
            zarr=str(outcome.names.zarr),
            tif=[str(path) for path in outcome.tifs],
            run_json=str(outcome.names.run_json),
            seconds=round(outcome.seconds, 3),
        )


def _print_json(event: str, **fields: Any) -> None:
    click.echo(json.dumps({"event": event, **fields}))


def duration(seconds: float) -> str:
    """Return a time in the two units that matter: 45 s, 12 min 30 s, 3 h 20 min, 2 d 4 h."""
    whole = round(seconds)
    for large, name, small, rest in _UNITS:
        if whole >= large:
            return f"{whole // large} {name} {whole % large // small} {rest}"
    return f"{whole} s"


@contextmanager
def frames_bar() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal, and none elsewhere; it is told frames done and their total."""
    from tqdm import tqdm

    with tqdm(unit="frame", smoothing=0.1, disable=None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
