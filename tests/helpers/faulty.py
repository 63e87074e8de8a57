"""Movies whose reading goes wrong on purpose, in whichever process reads them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

__all__ = ["deadly", "flaky"]


@dataclass(frozen=True)
class _Faulty:
    """The layout of a movie; what it does before reading is up to the kind of fault."""

    inner: Any
    times: tuple[int, ...]
    folder: str

    def lease(self, path, stamp):
        return self.inner.lease(path, stamp)

    def check(self, path, stamp):
        self.inner.check(path, stamp)

    def read(self, handle, at, channels):
        if at[0] in self.times:
            self.fail(at)
        return self.inner.read(handle, at, channels)

    def fail(self, at):
        raise NotImplementedError


class _Deadly(_Faulty):
    def fail(self, at):
        with Path(self.folder, f"deaths-{at[0]}").open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)


class _Flaky(_Faulty):
    def fail(self, at):
        mark = Path(self.folder, f"failed-{at[0]}")
        if not mark.exists():
            mark.touch()
            raise OSError(5, "Input/output error")


def deadly(movie, folder, *times):
    """Kill every process that reads one of these T, and note it in ``folder/deaths-T``."""
    return _with(movie, _Deadly, folder, times)


def flaky(movie, folder, *times):
    """Fail with EIO at the first reading of these T."""
    return _with(movie, _Flaky, folder, times)


def _with(movie, kind, folder, times):
    layout = kind(movie.source.layout, times, str(folder))
    return replace(movie, source=replace(movie.source, layout=layout))
