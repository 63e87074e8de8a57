"""Segment one movie into a result."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from cypose_dask.errors import RunError, RunStoppedError, SettingsError
from cypose_dask.movies import Movie
from cypose_dask.results import Result, open_result
from cypose_dask.run.begin import begin_result
from cypose_dask.run.clusters import active_client, connect
from cypose_dask.run.feed import Feed, Progress
from cypose_dask.run.lock import take_lock
from cypose_dask.run.plan import Plan
from cypose_dask.run.stream import OneFeed, Stream
from cypose_dask.settings import RunOptions, Settings

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Progress", "open_feed", "require_done", "segment", "wait_for_workers"]

# How soon a wish to stop is heard while no worker comes, s.
_LISTEN_EVERY_S = 0.5


def segment(
    movie: Movie,
    store: str | Path,
    settings: Settings | None = None,
    *,
    client: Client | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    stop: Event | None = None,
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
    stop : threading.Event or None
        Once it is set, no block is begun any more; those under way are finished and kept.

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
    ResultLockedError
        If another run writes this result.
    RunStoppedError
        If `stop` was set before the end.
    RunError
        If the cluster or the disk is lost. What was finished is kept; call again to continue.

    Examples
    --------
    >>> result = segment(movie, tmp_path / "movie.zarr", Settings(diameter=20))
    >>> result.labels().shape[0] == movie.info.sizes["T"]
    True
    """
    settings, options = settings or Settings(), options or RunOptions()
    if not isinstance(movie, Movie):
        raise SettingsError(f"movie is a {type(movie).__name__}; open it first with open_movie.")
    path, stop = Path(store), stop or Event()
    if path.suffix != ".zarr":  # the journal's name is the store's without it
        raise SettingsError(f"The store is named {path.name}; name it {path.name}.zarr.")
    client = client or active_client()
    with nullcontext(client) if client else connect(processes=False) as client:
        wait_for_workers(client, options.wait_for_workers_s, stop)
        feed = open_feed(movie, path, settings, options=options, client=client, progress=progress)
        tell = on_plan or (lambda plan: None)
        stream = Stream(client, options, on_begin=lambda feed: tell(feed.plan))
        stream.run(OneFeed(feed), stop)
    if feed.error:
        raise feed.error
    require_done(feed)
    return open_result(path)


def open_feed(
    movie: Movie,
    path: Path,
    settings: Settings,
    *,
    options: RunOptions,
    client: Client,
    progress: Progress | None = None,
) -> Feed:
    """Begin a result, or continue one, and hold its lock; the parameters are those of `segment`."""
    lock = take_lock(path)
    try:
        plan = begin_result(path, movie, settings, options=options, client=client)
        return Feed(plan, path, lock, progress=progress)
    except BaseException:
        lock.release()
        raise


def require_done(feed: Feed) -> None:
    """Raise RunStoppedError if blocks of a result were never reached."""
    total = feed.plan.n_frames
    if feed.n_done < total and not feed.ended:
        raise RunStoppedError(
            f"{feed.path}: stopped on request with {feed.n_done} of {total} frames done. Run the "
            "same command again to continue."
        )


def wait_for_workers(client: Client, seconds: float, stop: Event) -> None:
    """Wait for the first worker, or for a wish to stop.

    Raises
    ------
    RunError
        If none comes within so many seconds.
    """
    until = time.monotonic() + seconds
    while not stop.is_set():
        try:
            client.wait_for_workers(1, timeout=min(seconds, _LISTEN_EVERY_S))
            return
        except TimeoutError as error:
            if time.monotonic() < until:
                continue
            raise RunError(
                f"No worker came to {client.scheduler.address} within {seconds:.0f} s. Start "
                "workers, then run again."
            ) from error
