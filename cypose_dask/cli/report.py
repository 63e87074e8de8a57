"""What a run says while it goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cypose_dask.run import MovieOutcome, Plan
    from cypose_dask.run.directory import MissingFrame

__all__ = ["Reporter", "echo_missing", "printable", "summarise"]

_PLAIN_LINE_EVERY_S = 30.0
LISTED_FRAMES = 10


class Reporter:
    """Prints plans, progress and outcomes; counts only what this run computes."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._begun = self._printed = 0.0
        self._first: int | None = None

    def plan(self, plan: Plan) -> None:
        """Print the resolved plan of a movie and start its bar."""
        click.echo("\n".join(plan.describe()))
        self._begun = self._printed = time.monotonic()
        self._first = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=plan.n_frames, unit="frame", smoothing=0.1)

    def block(self, record: Any, done: int, total: int) -> None:
        """Advance by one block."""
        if self._first is None:
            self._first = done - len(record.frames)
            if self._bar is not None:
                self._bar.initial = self._bar.n = self._first
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif time.monotonic() - self._printed > _PLAIN_LINE_EVERY_S or done == total:
            self._print_line(done, total)

    def outcome(self, outcome: MovieOutcome) -> None:
        """Print what became of a movie."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if outcome.error is not None:
            click.echo(f"failed    {outcome.source}: {outcome.error}", err=True)
            return
        click.echo(f"done      {outcome.frames} frames, {outcome.cells} cells")
        click.echo(f"result    {outcome.names.zarr}")
        for tif in outcome.tifs:
            click.echo(f"labels    {tif}")
        _echo_not_done(outcome)

    def _print_line(self, done: int, total: int) -> None:
        now = time.monotonic()
        rate = (done - (self._first or 0)) / max(now - self._begun, 1e-9)
        left = (total - done) / rate if rate else float("inf")
        click.echo(f"          {done} of {total} frames, {rate:.2f} frames/s, {left:.0f} s left")
        self._printed = now


def summarise(outcomes: Sequence[MovieOutcome]) -> int:
    """Print the failed movies once more, and return the exit code."""
    bad = [outcome for outcome in outcomes if not outcome.whole]
    if len(outcomes) > 1:
        click.echo(f"{len(outcomes) - len(bad)} of {len(outcomes)} movies are whole.")
        for outcome in bad:
            reason = outcome.error or f"{len(outcome.not_done)} frames without labels"
            click.echo(f"  {outcome.source}: {reason}", err=True)
    return 1 if bad else 0


def _echo_not_done(outcome: MovieOutcome) -> None:
    rest = f"all of them are in {outcome.names.run_json}"
    number = len(outcome.not_done)
    echo_missing(outcome.not_done, number, rest=rest, advice=_what_to_do(outcome))


def echo_missing(frames: Sequence[MissingFrame], number: int, *, rest: str, advice: str) -> None:
    """List the first of a number of frames without labels, say where the rest is, what to do."""
    if not number:
        return
    click.echo(f"warning   {number} frames have no labels:", err=True)
    for frame in frames[:LISTED_FRAMES]:
        where = f"t={frame.t} position={frame.position} z={frame.z}"
        reason = printable(frame.reason)
        click.echo(f"          {where}: {frame.status.name.lower()}: {reason}", err=True)
    if number > LISTED_FRAMES:
        click.echo(f"          ... {rest}", err=True)
    click.echo(f"          {advice}", err=True)


def printable(text: object) -> str:
    """Return text for a terminal: names inside files may hold its control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def _what_to_do(outcome: MovieOutcome) -> str:
    if outcome.tifs:
        return "these are blank pages in the TIF"
    blank = f"`cypose-dask export {outcome.names.zarr} --allow-incomplete` leaves them blank."
    if any(frame.status.name == "FAILED" for frame in outcome.not_done):
        return f"no TIF was written. The same command tries failed frames again; {blank}"
    return f"no TIF was written. --allow-damaged accepts damaged frames as blank pages; {blank}"
