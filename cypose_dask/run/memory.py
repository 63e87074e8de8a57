"""How much memory a block takes, asked before any work."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from cypose_dask.errors import MovieError

if TYPE_CHECKING:
    from distributed import Client

    from cypose_dask.run.plan import Plan

__all__ = ["block_bytes", "blocks_at_once", "memory_here", "require_memory"]

logger = logging.getLogger(__name__)

# Source: growth of a process's largest size while one CPU thread segmented frames of 1024 and
# 1536 px with 1,900 to 4,300 cells: 53 and 58 bytes a pixel at 1.54 network pixels a pixel,
# 111 at 3.07. The sum below is a fifth above that.
_BYTES_A_PIXEL = 48
_BYTES_A_NETWORK_PIXEL = 9
_LABEL_BYTES = 4
_DEBUG_BYTES = 12
GB = 1e9


def block_bytes(plan: Plan) -> int:
    """Return about how many bytes one block takes while it is worked on.

    The labels of all its frames are held until they are written, and one frame at a time is in
    the network while the next is read.
    """
    info, rescale = plan.movie.info, plan.model.diam_mean / plan.settings.diameter_px
    pixels = info.sizes["Y"] * info.sizes["X"]
    read = 2 * plan.network_input.info.sizes["C"] * info.dtype.itemsize
    kept = (_LABEL_BYTES + _DEBUG_BYTES * plan.debug) * plan.frames_per_block * info.sizes["Z"]
    return int(pixels * (read + kept + _BYTES_A_PIXEL + _BYTES_A_NETWORK_PIXEL * rescale**2))


def memory_here() -> int:
    """Return how many bytes this machine, or its container, gives to a process."""
    from distributed.system import MEMORY_LIMIT

    return int(MEMORY_LIMIT)


def blocks_at_once(client: Client | None) -> int:
    """Return how many blocks the busiest machine of a cluster works on at once."""
    machines: Counter[str] = Counter()
    for worker in client.scheduler_info(n_workers=-1)["workers"].values() if client else ():
        machines[worker["host"]] += worker["nthreads"]
    return max(machines.values(), default=1)


def require_memory(plan: Plan, *, available: int, at_once: int) -> None:
    """Refuse a plan whose blocks cannot fit into memory, and warn if only some fit at once.

    Parameters
    ----------
    plan : Plan
    available : int
        Memory of a worker's machine, bytes.
    at_once : int
        Blocks that are worked on at once there.

    Raises
    ------
    MovieError
        If one block takes more than there is.
    """
    sizes, need = plan.movie.info.sizes, block_bytes(plan)
    found = (
        f"{plan.movie.info.path}: a block of {plan.frames_per_block} x {sizes['Z']} frames of "
        f"{sizes['Y']} x {sizes['X']} px takes about {need / GB:.3g} GB of memory"
    )
    if need > available:
        raise MovieError(
            f"{found}, a worker's machine has {available / GB:.3g} GB. Give a larger diameter or "
            "--frames-per-block 1, crop or bin the frames, or use a machine with more memory."
        )
    if need * at_once > available:
        logger.warning(
            "%s, and %d at once more than the %.3g GB of a worker's machine. Give --workers %d.",
            found,
            at_once,
            available / GB,
            available // need,
        )
