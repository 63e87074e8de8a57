"""Movies: ND2, TIFF, zarr and sequences of images, as lazy (T, P, Z, C, Y, X) arrays."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cypose_dask.movies.fingerprint import Fingerprint
    from cypose_dask.movies.lazy import LazyFrames
    from cypose_dask.movies.movie import Movie, MovieInfo
    from cypose_dask.movies.ome_set import other_members
    from cypose_dask.movies.open import open_movie
    from cypose_dask.movies.source import FrameSource

__all__ = [
    "Fingerprint",
    "FrameSource",
    "LazyFrames",
    "Movie",
    "MovieInfo",
    "open_movie",
    "other_members",
]

_HOMES = {
    "Fingerprint": "fingerprint",
    "FrameSource": "source",
    "LazyFrames": "lazy",
    "Movie": "movie",
    "MovieInfo": "movie",
    "open_movie": "open",
    "other_members": "ome_set",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that `import cypose_dask` stays fast."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
