"""What one thread of a worker does while a run is estimated: real blocks, into a folder that goes.

Blocks are read, segmented, compressed and written as in a run, but into a temporary folder of the
worker, and made into TIFs there, so that the sizes of all files are known.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import numpy as np

from cypose_dask.engine import largest_gpu_bytes
from cypose_dask.movies import LazyFrames
from cypose_dask.results import (
    Result,
    Status,
    create_result,
    export_debug_tifs,
    export_tif,
    open_result,
)
from cypose_dask.results.writing import write_status
from cypose_dask.run.plan import Block, Plan
from cypose_dask.run.record import BlockRecord
from cypose_dask.run.worker import BlockTask, segment_block

__all__ = ["Sample", "frames_at_once", "time_blocks"]

_LOOK_EVERY_S = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What one thread saw.

    Attributes
    ----------
    frames : int
        Frames that have labels.
    seconds : float
        For their blocks, from the first read to the last sync, s.
    stored_bytes, exported_bytes : int
        Of their blocks in the zarr, and in TIFs.
    memory_bytes : int
        Largest resident size of the process meanwhile.
    gpu_bytes : int or None
        Most that PyTorch has held on the GPU of the process; None on other devices.
    errors : tuple of str
        Why the other frames have no labels.
    """

    frames: int
    seconds: float
    stored_bytes: int
    exported_bytes: int
    memory_bytes: int
    gpu_bytes: int | None
    errors: tuple[str, ...]


def frames_at_once(plan: Plan) -> int:
    """Load the networks of a plan, and return how many frames of a block fill the device."""
    networks = _task_of(plan, Path(), plan.start).load()
    sizes = plan.movie.info.sizes
    return networks.frames_at_once((sizes["Y"], sizes["X"]), plan.settings)


def time_blocks(plan: Plan, blocks: Sequence[Block]) -> Sample:
    """Segment blocks one after the other, as a run does, and throw the results away.

    Parameters
    ----------
    plan : Plan
    blocks : sequence of Block
        At most as long as the plan's.
    """
    with (
        TemporaryDirectory(prefix="cypose-plan-", ignore_cleanup_errors=True) as folder,
        _LargestSize() as size,
    ):
        begun = time.perf_counter()
        made = [_segment(plan, b, Path(folder, f"{i}.zarr")) for i, b in enumerate(blocks)]
        seconds = time.perf_counter() - begun
        frames = [frame for record, _ in made for frame in record.frames]
        return Sample(
            frames=sum(frame.status == Status.DONE for frame in frames),
            seconds=seconds,
            stored_bytes=sum(_bytes_in(store) for _, store in made),
            exported_bytes=sum(_exported(record, store, plan.debug) for record, store in made),
            memory_bytes=size.bytes,
            gpu_bytes=largest_gpu_bytes(plan.device),
            errors=tuple(str(frame.error) for frame in frames if frame.error),
        )


class _LargestSize:
    """Looks at this process's resident size, again and again, while it is entered."""

    def __init__(self) -> None:
        self.bytes = 0
        self._over = Event()
        self._thread = Thread(target=self._look, daemon=True)

    def __enter__(self) -> _LargestSize:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        import psutil

        process = psutil.Process()
        while True:
            self.bytes = max(self.bytes, process.memory_info().rss)
            if self._over.wait(_LOOK_EVERY_S):
                return


def _segment(plan: Plan, block: Block, path: Path) -> tuple[BlockRecord, Path]:
    """Segment one block into a store that has nothing else."""
    frames = block.stop - block.start
    layout = replace(
        plan.layout(), frames=frames, frames_per_block=frames, position_names=("timed",)
    )
    create_result(path, layout, {})
    task = _task_of(plan, path, block.start)
    return segment_block(_frames_of(plan, block), task)[0, 0, 0, 0, 0, 0], path


def _task_of(plan: Plan, path: Path, start: int) -> BlockTask:
    """Return what a worker must know to fill a store that begins with frame `start`."""
    return BlockTask(
        store=path,
        token=None,
        settings=plan.settings.replace(start_frame=start),
        model=plan.model,
        restoration=plan.restoration,
        device=plan.device,
        debug=plan.debug,
    )


def _frames_of(plan: Plan, block: Block) -> LazyFrames:
    """Return a block's frames, unread, as of a movie of that position alone."""
    source = plan.network_input.source
    t, _, z, c, y, x = source.shape
    position = block.position if source.position is None else source.position
    alone = replace(source, position=position, shape=(t, 1, z, c, y, x))
    return LazyFrames(alone)[block.start : block.stop]


def _bytes_in(store: Path) -> int:
    """Return the size of all blocks in a store whose status was not written."""
    return sum(file.stat().st_size for file in store.rglob("c/**/*") if file.is_file())


def _exported(record: BlockRecord, store: Path, debug: bool) -> int:
    """Make the TIFs of a store, and return their size in bytes."""
    shape = (-1, open_result(store).layout.planes)
    status = np.array([frame.status for frame in record.frames], np.uint8).reshape(shape)
    cells = np.array([frame.cells for frame in record.frames], np.uint32).reshape(shape)
    write_status(store, 0, status, cells)
    result, name = Result(store), store.with_suffix(".tif")
    files = export_tif(result, name, allow_incomplete=True)
    files += export_debug_tifs(result, name, allow_incomplete=True) if debug else []
    return sum(file.stat().st_size for file in files)
