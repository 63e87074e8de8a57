"""Frames of results whose labels were corrected by hand, with the pixels of their movies."""

from __future__ import annotations

from dataclasses import replace

from cypose_dask.learn.scoring.label_files import LabelFrames
from cypose_dask.learn.training.example_frames import Finds, Reading, read_frames, with_chosen

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
    from cypose_dask.results.source import movie_of

    result = open_result(labels.path)
    movie = movie_of(result, among=reading.movies)
    channels = result.attributes["plan"].get("channels")
    if reading.channels is None and isinstance(channels, list):
        reading = replace(reading, channels=channels)
    return read_frames(with_chosen(movie, reading), labels, reading)
