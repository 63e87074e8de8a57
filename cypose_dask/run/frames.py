"""The frames of one block: read ahead, and segmented in groups that fill the device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cypose_dask.engine import Made, Networks, attempt, segment_group
from cypose_dask.movies import LazyFrames
from cypose_dask.run.retry import patiently
from cypose_dask.settings import Settings

__all__ = ["FrameOutcome", "Place", "Segmenter", "places_of", "segment_all", "segment_one"]

# T and Z of a frame within its block.
Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class FrameOutcome:
    """What became of one frame.

    Attributes
    ----------
    at : tuple of int
        T and Z within the block.
    made : Made or Exception
        The labels, or what went wrong.
    read_s : float
        Time to read it, s.
    """

    at: Place
    made: Made | Exception
    read_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Read:
    """One frame (C, Y, X), or what went wrong with it."""

    at: Place
    frame: np.ndarray | Exception
    seconds: float


class Segmenter(Protocol):
    """How frames are segmented: settings, and the networks of this process."""

    @property
    def settings(self) -> Settings:
        """Resolved."""

    def load(self) -> Networks:
        """Load the networks, or return those that this process has."""


def places_of(frames: LazyFrames) -> list[Place]:
    """Return the places of a block's frames, plane by plane."""
    return [(t, z) for t in range(frames.shape[0]) for z in range(frames.shape[2])]


def segment_all(frames: LazyFrames, task: Segmenter) -> Iterator[FrameOutcome]:
    """Segment a block, reading one group of frames ahead.

    Parameters
    ----------
    frames : LazyFrames
        (t, 1, Z, C, Y, X), unread.
    task : Segmenter
    """
    networks, settings = task.load(), task.settings
    places = places_of(frames)
    size = networks.frames_at_once(frames.shape[-2:], settings)
    groups = [places[i : i + size] for i in range(0, len(places), size)]
    with ThreadPoolExecutor(1, "read-ahead") as ahead:
        coming = ahead.submit(_read_group, frames, groups[0])
        for following in [*groups[1:], None]:
            read = coming.result()
            if following:
                coming = ahead.submit(_read_group, frames, following)
            yield from _segment_group(read, networks, settings)


def segment_one(frames: LazyFrames, at: Place, task: Segmenter) -> FrameOutcome:
    """Read and segment one frame of a block."""
    (outcome,) = _segment_group([_read(frames, at)], task.load(), task.settings)
    return outcome


def _read_group(frames: LazyFrames, places: list[Place]) -> list[_Read]:
    return [_read(frames, at) for at in places]


def _read(frames: LazyFrames, at: Place) -> _Read:
    begun = time.perf_counter()
    frame = attempt(patiently, frames.read, at[0], 0, at[1])
    return _Read(at, frame, time.perf_counter() - begun)


def _segment_group(
    read: list[_Read], networks: Networks, settings: Settings
) -> Iterator[FrameOutcome]:
    good = [one.frame for one in read if not isinstance(one.frame, Exception)]
    made = iter(segment_group(good, networks, settings))
    for one in read:
        result = one.frame if isinstance(one.frame, Exception) else next(made)
        yield FrameOutcome(one.at, result, one.seconds)
