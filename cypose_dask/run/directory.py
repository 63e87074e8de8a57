"""Many movies as one stream of blocks, so that none stops the rest and no worker is idle."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from cypose_dask.errors import RunError, RunStoppedError
from cypose_dask.models import resolve_model, resolve_restoration
from cypose_dask.movies import open_movie
from cypose_dask.results import OutputNames, open_result, output_names
from cypose_dask.run.ahead import Ahead
from cypose_dask.run.clusters import active_client, connect
from cypose_dask.run.execute import open_feed, require_done, wait_for_workers
from cypose_dask.run.feed import Feed
from cypose_dask.run.finding import Source
from cypose_dask.run.outcome import MovieOutcome, export_result
from cypose_dask.run.places import require_place
from cypose_dask.run.plan import Plan
from cypose_dask.run.record import BlockRecord, said
from cypose_dask.run.stream import Stream
from cypose_dask.settings import RunOptions, Settings

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Job", "Watcher", "names_of", "segment_files"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Watcher:
    """What a caller wants to hear of, in the thread that called `segment_files`.

    Blocks of two movies come in turns where one ends and the next begins.

    Attributes
    ----------
    plan : callable
        Is given a movie's source and its plan, before its first block.
    block : callable
        Is given a movie's source, the finished block, its frames done so far and their total.
    outcome : callable
        Is given what became of a movie.
    """

    plan: Callable[[str, Plan], None] = lambda source, plan: None
    block: Callable[[str, BlockRecord, int, int], None] = lambda source, record, done, total: None
    outcome: Callable[[MovieOutcome], None] = lambda outcome: None


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """How every movie of one call is opened, segmented and written; `stop` ends it early."""

    settings: Settings = field(default_factory=Settings)
    options: RunOptions = field(default_factory=RunOptions)
    open_options: dict[str, Any] = field(default_factory=dict)
    watcher: Watcher = field(default_factory=Watcher)
    stop: Event = field(default_factory=Event)
    debug_base: Callable[[OutputNames], Path] = lambda names: names.tif


def segment_files(
    sources: Sequence[Source],
    output: str | Path | None = None,
    *,
    client: Client | None = None,
    job: Job | None = None,
) -> list[MovieOutcome]:
    """Segment several movies, each into its own result and TIF.

    All their blocks are one stream: the next movie begins when the last blocks of one are still
    under way, and TIFs are written meanwhile.

    Parameters
    ----------
    sources : sequence of Source
        From `find_movies`.
    output : str, Path or None
        A ``.tif`` for one movie, a folder for several, None for beside each input.
    client : distributed.Client or None
    job : Job
        Settings and options for all of them.

    Returns
    -------
    list of MovieOutcome
        One a movie. A movie that fails has its error there and does not stop the rest.

    Raises
    ------
    SettingsError, ModelError
        If outputs would collide or overwrite an input, or there is no such model.
    RunStoppedError
        If ``job.stop`` was set before the end.
    RunError
        If the cluster is lost; what was finished is kept.
    """
    job = job or Job()
    resolve_model(job.settings.model)  # a mistyped name is one error, not one a movie
    if job.settings.denoise:
        resolve_restoration(job.settings.denoise)
    named = list(zip([source.path for source in sources], names_of(sources, output), strict=True))
    client = client or active_client()
    with nullcontext(client) if client else connect(processes=False) as client:
        wait_for_workers(client, job.options.wait_for_workers_s, job.stop)
        return _Batch(named, client, job).run()


def names_of(sources: Sequence[Source], output: str | Path | None) -> list[OutputNames]:
    """Name every movie's outputs; a folder of outputs repeats the folders of the inputs."""
    paths, below = [s.path for s in sources], [s.below for s in sources]
    return output_names(paths, output, subfolders=below)


class _Batch:
    """The movies of one call while they are segmented and exported."""

    def __init__(self, named: list[tuple[str, OutputNames]], client: Client, job: Job) -> None:
        self.named, self.client, self.job = named, client, job
        self.stream = Stream(client, job.options, on_begin=self._tell_plan, on_end=self._export)
        self.outcomes: dict[str, MovieOutcome] = {}
        self.begun: dict[str, float] = {}
        self.opened: list[tuple[str, Feed]] = []
        self.exports: list[Future[None]] = []
        self.exporter = ThreadPoolExecutor(1, thread_name_prefix="export")

    def run(self) -> list[MovieOutcome]:
        begin = [partial(self._open, source, names) for source, names in self.named]
        tell = self.stream.events.put
        try:
            with self.exporter:
                self.stream.run(Ahead(begin, tell), self.job.stop)
        finally:
            self.stream.tell_all()
        for _, feed in self.opened:
            if feed.error is None:
                require_done(feed)
        if len(self.outcomes) < len(self.named):
            raise RunStoppedError(
                f"Stopped on request with {len(self.outcomes)} of {len(self.named)} movies done. "
                "Run the same command again to continue."
            )
        return [self.outcomes[source] for source, _ in self.named]

    def _open(self, source: str, names: OutputNames) -> Feed | None:
        """Begin the result of one movie; a bad movie fails alone."""
        self.begun[source] = time.monotonic()
        job = self.job
        try:
            movie = open_movie(source, **job.open_options)
            require_place(names)
            feed = open_feed(
                movie,
                names.zarr,
                job.settings,
                options=job.options,
                client=self.client,
                progress=partial(job.watcher.block, source),
            )
        except RunError:
            raise  # no cluster, no device or no disk: the next movie would fail like this one
        except Exception as error:
            logger.debug("%s failed", source, exc_info=True)
            self.stream.events.put(partial(self._take, self._failed(source, names, error)))
            return None
        self.opened.append((source, feed))
        return feed

    def _failed(self, source: str, names: OutputNames, error: Exception) -> MovieOutcome:
        return replace(self._known(source, names), error=said(error))

    def _known(self, source: str, names: OutputNames) -> MovieOutcome:
        seconds = time.monotonic() - self.begun[source]
        return MovieOutcome(source=source, names=names, seconds=seconds)

    def _take(self, outcome: MovieOutcome) -> None:
        self.outcomes[outcome.source] = outcome
        self.job.watcher.outcome(outcome)

    def _tell_plan(self, feed: Feed) -> None:
        self.job.watcher.plan(self._source_of(feed), feed.plan)

    def _source_of(self, feed: Feed) -> str:
        return next(source for source, opened in self.opened if opened is feed)

    def _export(self, feed: Feed) -> None:
        """Write the TIFs of a result while the blocks of others are under way."""
        source = self._source_of(feed)
        names = dict(self.named)[source]
        if feed.error:
            self._take(self._failed(source, names, feed.error))
            return
        self.exports.append(self.exporter.submit(self._write, source, names))

    def _write(self, source: str, names: OutputNames) -> None:
        job, events = self.job, self.stream.events
        try:
            outcome = export_result(
                open_result(names.zarr),
                self._known(source, names),
                debug_base=job.debug_base(names) if job.options.debug else None,
                allow_damaged=bool(job.open_options.get("allow_damaged")),
            )
        except Exception as error:
            logger.debug("%s failed", source, exc_info=True)
            outcome = self._failed(source, names, error)
        events.put(partial(self._take, outcome))
