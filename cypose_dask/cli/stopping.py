"""Ctrl-C and SIGTERM: the first asks a run to stop, the second ends it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

__all__ = ["stop_requests"]

# Batch systems send SIGTERM some time before they kill.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_MESSAGE = (
    b"\nStopping: blocks under way are finished and kept. Once more (Ctrl-C) stops at once; "
    b"that loses those blocks alone.\n"
)


@contextmanager
def stop_requests(asked: Event) -> Iterator[None]:
    """Let the first signal set an event, and the second one raise KeyboardInterrupt."""

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        os.write(2, _MESSAGE)  # print may be in the middle of a line of its own

    before = {one: signal.signal(one, ask) for one in _SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
