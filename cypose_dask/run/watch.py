"""Watch whether a cluster still works while nothing comes back from it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cypose_dask.errors import RunError

if TYPE_CHECKING:
    from distributed import Client, Future, Worker

__all__ = ["Watch", "keys_under_way", "let_go", "scheduler_may_be_lost"]

# Asking costs the scheduler well under a millisecond.
_LOOK_EVERY_S = 5.0
# A scheduler that is only busy answers sooner; one that was stopped, or lost its machine, never.
_ANSWER_S = 120.0


class Watch:
    """Knows the threads of a cluster, and when it lost its last worker.

    Parameters
    ----------
    client : distributed.Client
    patience_s : float
        How long a cluster may be without a worker, s.

    Attributes
    ----------
    threads : int
        Of all workers, when last seen; at least 1.
    """

    def __init__(self, client: Client, patience_s: float) -> None:
        self.client, self.patience_s = client, patience_s
        self.threads = 1
        self._looked, self._seen = float("-inf"), time.monotonic()
        self.look()

    def look(self) -> None:
        """Count the workers, at most every few seconds.

        Raises
        ------
        RunError
            If the scheduler is lost, or there was no worker for too long.
        """
        now = time.monotonic()
        if now - self._looked < min(_LOOK_EVERY_S, self.patience_s):
            return
        self._looked = now
        threads = sum(self._threads_of_workers())
        if threads:
            self.threads, self._seen = threads, now
        elif now - self._seen > self.patience_s:
            raise RunError(
                f"The cluster has had no worker for {self.patience_s:.0f} s. Finished blocks are "
                "kept; start workers, then run the same command again to continue."
            )

    def _threads_of_workers(self) -> list[int]:
        with scheduler_may_be_lost(self.client):
            nthreads = self.client.scheduler.ncores
            return list(self.client.sync(nthreads, callback_timeout=_ANSWER_S).values())


@contextmanager
def scheduler_may_be_lost(client: Client) -> Iterator[None]:
    """Raise RunError where something failed because the client lost its scheduler."""
    from distributed import CancelledError
    from distributed.client import ClosedClientError
    from distributed.comm import CommClosedError

    # The client may notice a little later than we do.
    lost = CancelledError, ClosedClientError, CommClosedError, TimeoutError
    try:
        yield
    except (*lost, OSError, ValueError, RuntimeError) as error:
        if client.status == "running" and not isinstance(error, lost):
            raise  # an error of what was asked for
        silent = isinstance(error, TimeoutError)
        what = "does not answer" if silent else "was lost"
        said = str(error)
        if not said or "\n" in said:  # Dask's page about what may be the matter
            said = type(error).__name__
        raise RunError(
            f"The scheduler {what} ({said}). Finished blocks are kept; run the same command again "
            "to continue."
        ) from error


def let_go(client: Client, futures: Sequence[Future]) -> None:
    """Cancel tasks, unless the scheduler is lost, which has forgotten them then."""
    from distributed.client import ClosedClientError

    if futures and client.status == "running":
        with suppress(ClosedClientError, RuntimeError):  # it is lost at this moment
            client.cancel(list(futures), force=True)


def keys_under_way(client: Client) -> set[object]:
    """Return the keys of the tasks that workers compute at this moment."""
    with scheduler_may_be_lost(client):
        return set().union(*client.run(_keys_under_way, on_error="ignore").values())


def _keys_under_way(dask_worker: Worker) -> set[object]:
    return {task.key for task in dask_worker.state.executing}
