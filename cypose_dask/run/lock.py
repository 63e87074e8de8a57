"""One run an output: a file beside the result names the run that writes it.

::

    movie.lock      {"host": "...", "pid": 4711, "process": "...", "token": "...", "beat": 12}

The owner counts `beat` up every few seconds. A run on the same machine asks whether that process
still lives; one on another machine watches whether it still beats, since clocks of two machines
need not agree.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from cypose_dask.errors import ResultLockedError, RunError
from cypose_dask.results.atomic import whole_file
from cypose_dask.results.naming import lock_of

if TYPE_CHECKING:
    import psutil

__all__ = ["Lock", "Owner", "locked", "owner_of", "take_lock"]

logger = logging.getLogger(__name__)

BEAT_S = 10.0
# A file server may show a change late; three beats missed in a row are not lateness.
_SILENCE_S = 3 * BEAT_S


@dataclass(frozen=True, slots=True)
class Owner:
    """The run that writes a result.

    Attributes
    ----------
    host, pid : str, int
        For people.
    process : str
        Tells this process from any other one that had or will have its number on its machine.
    token : str
        Tells this run from any other.
    beat : int
        Grows while the run lives.
    """

    host: str
    pid: int
    process: str
    token: str
    beat: int = 0

    @classmethod
    def this_run(cls) -> Owner:
        """Describe this process, with a token of its own."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _process(pid) or "", secrets.token_hex(8))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def lives(self) -> bool | None:
        """Tell whether the process is alive; None if it is on another machine."""
        if _machine(self.process) != _machine(_process(os.getpid()) or ""):
            return None
        return _process(self.pid) == self.process


class Lock:
    """A result's lock while this run holds it.

    Parameters
    ----------
    path : Path
        ``movie.lock``.

    Attributes
    ----------
    lost : bool
        Whether another run has taken the result over meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mine = Owner.this_run()
        self._released = Event()
        self.lost = False

    def check(self) -> None:
        """Raise RunError if another run has taken the result over meanwhile."""
        if self.lost:
            raise RunError(
                f"{self.path}: another run has taken this result over, since this one was silent "
                f"for more than {_SILENCE_S:.0f} s. Finished blocks are kept; wait until the other "
                "run has ended."
            )

    def take(self) -> None:
        """Take the lock; a lock whose owner has died is taken over.

        Raises
        ------
        ResultLockedError
            If another run holds it.
        """
        while not self._make():
            owner = _read(self.path)
            if not self.path.exists():
                continue  # released a moment ago
            if _is_alive(self.path, owner):
                raise ResultLockedError(
                    f"{self.path.with_suffix('.zarr')} is being written by {owner or 'another run'}"
                    ". Wait until that run has ended, or write to another place."
                )
            if self._take_over(owner):
                logger.warning("%s: %s has died; its result is taken over", self.path, owner)
                break
        Thread(target=self._keep_beating, name="lock", daemon=True).start()

    def release(self) -> None:
        """Give the lock back."""
        self._released.set()
        if _same_run(_read(self.path), self._mine):
            self.path.unlink(missing_ok=True)

    def _make(self) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.path.open("x") as file:
                try:
                    file.write(_text(self._mine))
                    file.flush()
                except OSError:
                    self.path.unlink()
                    raise
        except FileExistsError:
            return False
        return True

    def _take_over(self, dead: Owner | None) -> bool:
        """Put this lock in a dead one's place, or return False if another run is faster."""
        token = dead.token if dead else "torn"
        with _claim(self.path.with_name(f"{self.path.name}.{token}.partial")) as claimed:
            # Who holds the claim alone may replace this lock; look again, now that nobody else may.
            if not claimed or not self.path.exists() or not _same_run(_read(self.path), dead):
                return False
            with whole_file(self.path) as new:
                new.write_text(_text(self._mine))
        return True

    def _keep_beating(self) -> None:
        while not self._released.wait(BEAT_S):
            self._mine = replace(self._mine, beat=self._mine.beat + 1)
            try:
                self._beat()
            except OSError as error:  # a full disk or a slow server need not end the run
                logger.warning("%s: could not be written (%s)", self.path, error)

    def _beat(self) -> None:
        owner = _read(self.path)
        if owner is None:  # a server that hesitates, or a lock that somebody deleted
            logger.warning("%s cannot be read; this run goes on", self.path)
            return
        if not _same_run(owner, self._mine):
            self.lost = not self._released.is_set()
            return
        # In place, and padded: a name that vanished meanwhile must not come back.
        with self.path.open("r+") as file:
            file.write(_text(self._mine))


def take_lock(store: Path) -> Lock:
    """Take a result's lock, to be released when the run ends.

    Raises
    ------
    ResultLockedError
        If another run holds it.
    RunError
        If the disk does not take it.
    """
    lock = Lock(lock_of(store))
    try:
        lock.take()
    except OSError as error:
        raise RunError(
            f"{lock.path} could not be made ({error}). Make room or choose another place with -o."
        ) from error
    return lock


@contextmanager
def locked(store: Path) -> Iterator[Lock]:
    """Hold a result's lock for the duration of a ``with`` block; raises as `take_lock`."""
    lock = take_lock(store)
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def _claim(path: Path) -> Iterator[bool]:
    """Yield whether this run is the one that may; a claim that was left behind is removed."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _SILENCE_S:
                path.unlink()
        time.sleep(0.05)
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)


def owner_of(store: Path) -> Owner | None:
    """Return the run that writes a result now, as far as can be told at once; None if none does."""
    owner = _read(lock_of(store))
    return None if owner is None or owner.lives() is False else owner


def _text(owner: Owner) -> str:
    return json.dumps(asdict(owner)).ljust(400) + "\n"


def _read(path: Path) -> Owner | None:
    """Return what a lock says; None if there is none, or it is just being written."""
    try:
        owner = Owner(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    texts = (owner.host, owner.process, owner.token)
    known = isinstance(owner.pid, int) and all(isinstance(text, str) for text in texts)
    return owner if known and owner.token.isalnum() else None


def _same_run(one: Owner | None, other: Owner | None) -> bool:
    return (one and one.token) == (other and other.token)


def _is_alive(path: Path, owner: Owner | None) -> bool:
    lives = owner.lives() if owner else None
    return _beats(path, owner) if lives is None else lives


def _beats(path: Path, owner: Owner | None) -> bool:
    """Watch a lock of another machine until it changes, or has been silent for too long."""
    logger.warning("%s: is %s still at work? Watching for %.0f s", path, owner, _SILENCE_S)
    until = time.monotonic() + _SILENCE_S
    while time.monotonic() < until:
        if _read(path) != owner:
            return path.exists()
        time.sleep(BEAT_S / 10)
    return False


def _process(pid: int) -> str | None:
    """Name a process for good: numbers are used again, and containers have their own."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:  # dead, though its parent has not looked
            return None
        born = _born(process)
    except (psutil.Error, OSError):
        return None
    return f"{_here()}/{pid}/{born}"


def _born(process: psutil.Process) -> str:
    """Tell when a process began, in a clock that nobody sets."""
    stat = Path(f"/proc/{process.pid}/stat")
    if stat.exists():
        # Field 22, in ticks since the start of the machine; a name may hold spaces and brackets.
        return stat.read_text().rpartition(")")[2].split()[19]
    return f"{process.create_time():.2f}"


def _here() -> str:
    """Name this machine since its start, and this container's space of process numbers."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _machine(process: str) -> str:
    return process.rsplit("/", 2)[0]
