"""Connect to a scheduler that somebody runs already."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cypose_dask.errors import RunError
from cypose_dask.run.certificates import encrypted_address

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

__all__ = ["address_of", "client_of"]

_VARIABLE = "DASK_SCHEDULER_ADDRESS"
_CONNECT_TIMEOUT_S = 30.0


def address_of(
    scheduler: str | None, scheduler_file: str | None, *, from_environment: bool
) -> str | None:
    """Return the address of a scheduler that runs already, or None.

    Raises
    ------
    RunError
        If the scheduler file is missing or names no scheduler.
    """
    if not scheduler_file:
        return scheduler or (os.environ.get(_VARIABLE) if from_environment else None)
    if not Path(scheduler_file).is_file():
        raise RunError(
            f"There is no scheduler file {scheduler_file}. Start `dask scheduler --scheduler-file "
            f"{scheduler_file}`, or leave the option out to use this machine."
        )
    try:
        return str(json.loads(Path(scheduler_file).read_text())["address"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{scheduler_file} names no scheduler ({error!r}). Give the file that `dask scheduler "
            "--scheduler-file` wrote."
        ) from error


@contextmanager
def client_of(address: str, security: Security) -> Iterator[Client]:
    """Open a client of the scheduler at `address`.

    Raises
    ------
    RunError
        If the scheduler cannot be reached, or refuses this client.
    SettingsError
        If `security` and the scheme of the address contradict each other.
    """
    from distributed import Client

    address = encrypted_address(address, security)
    _greet(address, security)
    with Client(address, security=security) as client:
        yield client


def _greet(address: str, security: Security) -> None:
    """Raise RunError if a scheduler is not there, or does not talk to this client.

    A `Client` that finds this out itself is left behind half made, and Python, when it clears it
    away while the next one is being made, waits for a lock of that one for ever (distributed
    2026.8).
    """
    with ThreadPoolExecutor(1) as thread:  # this one may have a loop that runs, as Jupyter's has
        try:
            thread.submit(asyncio.run, _shake_hands(address, security)).result()
        except (OSError, TimeoutError, ValueError) as error:
            raise RunError(_unreachable(address, error)) from error


async def _shake_hands(address: str, security: Security) -> None:
    from distributed.comm import connect

    arguments = security.get_connection_args("client")
    comm = await asyncio.wait_for(
        connect(address, timeout=_CONNECT_TIMEOUT_S, **arguments), 2 * _CONNECT_TIMEOUT_S
    )
    comm.abort()


def _unreachable(address: str, error: Exception) -> str:
    from distributed.comm import CommClosedError

    reason = str(error) or type(error).__name__
    if error.__cause__:
        reason += f": {error.__cause__}"
    # A scheduler that is not encrypted speaks first, which Tornado takes for a wrong value.
    if address.startswith("tls://") and isinstance(error, CommClosedError | ValueError):
        return (
            f"{address} and this client do not trust each other ({reason}). Give certificates of "
            "the authority that signed the scheduler's, or tcp://... if it is not encrypted."
        )
    if isinstance(error, CommClosedError):
        return (
            f"{address} broke off ({reason}). If the scheduler there is encrypted, give tls://... "
            "and --tls-ca-file, --tls-cert and --tls-key."
        )
    return (
        f"No Dask scheduler answers at {address} ({reason}). Start one with `dask scheduler`, or "
        "leave the option out to use this machine."
    )
