"""Segment one movie: continue or create its result, feed the cluster, keep the journal."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cypose_dask.errors import CyposeError, ResultMismatchError, RunError, SettingsError
from cypose_dask.movies import Movie
from cypose_dask.results import Result, create_result, open_result
from cypose_dask.results.naming import journal_of
from cypose_dask.results.store import has_shard, write_status
from cypose_dask.run.clusters import active_client, connect
from cypose_dask.run.journal import Journal
from cypose_dask.run.plan import Block, Plan, make_plan
from cypose_dask.run.record import BlockRecord
from cypose_dask.run.tally import Tally
from cypose_dask.run.worker import BlockTask, segment_block
from cypose_dask.settings import RunOptions, Settings

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Progress", "segment"]

logger = logging.getLogger(__name__)

# Called with the finished block, the frames done so far (earlier runs included) and their total.
Progress = Callable[[BlockRecord, int, int], None]

_BLOCKS_PER_THREAD = 3
# How often the status arrays follow the journal while a run goes on, s.
_STATUS_EVERY_S = 30.0


def segment(
    movie: Movie,
    store: str | Path,
    settings: Settings | None = None,
    *,
    client: Client | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    on_plan: Callable[[Plan], None] | None = None,
) -> Result:
    """Segment a movie into a zarr, or continue where an earlier run stopped.

    Parameters
    ----------
    movie : Movie
        From `open_movie`.
    store : str or Path
        ``movie.zarr``. The journal is written beside it. An existing result is continued if it
        was made by the same plan; its finished blocks are not computed again.
    settings : Settings
    client : distributed.Client or None
        Cluster to run on. None uses the active client; without one, the threads of this process.
    options : RunOptions
        How to run; no option changes a label.
    progress : callable or None
        Called after every block.
    on_plan : callable or None
        Called once with the resolved plan, before any work.

    Returns
    -------
    Result
        Frames that failed have `Status.FAILED` or `Status.DAMAGED` and hold zeros.

    Raises
    ------
    ResultMismatchError
        If the store was made by another plan; the message names the fields.
    SettingsError, MovieError, ModelError, DeviceError
        If the plan cannot be made.
    RunError
        If the cluster is lost. What was finished is kept; call again to continue.

    Examples
    --------
    >>> result = segment(movie, tmp_path / "movie.zarr", Settings(diameter=20))
    >>> result.labels().shape[0] == movie.info.sizes["T"]
    True
    """
    settings, options = settings or Settings(), options or RunOptions()
    if not isinstance(movie, Movie):
        raise SettingsError(f"movie is a {type(movie).__name__}; open it first with open_movie.")
    path = Path(store)
    client = client or active_client()
    with nullcontext(client) if client else connect(processes=False) as client:
        _wait_for_workers(client, options.wait_for_workers_s)
        plan = _plan_for(path, movie, settings, options, client)
        if on_plan:
            on_plan(plan)
        _Run(plan, path, client, options, progress).execute()
    return open_result(path)


def _plan_for(
    path: Path, movie: Movie, settings: Settings, options: RunOptions, client: Client
) -> Plan:
    """Plan a new result, or the rest of an existing one, which keeps its shape and numbers."""
    earlier = open_result(path).attributes if path.exists() else None
    if earlier is None or options.restart:
        plan = make_plan(movie, settings, options, client=client)
        _delete(path)  # only now: a plan that cannot be made costs no result
        _create(path, plan)
        return plan
    measured = _measured_before(earlier, settings)
    stored = replace(options, frames_per_block=earlier["layout"]["frames_per_block"])
    plan = make_plan(movie, settings, stored, client=client, measured=measured)
    _refuse_other_plan(path, earlier, plan)
    return plan


def _create(path: Path, plan: Plan) -> None:
    if path.exists():
        raise RunError(
            f"{path} was made by another run a moment ago. Two runs must not write one result: "
            "wait until the other has ended, then run the same command again."
        )
    attributes = {"plan": plan.to_dict(), "fingerprint": plan.fingerprint()}
    create_result(path, plan.layout(), attributes)


def _measured_before(earlier: dict[str, Any], settings: Settings) -> Settings | None:
    """Return the resolved settings of an earlier run of the same request."""
    if earlier["plan"]["requested"] != settings.to_dict():
        return None
    fields = earlier["plan"]["settings"]
    kept = {name: fields[name] for name in ("diameter", "niter", "normalize")}
    if isinstance(kept["normalize"], list):
        kept["normalize"] = tuple(kept["normalize"])
    return settings.replace(**kept)


def _refuse_other_plan(path: Path, earlier: dict[str, Any], plan: Plan) -> None:
    before, now = earlier["fingerprint"], plan.fingerprint()
    names = [
        n for n in (*before, *(n for n in now if n not in before)) if before.get(n) != now.get(n)
    ]
    if names:
        changes = "; ".join(f"{n}: {before.get(n)} before, {now.get(n)} now" for n in names)
        raise ResultMismatchError(
            f"{path} was made by another plan ({changes}). Mixing both would be wrong. Use the "
            "earlier settings, write to another place, or start over with --restart."
        )
    if earlier["plan"]["movie"]["fingerprint"]["mtime_ns"] != plan.movie.info.fingerprint.mtime_ns:
        logger.warning(
            "%s has another modification time than when %s was begun; its content is the same.",
            plan.movie.info.path,
            path,
        )


def _delete(path: Path) -> None:
    if path.exists():
        open_result(path)  # never delete a folder that is not ours
        shutil.rmtree(path)
    # A journal without its store belongs to a result that was deleted.
    journal_of(path).unlink(missing_ok=True)


def _wait_for_workers(client: Client, seconds: float) -> None:
    try:
        client.wait_for_workers(1, timeout=seconds)
    except TimeoutError as error:
        raise RunError(
            f"No worker came to {client.scheduler_info()['address']} within {seconds:.0f} s. Start "
            "workers, then run again."
        ) from error


class _Run:
    """One run over the pending blocks of one plan."""

    def __init__(
        self,
        plan: Plan,
        path: Path,
        client: Client,
        options: RunOptions,
        progress: Progress | None,
    ) -> None:
        self.plan, self.path, self.client = plan, path, client
        self.progress = progress
        self.journal = Journal(journal_of(path))
        self.tally = Tally(plan, self.journal.read())
        threads = sum(client.nthreads().values())
        self.in_flight = options.blocks_in_flight or _BLOCKS_PER_THREAD * max(threads, 1)
        self.status_written = time.monotonic()

    def execute(self) -> None:
        """Submit windows of blocks, two at a time, and journal what returns."""
        from distributed import as_completed

        windows = self._windows()
        pending: dict[str, Block] = {}
        completed = as_completed()
        try:
            self._submit(windows, completed, pending)
            for future in completed:
                self._finish(future, pending.pop(future.key))
                self._submit(windows, completed, pending)
        finally:
            self._cancel(pending, completed)
            self._write_status()

    def _windows(self) -> Iterator[list[Block]]:
        """Yield runs of consecutive pending blocks of one position."""
        window: list[Block] = []
        for block in self.plan.blocks():
            if self.tally.is_finished(block) and self._is_stored(block):
                continue
            if window and (len(window) >= self._window_length or not block.follows(window[-1])):
                yield window
                window = []
            window.append(block)
        if window:
            yield window

    def _is_stored(self, block: Block) -> bool:
        """Tell whether a finished block still has its shard; one without cells never had one."""
        first = block.start - self.plan.start
        cells = self.tally.cells[block.position, first : block.stop - self.plan.start]
        index = first // self.plan.frames_per_block
        return not cells.any() or has_shard(self.path, block.position, index)

    @property
    def _window_length(self) -> int:
        # Half of what is in flight, so that the next window arrives before this one is done.
        return max(1, self.in_flight // 2)

    def _submit(
        self, windows: Iterator[list[Block]], completed: Any, pending: dict[str, Block]
    ) -> None:
        while len(pending) <= self.in_flight - self._window_length:
            window = next(windows, None)
            if window is None:
                return
            futures = self._futures(window)
            pending.update({future.key: block for future, block in futures.items()})
            completed.update(list(futures))

    def _futures(self, window: list[Block]) -> dict[Future, Block]:
        """Build one window's graph on a fresh array, and return a future a block."""
        from distributed import futures_of

        first, last = window[0], window[-1]
        frames = self.plan.network_input.blocks(
            first.start, last.stop, first.position, self.plan.frames_per_block
        )
        records = frames.map_blocks(
            segment_block,
            BlockTask.of(self.plan, self.path),
            dtype=object,
            chunks=((1,) * len(window), *((1,),) * 5),
            meta=np.empty((0,) * 6, dtype=object),
        )
        futures = futures_of(self.client.persist(records))
        return {future: window[future.key[1]] for future in futures}

    def _finish(self, future: Future, block: Block) -> None:
        record = self._record_of(future, block)
        self.journal.append(record)
        self.tally.add(record)
        if self.progress:
            self.progress(record, self.tally.n_reported, self.plan.n_frames)
        if time.monotonic() - self.status_written > _STATUS_EVERY_S:
            self._write_status()

    def _record_of(self, future: Future, block: Block) -> BlockRecord:
        """Return a block's record; raise where going on would be pointless."""
        if future.status == "finished":
            return future.result()[0, 0, 0, 0, 0, 0]
        if future.status == "cancelled":
            raise RunError(
                f"The scheduler was lost while block {block} was under way. Finished blocks are "
                "kept; run the same command again to continue."
            )
        error = future.exception()
        if isinstance(error, CyposeError):
            raise error
        if isinstance(error, OSError):
            raise RunError(
                f"Block {block} could not be written ({error}). Finished blocks are kept; make "
                "room or mend the disk, then run the same command again to continue."
            ) from error
        logger.error("block %s failed: %s", block, error)
        planes = self.plan.movie.info.sizes["Z"]
        return BlockRecord.failed(block, planes, f"{type(error).__name__}: {error}")

    def _cancel(self, pending: dict[str, Block], completed: Any) -> None:
        if pending:
            self.client.cancel(list(completed.futures), force=True)

    def _write_status(self) -> None:
        for position in self.plan.positions:
            write_status(
                self.path, position, self.tally.status[position], self.tally.cells[position]
            )
        self.status_written = time.monotonic()
