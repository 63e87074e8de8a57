"""What a worker in a job does first: plan to leave before the job ends, with its blocks finished.

Dask's own ``--lifetime`` lets blocks go that are under way, counts those of a lone worker as its
victims, and begins anew in a worker that replaces one that died.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Worker

__all__ = ["LEAVE_AT", "dask_setup", "leave"]

# Names the variable that says when, in seconds since 1970.
LEAVE_AT = "CYPOSE_LEAVE_AT"

_LOOK_EVERY_S = 0.2
# Records go to the client as soon as they are there.
_FETCH_S = 10.0


async def dask_setup(worker: Worker) -> None:
    """Set up a new worker; Dask calls this in its event loop."""
    rest = float(os.environ[LEAVE_AT]) - time.time()
    worker.loop.call_later(max(0.0, rest), leave, worker)


async def leave(worker: Worker) -> None:
    """Begin no task any more, finish what is under way, hand it over and end."""
    from distributed.core import Status

    worker.status = Status.paused
    while worker.state.executing_count:
        await asyncio.sleep(_LOOK_EVERY_S)
    until = time.monotonic() + _FETCH_S
    while worker.data and time.monotonic() < until:
        await asyncio.sleep(_LOOK_EVERY_S)
    await worker.close_gracefully(reason="its job ends soon")
