"""The movie that a result was made from: where it was, or where somebody says that it lies now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from cypose_dask.errors import (
    CyposeError,
    DamagedFrameError,
    MovieError,
    MovieNotFoundError,
    ResultError,
)
from cypose_dask.movies import Movie, open_movie
from cypose_dask.results.store import Result

__all__ = ["frame_or_blank", "movie_if_found", "movie_of", "network_movie"]


def movie_of(
    result: Result, movie: str | Path | None = None, *, among: Sequence[str | Path] = ()
) -> Movie:
    """Open the movie of a result, as it was read then.

    Parameters
    ----------
    result : Result
    movie : str, Path or None
        Where the movie lies now. None looks where it was, and beside the result.
    among : sequence of str or Path
        Movies to look at first, if `movie` is None.

    Raises
    ------
    MovieNotFoundError
        If it is not there, or what is there has another content.
    ResultError
        If the result does not say which movie it was made from.
    """
    about = _about(result)
    places = [movie] if movie is not None else [*among, *_likely(result, about["path"])]
    tried: list[str] = []
    for place in places:
        opened = _opened(place, about["reading"], tried)
        if opened is not None and opened.info.fingerprint.content_sha256 == about["sha256"]:
            return opened
        if opened is not None:
            tried.append(f"{place} has another content than the movie that was segmented")
    raise MovieNotFoundError(
        f"The movie of {result.path}, whose pixels are needed, was not found: {'; '.join(tried)}. "
        "Say where it lies now with --movie PATH (movie=)."
    )


def movie_if_found(result: Result, movie: str | Path | None = None) -> tuple[Movie | None, str]:
    """Open the movie of a result, or say why its labels are shown alone.

    Raises
    ------
    MovieNotFoundError
        If `movie` is named and is not the one that was segmented, or cannot be opened.
    """
    try:
        return movie_of(result, movie), ""
    except CyposeError as error:
        if movie is not None:
            raise
        unnamed = isinstance(error, ResultError)
        why = "The result does not say where its movie was." if unnamed else str(error)
        return None, f"Labels are shown alone. {why}"


def network_movie(result: Result, movie: str | Path | None = None) -> tuple[Movie, bool]:
    """Open the movie with the channels that the network saw.

    Returns
    -------
    movie : Movie
    mean : bool
        Whether the network saw the mean of the channels.

    Raises
    ------
    MovieNotFoundError, ResultError
        As `movie_of`.
    """
    opened = movie_of(result, movie)
    channels = result.attributes["plan"].get("channels")
    if channels == "mean":
        return opened, opened.info.sizes["C"] > 1
    try:
        return opened.with_channels(channels), False
    except (IndexError, TypeError) as error:
        raise ResultError(
            f"{result.path} was segmented by channels {channels!r}, and {opened.info.path} has "
            f"{opened.info.sizes['C']}. The record of the run is damaged; segment again."
        ) from error


def frame_or_blank(
    movie: Movie, place: tuple[int, int, int], *, may_be_damaged: bool
) -> np.ndarray:
    """Read the frame (C, Y, X) at T, P and Z of the movie; a damaged one that may be so is blank.

    Raises
    ------
    DamagedFrameError
        If it is damaged and `may_be_damaged` is False: such a frame with labels was changed since.
    """
    try:
        return movie.read_frame(*place)
    except DamagedFrameError:
        if not may_be_damaged:
            raise
        return np.zeros([movie.info.sizes[axis] for axis in "CYX"], movie.info.dtype)


def _about(result: Result) -> dict[str, Any]:
    try:
        about = result.attributes["plan"]["movie"]
        reading, sha256 = about["reading"], about["fingerprint"]["content_sha256"]
        known = {name: reading.get(name) for name in ("axes", "position", "channels", "rgb")}
        return {"path": str(about["path"]), "reading": known, "sha256": sha256}
    except (LookupError, TypeError, AttributeError) as error:
        raise ResultError(
            f"{result.path} does not say which movie it was made from ({error!r}). Expected a "
            "result of `cypose-dask segment`."
        ) from error


def _likely(result: Result, path: str) -> list[Path]:
    name = PureWindowsPath(path).name if "\\" in path else Path(path).name
    places = [Path(path), result.path.absolute().parent / name]
    return list(dict.fromkeys(places))


def _opened(place: str | Path, reading: dict[str, Any], tried: list[str]) -> Movie | None:
    try:
        return open_movie(place, **reading, allow_damaged=True)
    except MovieError as error:
        tried.append(str(error).rstrip("."))
    except (OSError, TypeError, ValueError) as error:  # a record that was changed by hand
        tried.append(f"{place} cannot be opened as it was ({error!r})")
    return None
