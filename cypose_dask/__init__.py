"""Segment days of bacterial time-lapse with Cellpose on a Dask cluster.

>>> import cypose_dask as cd
>>> movie = cd.open_movie(path)
>>> result = cd.segment(movie, tmp_path / "movie.zarr", cd.Settings(diameter=20))
>>> cd.export_tif(result, tmp_path / "movie_labels.tif")[0].name
'movie_labels.tif'

Names are loaded when they are first used, so that importing the package costs milliseconds.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cypose_dask.engine import FrameStats, Segmentation, segment_frames
    from cypose_dask.errors import CyposeError
    from cypose_dask.models import ModelSpec, list_models, resolve_model
    from cypose_dask.movies import Movie, MovieInfo, open_movie
    from cypose_dask.results import Result, Status, export_tif, open_result, save_preview
    from cypose_dask.run import (
        Certificates,
        Finding,
        Gpus,
        Linked,
        Measured,
        Plan,
        SlurmJobs,
        connect,
        convert_movie,
        link,
        make_plan,
        measure,
        profile,
        segment,
        segment_lazy,
        verify,
        write_report,
    )
    from cypose_dask.settings import RunOptions, Settings

__version__ = "0.1.0"

_ROOMS = {
    "engine": ("FrameStats", "Segmentation", "segment_frames"),
    "errors": ("CyposeError",),
    "models": ("ModelSpec", "list_models", "resolve_model"),
    "movies": ("Movie", "MovieInfo", "open_movie"),
    "results": ("Result", "Status", "export_tif", "open_result", "save_preview"),
    "run": (
        "Certificates",
        "Finding",
        "Gpus",
        "Linked",
        "Measured",
        "Plan",
        "SlurmJobs",
        "connect",
        "convert_movie",
        "link",
        "make_plan",
        "measure",
        "profile",
        "segment",
        "segment_lazy",
        "verify",
        "write_report",
    ),
    "settings": ("RunOptions", "Settings"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Certificates",
    "CyposeError",
    "Finding",
    "FrameStats",
    "Gpus",
    "Linked",
    "Measured",
    "ModelSpec",
    "Movie",
    "MovieInfo",
    "Plan",
    "Result",
    "RunOptions",
    "Segmentation",
    "Settings",
    "SlurmJobs",
    "Status",
    "__version__",
    "connect",
    "convert_movie",
    "export_tif",
    "link",
    "list_models",
    "make_plan",
    "measure",
    "open_movie",
    "open_result",
    "profile",
    "resolve_model",
    "save_preview",
    "segment",
    "segment_frames",
    "segment_lazy",
    "verify",
    "write_report",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
