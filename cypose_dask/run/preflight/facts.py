"""What one process finds out about itself and its machine."""

from __future__ import annotations

import os
import platform
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cypose_dask.engine import attempt, choose_device, usable_cores
from cypose_dask.engine.runtimes.trial import try_runtime
from cypose_dask.errors import ModelError, ResultError
from cypose_dask.models import ModelSpec
from cypose_dask.models.cache import cache_folder
from cypose_dask.models.spec import file_sha256
from cypose_dask.movies.source import FrameSource
from cypose_dask.results.atomic import fsync_path, partial_name
from cypose_dask.run.memory import memory_here
from cypose_dask.run.plan import LABEL_VERSION, _versions
from cypose_dask.run.preflight.needs import Needs
from cypose_dask.run.record import said

__all__ = ["Facts", "Trial", "look", "versions_here"]

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One thing that was tried.

    Attributes
    ----------
    kind : str
        ``"device"``, ``"runtime"``, ``"input"``, ``"weights"``, ``"output"`` or ``"cache"``.
    what : str
        The file or folder; empty for the others.
    seen : str
        What came of it, in words; empty if it failed.
    error : str or None
        Why it failed.
    """

    kind: str
    what: str = ""
    seen: str = ""
    error: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a process knows about itself and its machine; `memory_bytes` is the machine's."""

    host: str
    pid: int
    versions: dict[str, str]
    cores: int
    memory_bytes: int
    trials: tuple[Trial, ...] = ()

    def of_kind(self, kind: str) -> list[Trial]:
        """Return what was tried of one kind."""
        return [trial for trial in self.trials if trial.kind == kind]


def look(needs: Needs, tokens: Sequence[Path] = (), say: Say = lambda doing: None) -> Facts:
    """Find out about this process, and try what is needed.

    Parameters
    ----------
    needs : Needs
    tokens : sequence of Path
        Files that the client wrote, one into each folder of outputs.
    say : callable
        Told what is tried next, so that somebody knows where this hangs.
    """
    trials = []
    for kind, what, attempted in _attempts(needs, tokens):
        say(f"the {kind} {what}".rstrip())
        trial = partial(Trial, kind=kind, what=what)
        seen = attempt(attempted)
        trials.append(trial(error=said(seen)) if isinstance(seen, Exception) else trial(seen=seen))
    return Facts(
        host=socket.gethostname(),
        pid=os.getpid(),
        versions=versions_here(),
        cores=usable_cores(),
        memory_bytes=memory_here(),
        trials=tuple(trials),
    )


def versions_here() -> dict[str, str]:
    """Return versions by name, of all that takes part in a run."""
    python = {"python": platform.python_version()}
    return python | _versions() | {"label": str(LABEL_VERSION)}


def _attempts(needs: Needs, tokens: Sequence[Path]) -> Iterator[tuple[str, str, Callable[[], str]]]:
    yield "device", "", partial(choose_device, needs.gpu)
    if needs.runtime:
        yield "runtime", "", partial(try_runtime, needs.runtime)
    yield "cache", str(cache_folder()), _write_to_cache
    for model in needs.models:
        yield "weights", model.path, partial(_hash, model)
    for movie in needs.movies:
        yield "input", movie.path, partial(_open, movie)
    for token in tokens:
        yield "output", str(token.parent), partial(_write_beside, token)


def _write_to_cache() -> str:
    _write_and_delete(cache_folder() / "trial")
    return "can be written"


def _hash(model: ModelSpec) -> str:
    found = file_sha256(model.path)
    if found != model.sha256:
        raise ModelError(f"{model.path} has the SHA-256 {found}")
    return found


def _open(movie: FrameSource) -> str:
    movie.layout.check(movie.path, movie.stamp)
    with movie.layout.lease(movie.path, movie.stamp):  # blocks need it open anyway
        return f"{movie.stamp.size_bytes} bytes"


def _write_beside(token: Path) -> str:
    if not token.parent.is_dir():
        raise ResultError(f"there is no folder {token.parent}")
    if not token.is_file():
        raise ResultError(f"{token.parent} is another folder: {token.name} is not in it")
    _write_and_delete(token)
    return "can be written"


def _write_and_delete(beside: Path) -> None:
    own = partial_name(beside)
    try:
        own.write_text(secrets.token_hex())
        fsync_path(own)
    finally:
        own.unlink(missing_ok=True)
