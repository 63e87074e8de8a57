"""How the cells of a frame overlap with those before, motion taken out: labels in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cypose_dask.results.linking.counting import Overlaps, areas_of, overlaps_of
from cypose_dask.results.linking.motion import motion_between

__all__ = ["FrameOverlaps", "frame_overlaps"]


@dataclass(frozen=True, slots=True)
class FrameOverlaps:
    """A frame, and how its cells overlap with those of frames before it.

    Attributes
    ----------
    t : int
        The frame, 0-based as in the movie.
    areas : (N,) ndarray of int64
        Pixels of its cells, that of label 1 first, px.
    before : dict of int to Overlaps
        With each of the frames before that were compared.
    """

    t: int
    areas: np.ndarray
    before: dict[int, Overlaps]


def frame_overlaps(t: int, labels: np.ndarray, before: dict[int, np.ndarray]) -> FrameOverlaps:
    """Compare a frame with some frames before it, whose motion is taken out.

    Parameters
    ----------
    t : int
    labels : (Y, X) ndarray of int
        Labels 1..N without gaps, 0 = background.
    before : dict of int to (Y, X) ndarray of int
        Labels of frames before, by their t.
    """
    compared = {
        earlier: overlaps_of(other, labels, motion_between(other, labels))
        for earlier, other in before.items()
    }
    return FrameOverlaps(t, areas_of(labels), compared)
