"""Read a finished result block by block on a cluster: what measures and links its cells."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cypose_dask.engine import usable_cores
from cypose_dask.errors import RunError
from cypose_dask.results import Result
from cypose_dask.run.clusters import active_client, connect
from cypose_dask.run.watch import Watch, let_go, scheduler_may_be_lost

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Block", "each_block"]

# Blocks that are worked on or wait, for each thread of the cluster: what comes back is small, and
# none waits for the one before it.
_BLOCKS_A_THREAD = 2
# How long a cluster may be without a worker, s.
_PATIENCE_S = 300.0
_LOOK_EVERY_S = 5.0
# A result that takes longer to come was lost with its worker, and is made again.
_FETCH_S = 60.0


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive frames of one position.

    Attributes
    ----------
    position : int
    start, stop : int
        The first frame, and that behind the last; of the result.
    """

    position: int
    start: int
    stop: int


def each_block(
    result: Result, work: Callable[[Path, Block], Any], *, client: Client | None = None
) -> Iterator[tuple[Block, Any]]:
    """Yield what a function returns for each block, by position and time.

    A bounded number of blocks is worked on or waits to be taken, so that memory does not grow with
    the movie. When the caller stops, so do they.

    Parameters
    ----------
    result : Result
    work : callable
        Is given the path of the store and a block; can be pickled, and changes no file.
    client : distributed.Client or None
        None uses the active client; without one, a process for each core of this machine.

    Raises
    ------
    RunError
        If the cluster loses its scheduler or too many workers.
    """
    client = client or active_client()
    with nullcontext(client) if client else connect(workers=usable_cores()) as client:
        yield from _in_order(client, _blocks(result), (work, result.path.resolve()))


def _blocks(result: Result) -> Iterator[Block]:
    frames, step = result.layout.frames, result.layout.frames_per_block
    for position in range(result.n_positions):
        for start in range(0, frames, step):
            yield Block(position, start, min(start + step, frames))


def _in_order(
    client: Client, blocks: Iterator[Block], task: tuple[Callable[[Path, Block], Any], Path]
) -> Iterator[tuple[Block, Any]]:
    watch = Watch(client, _PATIENCE_S)
    under_way: deque[tuple[Block, Future]] = deque()
    try:
        while True:
            room = _BLOCKS_A_THREAD * watch.threads - len(under_way)
            for block in islice(blocks, max(room, 0)):
                with scheduler_may_be_lost(client):
                    under_way.append((block, client.submit(*task, block, pure=False)))
            if not under_way:
                return
            block, future = under_way.popleft()
            yield block, _value(future, watch)
    finally:
        let_go(client, [future for _, future in under_way])


def _value(future: Future, watch: Watch) -> Any:
    from distributed import KilledWorker, wait

    with scheduler_may_be_lost(watch.client):
        while future.status != "error":
            watch.look()
            try:
                wait(future, timeout=_LOOK_EVERY_S)
                if future.status == "finished":
                    return future.result(timeout=_FETCH_S)
            except (OSError, KilledWorker):  # nothing came, or its worker is gone: look
                continue
    error = future.exception()
    if isinstance(error, KilledWorker):
        raise RunError(
            f"Workers died while they read the result ({error}). Nothing was written; run again, "
            "with fewer --workers if memory was short."
        ) from error
    raise error
