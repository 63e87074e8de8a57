"""Many movies: find them, and segment one after the other so that none stops the rest."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from cypose_dask.errors import RunError
from cypose_dask.models import resolve_model, resolve_restoration
from cypose_dask.movies import open_movie
from cypose_dask.results import (
    OutputNames,
    Result,
    Status,
    export_debug_tifs,
    export_tif,
    output_names,
)
from cypose_dask.results.atomic import write_json
from cypose_dask.run.execute import Progress, segment
from cypose_dask.run.finding import Source
from cypose_dask.run.journal import Journal
from cypose_dask.run.places import require_place
from cypose_dask.run.plan import Plan
from cypose_dask.run.record import said
from cypose_dask.settings import RunOptions, Settings

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Job", "MovieOutcome", "Watcher", "names_of", "segment_files"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingFrame:
    """A frame without labels, t counted in the movie, and why it has none."""

    t: int
    position: int
    z: int
    status: Status
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "status": self.status.name.lower()}


@dataclass(frozen=True, kw_only=True, slots=True)
class MovieOutcome:
    """What became of one movie.

    Attributes
    ----------
    source : str
        File, folder or pattern.
    names : OutputNames
    error : str or None
        Why the movie as a whole was not segmented.
    not_done : tuple of MissingFrame
        Frames without labels.
    tifs : tuple of Path
        Empty when the result is incomplete.
    frames, cells : int
    seconds : float
    """

    source: str
    names: OutputNames
    error: str | None = None
    not_done: tuple[MissingFrame, ...] = ()
    tifs: tuple[Path, ...] = ()
    frames: int = 0
    cells: int = 0
    seconds: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether every frame has labels."""
        return self.error is None and not self.not_done


@dataclass(frozen=True, kw_only=True, slots=True)
class Watcher:
    """What a caller wants to hear of: each movie's plan, its blocks, its outcome."""

    plan: Callable[[Plan], None] = lambda plan: None
    block: Progress = lambda record, done, total: None
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
    """Segment several movies, one after the other, each into its own result and TIF.

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
    outcomes = []
    for source, names in zip(sources, names_of(sources, output), strict=True):
        outcome = _segment_one(source.path, names, (client, job))
        outcomes.append(outcome)
        job.watcher.outcome(outcome)
    return outcomes


def names_of(sources: Sequence[Source], output: str | Path | None) -> list[OutputNames]:
    """Name every movie's outputs; a folder of outputs repeats the folders of the inputs."""
    paths, below = [s.path for s in sources], [s.below for s in sources]
    return output_names(paths, output, subfolders=below)


def _segment_one(source: str, names: OutputNames, how: tuple[Client | None, Job]) -> MovieOutcome:
    client, job = how
    begun = time.monotonic()
    try:
        movie = open_movie(source, **job.open_options)
        require_place(names)
        result = segment(
            movie,
            names.zarr,
            job.settings,
            client=client,
            options=job.options,
            progress=job.watcher.block,
            on_plan=job.watcher.plan,
            stop=job.stop,
        )
        return _export(result, names, job, source=source, begun=begun)
    except RunError:
        raise  # no cluster, no device or no disk: the next movie would fail like this one
    except Exception as error:  # a bad movie fails alone
        logger.debug("%s failed", source, exc_info=True)
        seconds = time.monotonic() - begun
        return MovieOutcome(source=source, names=names, error=said(error), seconds=seconds)


def _export(
    result: Result, names: OutputNames, job: Job, *, source: str, begun: float
) -> MovieOutcome:
    not_done = _missing_frames(result, names)
    tifs: list[Path] = []
    # Damaged frames that the user accepted become blank pages; failed ones never do.
    accepted = bool(job.open_options.get("allow_damaged")) and all(
        frame.status == Status.DAMAGED for frame in not_done
    )
    if not not_done or accepted:
        tifs = export_tif(result, names.tif, allow_incomplete=accepted)
        if job.options.debug:
            export_debug_tifs(result, job.debug_base(names), allow_incomplete=accepted)
    outcome = MovieOutcome(
        source=source,
        names=names,
        not_done=not_done,
        tifs=tuple(tifs),
        frames=sum(result.status(p).size for p in range(result.n_positions)),
        cells=sum(int(result.cells(p).sum()) for p in range(result.n_positions)),
        seconds=time.monotonic() - begun,
    )
    write_json(names.run_json, _run_record(result, outcome))
    return outcome


def _missing_frames(result: Result, names: OutputNames) -> tuple[MissingFrame, ...]:
    missing = result.frames_not_done()
    reasons = Journal(names.journal).reasons() if missing else {}
    return tuple(
        MissingFrame(t=t, position=p, z=z, status=s, reason=reasons.get((t, p, z), "not reached"))
        for t, p, z, s in missing
    )


def _run_record(result: Result, outcome: MovieOutcome) -> dict[str, Any]:
    """Return everything that is needed to get the same labels again."""
    not_done = [frame.to_dict() for frame in outcome.not_done]
    return {
        "command": sys.argv,
        "plan": result.attributes["plan"],
        "fingerprint": result.attributes["fingerprint"],
        "outputs": {
            "zarr": str(outcome.names.zarr),
            "journal": str(outcome.names.journal),
            "tif": [str(path) for path in outcome.tifs],
        },
        "frames": outcome.frames,
        "cells": outcome.cells,
        "frames_not_done": not_done,
        "seconds": round(outcome.seconds, 3),
    }
