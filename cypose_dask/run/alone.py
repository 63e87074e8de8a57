"""A block that kills its worker: its frames, one at a time, in a child process that may die.

The worker keeps a child beside it, asks it for one frame after the other, and starts another one
when it dies. So the frame that kills is known, and the others of its block get their labels.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from cypose_dask.engine import attempt
from cypose_dask.errors import RunError
from cypose_dask.run.frames import FrameOutcome, Place, places_of, segment_one
from cypose_dask.run.preload import leave_signals_to_the_client

if TYPE_CHECKING:
    from cypose_dask.movies import LazyFrames
    from cypose_dask.run.worker import BlockTask

__all__ = ["segment_alone", "serve"]

# Not multiprocessing: Dask's workers are daemons, which may not have children of that kind.
_COMMAND = [sys.executable, "-c", "from cypose_dask.run.alone import serve; serve()"]
_LIKELY = {
    "SIGKILL": "most likely the machine ran out of memory",
    "SIGBUS": "most likely the file was cut while it was read, or a disk is full",
}


def segment_alone(frames: LazyFrames, task: BlockTask) -> Iterator[FrameOutcome]:
    """Segment a block's frames in child processes; a frame that kills its child has failed.

    Parameters
    ----------
    frames : LazyFrames
        (t, 1, Z, C, Y, X), unread.
    task : BlockTask
    """
    places = places_of(frames)
    while places:
        with _child(frames, task) as child:
            while places:
                at = places.pop(0)
                try:
                    yield _ask(child, at)
                except (EOFError, OSError, pickle.UnpicklingError):
                    yield FrameOutcome(at, RunError(_how_it_ended(child)))
                    break


def serve() -> None:
    """Answer the worker that started this process, until it closes the line."""
    leave_signals_to_the_client()
    answers = _own_stdout()
    frames, task = pickle.load(sys.stdin.buffer)
    while True:
        try:
            at = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        outcome = attempt(segment_one, frames, at, task)
        if isinstance(outcome, Exception):
            outcome = FrameOutcome(at, outcome)
        pickle.dump(outcome, answers)
        answers.flush()


def _own_stdout() -> IO[bytes]:
    """Take the line to the worker for ourselves; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


@contextmanager
def _child(frames: LazyFrames, task: BlockTask) -> Iterator[subprocess.Popen[bytes]]:
    # It must find the modules that this process finds: a reader may come from the user's script.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    try:
        _send(child, (frames, task))
        yield child
    finally:
        child.kill()  # it has nothing to lose
        child.communicate()


def _ask(child: subprocess.Popen[bytes], at: Place) -> FrameOutcome:
    _send(child, at)
    assert child.stdout is not None
    outcome: FrameOutcome = pickle.load(child.stdout)
    return outcome


def _send(child: subprocess.Popen[bytes], message: object) -> None:
    assert child.stdin is not None
    pickle.dump(message, child.stdin)
    child.stdin.flush()


def _how_it_ended(child: subprocess.Popen[bytes]) -> str:
    code = child.wait()
    if code >= 0:
        return f"the process that segmented this frame alone ended with code {code}; see the log"
    name = signal.Signals(-code).name
    hint = f" ({_LIKELY[name]})" if name in _LIKELY else ""
    return f"the process that segmented this frame alone was ended by {name}{hint}"
