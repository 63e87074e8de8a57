"""What a worker does with one block: read, segment, write its own shard, sync, report."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cypose_dask.engine import (
    Made,
    Networks,
    choose_device,
    load_networks,
    usable_cores,
)
from cypose_dask.errors import DamagedFrameError, DeviceError
from cypose_dask.models import ModelSpec
from cypose_dask.movies import LazyFrames
from cypose_dask.results import Result, Status
from cypose_dask.results.writing import write_block
from cypose_dask.run.alone import segment_alone
from cypose_dask.run.frames import FrameOutcome, segment_all
from cypose_dask.run.plan import Block, Plan
from cypose_dask.run.record import BlockRecord, FrameRecord
from cypose_dask.run.retry import patiently
from cypose_dask.settings import Settings

if TYPE_CHECKING:
    from distributed import Worker

__all__ = ["BlockTask", "segment_block"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BlockTask:
    """All that a worker must know besides the frames; travels with every task."""

    store: Path
    token: str | None
    settings: Settings
    model: ModelSpec
    restoration: ModelSpec | None
    device: str
    debug: bool
    alone: bool = False

    @classmethod
    def of(cls, plan: Plan, store: Result, *, alone: bool = False) -> BlockTask:
        """Take what workers need out of a plan; `alone` when the block has killed workers."""
        what = (plan.settings, plan.model, plan.restoration, plan.device, plan.debug)
        return cls(store.path.resolve(), store.token, *what, alone)

    def load(self) -> Networks:
        """Return the networks of this process, on the device that the plan names."""
        device = choose_device(self.settings.gpu)
        if device != self.device:
            raise DeviceError(
                f"This worker computes on {device}, but the plan was made for {self.device}. Give "
                "the run workers of one kind."
            )
        callers = _worker_threads()
        threads = max(1, usable_cores() // callers)
        return load_networks(
            self.model,
            device,
            self.restoration,
            settings=self.settings,
            threads=threads,
            callers=callers,
        )


def segment_block(frames: LazyFrames, task: BlockTask) -> np.ndarray:
    """Segment one block and write it; for `dask.array.map_blocks`.

    Parameters
    ----------
    frames : LazyFrames
        (t, 1, Z, C, Y, X), unread.
    task : BlockTask

    Returns
    -------
    (1, 1, 1, 1, 1, 1) ndarray of object
        The `BlockRecord`.
    """
    clock, begun, worker = time.time(), time.perf_counter(), _worker()
    block = Block(frames.position, frames.start, frames.start + len(frames))
    output = _Output(frames.shape, task.debug)
    segmented = (segment_alone if task.alone else segment_all)(frames, task)
    records = tuple(_record(outcome, frames, output) for outcome in segmented)
    place = (block.position, block.start - task.settings.start_frame)
    begun_writing = time.perf_counter()
    checksum = patiently(write_block, task.store, place, output.arrays, task.token)
    record = BlockRecord(
        block=block,
        frames=records,
        checksum=checksum,
        worker=str(worker.address) if worker else "this process",
        begun=clock,
        seconds=time.perf_counter() - begun,
        write_s=time.perf_counter() - begun_writing,
    )
    return _boxed(record)


class _Output:
    """The arrays of one block, filled frame by frame; frames that fail stay zero."""

    def __init__(self, shape: tuple[int, ...], debug: bool) -> None:
        t, _, z, _, y, x = shape
        self.arrays = {"labels": np.zeros((t, z, y, x), np.uint32)}
        if debug:
            self.arrays["flows"] = np.zeros((t, z, 2, y, x), np.float32)
            self.arrays["cellprob"] = np.zeros((t, z, y, x), np.float32)

    def put(self, at: tuple[int, int], made: Made) -> None:
        for name, array in self.arrays.items():
            array[at] = getattr(made, name)


def _record(outcome: FrameOutcome, frames: LazyFrames, output: _Output) -> FrameRecord:
    (t, z), made = outcome.at, outcome.made
    record = partial(FrameRecord, t=frames.start + t, z=z)
    if isinstance(made, DamagedFrameError):
        return record(status=Status.DAMAGED, error=str(made), non_finite="NaN" in str(made))
    if isinstance(made, Exception):
        place = (frames.start + t, z, frames.source.path)
        logger.error("frame t=%d z=%d of %s failed", *place, exc_info=made)
        return record(status=Status.FAILED, error=f"{type(made).__name__}: {made}")
    output.put(outcome.at, made)
    seen = {name: getattr(made.stats, name) for name in type(made.stats).__slots__}
    seconds = {"read": outcome.read_s} | made.stats.seconds
    return record(status=Status.DONE, **{**seen, "seconds": seconds})


def _worker() -> Worker | None:
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:  # no distributed worker: a threaded scheduler runs this
        return None


def _worker_threads() -> int:
    """Return how many blocks share the cores of this process."""
    worker = _worker()
    return worker.state.nthreads if worker else 1


def _boxed(record: BlockRecord) -> np.ndarray:
    box = np.empty((1,) * 6, dtype=object)
    box[...] = record
    return box
