"""What our own worker processes do first: leave Ctrl-C and SIGTERM to the client.

A terminal sends Ctrl-C to every process of a job, and some batch systems send SIGTERM so. A worker
that ended would lose its block, though the client only wants to begin no other; it stops its
workers itself.
"""

from __future__ import annotations

import signal

__all__ = ["dask_setup", "leave_signals_to_the_client"]


def dask_setup(worker: object) -> None:
    """Set up a new worker; Dask calls this in its main thread."""
    leave_signals_to_the_client()


def leave_signals_to_the_client() -> None:
    """Ignore SIGINT and SIGTERM in this process."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
