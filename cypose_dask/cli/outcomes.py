"""What a command says at its end: outcomes, and frames without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cypose_dask.run import MovieOutcome
    from cypose_dask.run.outcome import MissingFrame

__all__ = ["echo_missing", "echo_outcome", "printable", "summarise"]

LISTED_FRAMES = 10


def echo_outcome(outcome: MovieOutcome) -> None:
    """Print what became of a movie."""
    if outcome.error is not None:
        click.echo(f"failed    {_named(outcome.source, outcome.error)}", err=True)
        return
    click.echo(f"done      {outcome.frames} frames, {outcome.cells} cells")
    click.echo(f"result    {outcome.names.zarr}")
    for tif in outcome.tifs:
        click.echo(f"labels    {tif}")
    _echo_not_done(outcome)


def summarise(outcomes: Sequence[MovieOutcome], *, quiet: bool = False) -> int:
    """Print the failed movies once more, unless `quiet`, and return the exit code."""
    bad = [outcome for outcome in outcomes if not outcome.whole]
    if len(outcomes) > 1 and not quiet:
        click.echo(f"{len(outcomes) - len(bad)} of {len(outcomes)} movies are whole.")
        for outcome in bad:
            reason = outcome.error or f"{len(outcome.not_done)} frames without labels"
            click.echo(f"  {_named(outcome.source, reason)}", err=True)
    return 1 if bad else 0


def _named(source: str, message: str) -> str:
    """Put a movie's name in front of a message, unless it is there."""
    return message if message.startswith(source) else f"{source}: {message}"


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
