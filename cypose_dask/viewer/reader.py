"""The reader that napari asks: is this path a movie or a result, and what are its layers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cypose_dask.results import Result

__all__ = ["get_reader", "layers_of"]

LayerData = tuple[Any, dict[str, Any], str]
# zarr 3 keeps everything in one file, zarr 2 the attributes in a second one.
_METADATA = ("zarr.json", ".zattrs", ".zarray")
_IMAGES = ("multiscales", "bioformats2raw.layout")
_AXIS_NAMES = ("dimension_names", "_ARRAY_DIMENSIONS")
# Words of `movies.zarr_store`, which loads numpy. Arrays with other axes are nobody's movie.
AXIS_WORDS = {"t", "time", "p", "position", "z", "c", "channel", "y", "x"}
# Of results and of what is exported from them; `results.store.ATTRIBUTES`, which loads numpy.
_OURS = "cypose_dask"
_LISTED = 5


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return `layers_of` if `path` is a movie or a result of ours, else None.

    A folder is told by its own metadata files alone: napari asks about every folder.
    """
    if isinstance(path, list):
        if len(path) != 1:
            return None
        path = path[0]
    here = Path(path)
    known = _is_image(_attributes(here)) if here.is_dir() else here.is_file()
    return layers_of if known else None


def layers_of(path: str | list[str]) -> list[LayerData]:
    """Return napari's layers of a movie or a result: axes (T, P, Z, Y, X), in s and um.

    A movie has an image a channel. A result has the images of its movie and labels, and, if its
    cells were linked, labels by track; a warning says why labels are alone if the movie is not
    found. An exported OME-Zarr has images and labels.

    Raises
    ------
    MovieError
        If the movie cannot be read.
    ResultError
        If the result is damaged.
    """
    here = Path(path[0] if isinstance(path, list) else path)
    attributes = _attributes(here)
    return _of_result(here) if _is_result(attributes) else _of_movie(here, attributes.get(_OURS))


def _of_movie(path: Path, export: Any) -> list[LayerData]:
    from cypose_dask.errors import ResultError
    from cypose_dask.movies import open_movie
    from cypose_dask.viewer.layers import exported_labels, image_layers

    movie = open_movie(path, allow_damaged=True)
    images = image_layers(movie, movie.info)
    try:
        cells = [exported_labels(path, movie.info)] if isinstance(export, dict) else []
    except ResultError as error:
        warnings.warn(f"The images are shown alone. {error}", stacklevel=2)
        return images
    _say_what_is_blank(export.get("without_labels") if cells else None)
    return [*images, *cells]


def _of_result(path: Path) -> list[LayerData]:
    from cypose_dask.results import open_result
    from cypose_dask.results.handoff.choice import frames_without_labels
    from cypose_dask.viewer.layers import labels_layer

    result = open_result(path)
    _say_what_is_blank(frames_without_labels(result))
    cells, tracks = labels_layer(result), _tracks_of(result)
    cells[1]["visible"] = not tracks
    return [*_images_behind(result), cells, *tracks]


def _tracks_of(result: Result) -> list[LayerData]:
    """Return the layer of a result's tracks, if there are any."""
    from cypose_dask.errors import ResultError
    from cypose_dask.results.tracks import has_tracks
    from cypose_dask.viewer.layers import tracks_layer

    try:
        return [tracks_layer(result)] if has_tracks(result) else []
    except ResultError as error:
        warnings.warn(f"The labels are shown without their tracks. {error}", stacklevel=2)
        return []


def _images_behind(result: Result) -> list[LayerData]:
    """Return the images of a result's movie, in the scale of the result."""
    from cypose_dask.errors import MovieError, ResultError
    from cypose_dask.results.source import movie_of
    from cypose_dask.viewer.current_frame import settings_of_run
    from cypose_dask.viewer.layers import image_layers

    try:
        return image_layers(movie_of(result), result.layout, settings_of_run(result))
    except (MovieError, ResultError) as error:
        warnings.warn(
            "The labels are shown alone; open the movie as well, or put it beside the result and "
            f"open that again. {error}",
            stacklevel=2,
        )
        return []


def _say_what_is_blank(without_labels: Any) -> None:
    """Warn of frames without labels, which look like frames without cells."""
    if isinstance(without_labels, list) and without_labels:
        shown = "; ".join(str(frames) for frames in without_labels[:_LISTED])
        more = f"; and {len(without_labels) - _LISTED} more" if without_labels[_LISTED:] else ""
        warnings.warn(f"Frames without labels are shown blank: {shown}{more}.", stacklevel=2)


def _attributes(store: Path) -> dict[str, Any]:
    """Return the attributes of a zarr folder, and the names of an array's axes; {} if none."""
    found: dict[str, Any] = {}
    for name in _METADATA:
        metadata = _json(store / name)
        attributes = metadata.get("attributes", {}) if name == "zarr.json" else metadata
        found |= {k: metadata[k] for k in _AXIS_NAMES if k in metadata}
        found |= attributes if isinstance(attributes, dict) else {}
    return found


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes()) if file.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_image(attributes: dict[str, Any]) -> bool:
    ome = attributes.get("ome", attributes)
    is_ngff = isinstance(ome, dict) and any(name in ome for name in _IMAGES)
    return (
        is_ngff or any(map(_are_ours, map(attributes.get, _AXIS_NAMES))) or _is_result(attributes)
    )


def _are_ours(axes: Any) -> bool:
    """Tell whether names of axes are all those of a movie; `open_movie` refuses others."""
    names = {str(name).lower() for name in axes} if isinstance(axes, list) else set()
    return {"y", "x"} <= names <= AXIS_WORDS


def _is_result(attributes: dict[str, Any]) -> bool:
    about = attributes.get(_OURS)
    return isinstance(about, dict) and "layout" in about
