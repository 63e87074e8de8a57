"""Frames of results whose labels were corrected by hand, with the pixels of their movies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cypose_dask.errors import MovieError, MovieNotFoundError
from cypose_dask.learn.scoring.label_files import LabelFrames
from cypose_dask.learn.training.example_frames import Finds, Reading, read_frames, with_chosen

if TYPE_CHECKING:
    from cypose_dask.movies import Movie

__all__ = ["read_result"]


def read_result(labels: LabelFrames, reading: Reading) -> Finds:
    """Read the frames of a result that are done, with the pixels of its movie.

    Raises
    ------
    MovieNotFoundError
        If the movie is neither where it was nor among those of `reading`.
    MovieError, SettingsError, ResultError
        If movie or result cannot be read, or channels must be chosen.
    """
    from cypose_dask.results import open_result

    plan = open_result(labels.path).attributes.get("plan", {})
    movie = _movie_of_result(labels.path, plan, reading)
    if reading.channels is None and isinstance(plan.get("channels"), list):
        reading = replace(reading, channels=plan["channels"])
    return read_frames(with_chosen(movie, reading), labels, reading)


def _movie_of_result(path: Path, plan: dict[str, Any], reading: Reading) -> Movie:
    """Open the movie of a result: where it was, or the one that was named and has its content."""
    try:
        about = plan["movie"]
        sha256, known = about["fingerprint"]["content_sha256"], about["reading"]
        where = str(about["path"])
    except (LookupError, TypeError) as error:
        raise MovieError(
            f"{path} does not say which movie it belongs to ({error} is missing in its plan)."
        ) from error
    how = {name: known.get(name) for name in ("axes", "position", "channels", "rgb")}
    tried: list[str] = []
    for candidate in (*reading.movies, where):
        movie = _opened(candidate, how, tried)
        if movie is not None and movie.info.fingerprint.content_sha256 == sha256:
            return movie
        if movie is not None:
            tried.append(f"{candidate} has another content")
    raise MovieNotFoundError(
        f"The movie that {path} was made from was not found: {'; '.join(tried)}. Say where it lies "
        "now with --movie."
    )


def _opened(candidate: str | Path, how: dict[str, Any], tried: list[str]) -> Movie | None:
    from cypose_dask.movies import open_movie

    try:
        return open_movie(candidate, **how, allow_damaged=True)
    except MovieError as error:
        tried.append(str(error).rstrip("."))
        return None
