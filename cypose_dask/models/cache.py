"""The folder in which derived facts of models are kept between runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_folder"]


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
