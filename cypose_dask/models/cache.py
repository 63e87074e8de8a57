"""The folder in which derived facts of models are kept between runs."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["cache_folder", "kept_file"]


def cache_folder() -> Path:
    """Return the folder for what can be made again from weights; it need not exist yet.

    ``$CYPOSE_CACHE`` where it is set, else ``cypose_dask`` in the user's cache folder
    (``$XDG_CACHE_HOME`` or ``~/.cache``; ``~/Library/Caches`` on macOS).
    """
    chosen = os.environ.get("CYPOSE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    if shared:
        return Path(shared) / "cypose_dask"
    home = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / home / "cypose_dask"


@contextmanager
def kept_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file of the cache for writing; it appears at `path`, synced, if nothing was raised.

    Several processes, on several machines too, may write the same file at once.

    Raises
    ------
    OSError
        If the folder cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.tmp")
    try:
        with fresh.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
