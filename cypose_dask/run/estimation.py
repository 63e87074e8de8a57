"""How long a run would take, and how much of disk and memory, from a few frames on its cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from cypose_dask.errors import MovieError, RunError
from cypose_dask.movies import Movie
from cypose_dask.results import Status, open_result
from cypose_dask.run.begin import is_continued, plan_result
from cypose_dask.run.clusters import active_client, connect
from cypose_dask.run.execute import wait_for_workers
from cypose_dask.run.memory import block_bytes
from cypose_dask.run.plan import Block, Plan, make_plan
from cypose_dask.run.sampling import Sample, frames_at_once, time_blocks
from cypose_dask.run.state import state_of
from cypose_dask.run.watch import scheduler_may_be_lost
from cypose_dask.settings import RunOptions, Settings

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Estimate", "estimate", "workers_until"]

# Blocks that each thread times, from different times of the movie: cells grow and divide.
_TIMED_BLOCKS = 2
# Groups of frames in each, so that the second is read while the first is on the device.
_GROUPS = 2
_LISTEN_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a run of one movie would take on a cluster like the one that was asked.

    Attributes
    ----------
    plan : Plan
    frames_left, blocks_left : int
        Without those that an earlier run has finished. Blocks are done again as a whole.
    frames_timed : int
    workers, threads : int
        Of the cluster; each thread has a block of its own.
    frames_per_s : float
        Of the whole cluster, frames/s.
    memory_bytes : int
        Largest resident size of a worker that was seen.
    gpu_bytes : int or None
        Most that PyTorch held on the GPU of a worker; None if it did not compute on CUDA.
    frame_stored_bytes, frame_exported_bytes : float
        Of one frame in the zarr and in the TIFs, compressed.
    """

    plan: Plan
    frames_left: int
    blocks_left: int
    frames_timed: int
    workers: int
    threads: int
    frames_per_s: float
    memory_bytes: int
    gpu_bytes: int | None
    frame_stored_bytes: float
    frame_exported_bytes: float

    @property
    def seconds_left(self) -> float:
        """Time to segment what is left on this cluster, s; the last TIF is written after that."""
        return self.frames_left / self.frames_per_s

    @property
    def disk_bytes(self) -> int:
        """What files will take that are not there yet: the rest of the zarr, and the TIFs."""
        stored = self.frames_left * self.frame_stored_bytes
        return round(stored + self.plan.n_frames * self.frame_exported_bytes)

    @property
    def block_bytes(self) -> int:
        """About what one block takes of a worker's memory while it is worked on."""
        return block_bytes(self.plan)


def estimate(
    movie: Movie,
    settings: Settings | None = None,
    *,
    client: Client | None = None,
    options: RunOptions | None = None,
    store: str | Path | None = None,
) -> Estimate:
    """Time a few frames of a movie on every thread of a cluster at once.

    Blocks spread over the movie are read, segmented and written as in a run, into temporary
    folders of the workers; a first round loads models and compiles kernels and is not counted.
    Nothing is written anywhere else.

    Parameters
    ----------
    movie : Movie
        From `open_movie`.
    settings : Settings
    client : distributed.Client or None
        Cluster to ask. None uses the active client; without one, the threads of this process.
    options : RunOptions
    store : str, Path or None
        A result that would be continued, if it is there: only what is left of it counts.

    Raises
    ------
    SettingsError, MovieError, ModelError, DeviceError
        If the plan cannot be made, or none of the frames could be segmented.
    ResultMismatchError, ResultError
        If `store` would not be continued.
    RunError
        If the cluster is lost.

    Examples
    --------
    >>> found = estimate(movie, Settings(diameter=20))
    >>> found.frames_left == movie.info.sizes["T"]
    True
    >>> workers_until([found], seconds=1e6)
    1
    """
    settings, options = settings or Settings(), options or RunOptions()
    client = client or active_client()
    with nullcontext(client) if client else connect(processes=False) as client:
        wait_for_workers(client, options.wait_for_workers_s, Event())
        plan, left = _what_is_left(movie, settings, options, client=client, store=store)
        threads = client.nthreads()
        timed = _timed_plan(plan, client, threads)
        samples = _timed(timed, left, client, threads)
    return _estimated(plan, left, samples, workers=len(threads))


def workers_until(estimates: Iterable[Estimate], seconds: float) -> int:
    """Return how many workers like those that were asked segment some movies within a time.

    Twice the workers are taken to be twice as fast. There are never more than blocks, even if
    these are not enough.

    Parameters
    ----------
    estimates : iterable of Estimate
        Of the same cluster.
    seconds : float
        Above 0, s.
    """
    asked = list(estimates)
    needed = math.ceil(sum(one.seconds_left * one.workers for one in asked) / seconds)
    return min(needed, sum(one.blocks_left for one in asked))


