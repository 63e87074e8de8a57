"""Ask every worker for its facts, in bounded time: none that hangs holds up the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from cypose_dask.engine import attempt
from cypose_dask.errors import RunError
from cypose_dask.run.preflight.facts import Facts, look
from cypose_dask.run.preflight.needs import Needs
from cypose_dask.run.watch import scheduler_may_be_lost

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Answer", "ask", "ask_this_process"]

# For the way to a worker and back, beyond the time that it has.
_WAY_S = 10.0
_LOOK_EVERY_S = 0.005
# How soon it is noticed that a worker is gone, s.
_LEFT_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What one process answered: its facts, or why there are none; `threads` are its blocks."""

    where: str
    threads: int
    facts: Facts | Exception


def ask(client: Client, needs: Needs, tokens: Sequence[Path] = ()) -> list[Answer]:
    """Ask every worker, all at once; the parameters are those of `look`.

    Raises
    ------
    RunError
        If the scheduler is lost.
    """
    patience_s = needs.patience_s + 2 * _WAY_S + 4 * _LEFT_S  # for the last looks at who left
    with scheduler_may_be_lost(client):
        answers: list[Answer] = client.sync(
            _ask_all, client, needs, tokens, callback_timeout=patience_s
        )
    return answers


def ask_this_process(needs: Needs, tokens: Sequence[Path] = ()) -> Answer:
    """Ask the process that calls this; the parameters are those of `look`."""
    return Answer(where="this machine", threads=1, facts=asyncio.run(_answer(needs, tokens)))


async def _ask_all(client: Client, needs: Needs, tokens: Sequence[Path]) -> list[Answer]:
    threads = await client.scheduler.ncores()
    given = await asyncio.gather(*(_ask_one(client, where, needs, tokens) for where in threads))
    return [
        Answer(where=where, threads=n, facts=facts)
        for (where, n), facts in zip(threads.items(), given, strict=True)
        if facts is not None
    ]


async def _ask_one(
    client: Client, where: str, needs: Needs, tokens: Sequence[Path]
) -> Facts | Exception | None:
    """Return the answer of one worker; None if it left the cluster instead, as workers may."""
    # One message a worker: the scheduler answers a broadcast only when the slowest has answered.
    asked = asyncio.ensure_future(
        client._run(_answer, needs, tokens, workers=[where], on_error="return")
    )
    until = time.monotonic() + needs.patience_s + _WAY_S
    while not asked.done() and time.monotonic() < until:
        await asyncio.wait({asked}, timeout=_LEFT_S)
        if not asked.done() and await _has_left(client, where):
            break
    facts = asked.result()[where] if asked.done() else _no_answer(needs)
    asked.cancel()
    if isinstance(facts, Exception):
        await asyncio.sleep(_LEFT_S)  # the scheduler may learn later than we that a worker died
        return None if await _has_left(client, where) else facts
    return facts


async def _has_left(client: Client, where: str) -> bool:
    return where not in await client.scheduler.ncores()


def _no_answer(needs: Needs) -> RunError:
    return RunError(f"no answer within {needs.patience_s + _WAY_S:.0f} s")


async def _answer(needs: Needs, tokens: Sequence[Path]) -> Facts | Exception:
    """Look in a thread, which may hang in a disk or a driver for ever; runs on workers."""
    looking = _Looking(needs, tokens)
    looking.start()
    until = time.monotonic() + needs.patience_s
    while looking.is_alive():
        if time.monotonic() > until:
            return RunError(f"{looking.doing} did not answer within {needs.patience_s:.0f} s")
        await asyncio.sleep(_LOOK_EVERY_S)
    return looking.found


class _Looking(Thread):
    """Looks, and knows what it is doing; a daemon, so that it keeps no process from ending."""

    def __init__(self, needs: Needs, tokens: Sequence[Path]) -> None:
        super().__init__(name="preflight", daemon=True)
        self.doing = "the process"
        self.found: Facts | Exception = RunError("nothing was found out")
        self._asked = (needs, tokens)

    def run(self) -> None:
        self.found = attempt(look, *self._asked, self._say)

    def _say(self, doing: str) -> None:
        self.doing = doing
