"""What a worker does with one block: read, segment, write its own shard, sync, report."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.engine import Networks, choose_device, load_networks, segment_frame
from cypose_dask.errors import DamagedFrameError, DeviceError
from cypose_dask.models import ModelSpec
from cypose_dask.movies import LazyFrames
from cypose_dask.results import Status
from cypose_dask.results.store import write_block
from cypose_dask.run.plan import Block, Plan
from cypose_dask.run.record import BlockRecord, FrameRecord
from cypose_dask.settings import Settings

__all__ = ["BlockTask", "segment_block"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BlockTask:
    """All that a worker must know besides the frames; travels with every task."""

    store: Path
    settings: Settings
    model: ModelSpec
    restoration: ModelSpec | None
    device: str
    debug: bool

    @classmethod
    def of(cls, plan: Plan, store: Path) -> BlockTask:
        """Take what workers need out of a plan."""
        return cls(
            store.resolve(), plan.settings, plan.model, plan.restoration, plan.device, plan.debug
        )

    def load(self) -> Networks:
        """Return the networks of this process, on the device that the plan names."""
        device = choose_device(self.settings.gpu)
        if device != self.device:
            raise DeviceError(
                f"This worker computes on {device}, but the plan was made for {self.device}. Give "
                "the run workers of one kind."
            )
        return load_networks(self.model, device, self.restoration)


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
    begun = time.perf_counter()
    networks = task.load()
    block = Block(frames.position, frames.start, frames.start + len(frames))
    output = _Output(frames.shape, task.debug)
    records = tuple(_segment_all(frames, output, (task.settings, networks)))
    place = (block.position, block.start - task.settings.start_frame)
    checksum = write_block(task.store, place, output.arrays)
    record = BlockRecord(
        block=block,
        frames=records,
        checksum=checksum,
        worker=_worker_address(),
        seconds=time.perf_counter() - begun,
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

    def put(self, at: tuple[int, int], made: tuple[Any, ...]) -> None:
        for name, values in zip(("labels", "flows", "cellprob"), made, strict=False):
            if name in self.arrays:
                self.arrays[name][at] = values


def _segment_all(
    frames: LazyFrames, output: _Output, how: tuple[Settings, Networks]
) -> Iterator[FrameRecord]:
    for t in range(frames.shape[0]):
        for z in range(frames.shape[2]):
            yield _segment_one(frames, output, (t, z), how)


def _segment_one(
    frames: LazyFrames, output: _Output, at: tuple[int, int], how: tuple[Settings, Networks]
) -> FrameRecord:
    settings, networks = how
    t, z = at
    record = partial(FrameRecord, t=frames.start + t, z=z)
    try:
        begun = time.perf_counter()
        frame = frames.read(t, 0, z)
        seconds = {"read": time.perf_counter() - begun}
        *made, stats = segment_frame(frame, networks, settings)
    except DamagedFrameError as error:
        non_finite = "NaN" in str(error)
        return record(status=Status.DAMAGED, error=str(error), non_finite=non_finite)
    except Exception as error:  # a bad frame fails its frame, not the movie
        logger.exception("frame t=%d z=%d of %s failed", frames.start + t, z, frames.source.path)
        return record(status=Status.FAILED, error=f"{type(error).__name__}: {error}")
    output.put(at, tuple(made))
    seen = {name: getattr(stats, name) for name in type(stats).__slots__}
    return record(status=Status.DONE, **{**seen, "seconds": seconds | stats.seconds})


def _worker_address() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:  # no distributed worker: a threaded scheduler runs this
        return "this process"


def _boxed(record: BlockRecord) -> np.ndarray:
    box = np.empty((1,) * 6, dtype=object)
    box[...] = record
    return box