def _what_is_left(
    movie: Movie,
    settings: Settings,
    options: RunOptions,
    *,
    client: Client,
    store: str | Path | None,
) -> tuple[Plan, list[Block]]:
    """Return a movie's plan, and the blocks that are not finished."""
    if store is None or not is_continued(Path(store), options):
        plan = make_plan(movie, settings, options, client=client)
        return plan, list(plan.blocks())
    plan = plan_result(Path(store), movie, settings, options=options, client=client)
    status = state_of(open_result(store)).status
    waits = np.isin(status, (Status.PENDING, Status.FAILED)).any(axis=2)
    return plan, [
        block
        for block in plan.blocks()
        if waits[block.position, block.start - plan.start : block.stop - plan.start].any()
    ]


def _timed_plan(plan: Plan, client: Client, threads: dict[str, int]) -> Plan:
    """Return the plan with blocks no longer than it takes to fill a device twice."""
    futures = [_submit(client, worker, frames_at_once, plan) for worker in threads]
    size = max(_gathered(futures, client, threads))
    frames = math.ceil(_GROUPS * size / plan.movie.info.sizes["Z"])
    return replace(plan, frames_per_block=min(frames, plan.frames_per_block))


def _timed(
    plan: Plan, left: Sequence[Block], client: Client, threads: dict[str, int]
) -> list[Sample]:
    """Time blocks on all threads at once, after a round that warms up."""
    places = [worker for worker, count in threads.items() for _ in range(count)]
    chosen = _evenly(_shortened(left or list(plan.blocks()), plan), _TIMED_BLOCKS * len(places))
    for rounds in (1, _TIMED_BLOCKS):
        shares = [chosen[i :: len(places)][:rounds] for i in range(len(places))]
        futures = [
            _submit(client, worker, time_blocks, plan, share)
            for worker, share in zip(places, shares, strict=True)
        ]
        samples = _gathered(futures, client, threads)
    return samples


def _shortened(blocks: Sequence[Block], plan: Plan) -> list[Block]:
    """Return the first frames of each block, as many as the plan's blocks have."""
    length = plan.frames_per_block
    return [replace(block, stop=min(block.stop, block.start + length)) for block in blocks]


def _evenly(blocks: Sequence[Block], count: int) -> list[Block]:
    """Return blocks spread over all; some twice where there are fewer."""
    return [blocks[i] for i in np.linspace(0, len(blocks) - 1, count).round().astype(int)]


def _submit(client: Client, worker: str, function: Callable[..., Any], *args: Any) -> Any:
    return client.submit(function, *args, workers=[worker], pure=False)


def _gathered(futures: list[Any], client: Client, threads: dict[str, int]) -> list[Any]:
    """Return the results of tasks that only their own workers can do.

    Raises
    ------
    RunError
        If one of them is lost.
    """
    from distributed import KilledWorker, wait

    with scheduler_may_be_lost(client):
        while True:
            try:
                wait(futures, timeout=_LISTEN_EVERY_S)
                return list(client.gather(futures))
            except TimeoutError:
                _require_workers(threads, client)
            except KilledWorker as error:
                raise _lost(error.last_worker.address) from error


def _require_workers(threads: dict[str, int], client: Client) -> None:
    for worker in threads.keys() - client.nthreads().keys():
        raise _lost(worker)


def _lost(worker: str) -> RunError:
    return RunError(
        f"The worker {worker} was lost while it segmented a few frames. Look at what it printed; "
        "with fewer threads, or smaller --frames-per-block, a worker needs less memory."
    )


def _estimated(
    plan: Plan, left: Sequence[Block], samples: Sequence[Sample], *, workers: int
) -> Estimate:
    frames = sum(sample.frames for sample in samples)
    if not frames:
        reason = next(error for sample in samples for error in sample.errors)
        raise MovieError(
            f"{plan.movie.info.path}: none of the frames that were tried could be segmented "
            f"({reason}), so nothing is known of the others."
        )
    gpus = [sample.gpu_bytes for sample in samples if sample.gpu_bytes is not None]
    return Estimate(
        plan=plan,
        frames_left=sum(b.stop - b.start for b in left) * plan.movie.info.sizes["Z"],
        blocks_left=len(left),
        frames_timed=frames,
        workers=workers,
        threads=len(samples),
        frames_per_s=sum(sample.frames / sample.seconds for sample in samples),
        memory_bytes=max(sample.memory_bytes for sample in samples),
        gpu_bytes=max(gpus, default=None),
        frame_stored_bytes=sum(sample.stored_bytes for sample in samples) / frames,
        frame_exported_bytes=sum(sample.exported_bytes for sample in samples) / frames,
    )
