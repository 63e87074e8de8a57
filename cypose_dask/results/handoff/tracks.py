"""Tracks as the hand-off takes them: which cells of a result are one cell over time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cypose_dask.results.linking import LinkedCells

__all__ = ["Track", "TrackRow", "Tracks", "tracks_of"]


class TrackRow(Protocol):
    """Anything with these four numbers; a row of a table will do."""

    @property
    def id(self) -> int:
        """Number of the track, from 1, once in its position."""

    @property
    def begin(self) -> int:
        """Its first frame, 0-based as in the movie."""

    @property
    def end(self) -> int:
        """Its last frame."""

    @property
    def parent(self) -> int:
        """The track that divided into this one and its sisters; 0 for none."""


@dataclass(frozen=True, slots=True)
class Track:
    """One cell over time; see `TrackRow`."""

    id: int
    begin: int
    end: int
    parent: int = 0


@dataclass(frozen=True, slots=True)
class Tracks:
    """The tracks of one position.

    Attributes
    ----------
    table : iterable of TrackRow
    ids : callable
        ``ids(t)`` gives the tracks of the cells of frame `t` (0-based as in the movie):
        (N,) ndarray of int, that of label 1 first.
    """

    table: Iterable[TrackRow]
    ids: Callable[[int], np.ndarray]


def tracks_of(cells: LinkedCells) -> Tracks:
    """Return the tracks of a position that were linked here; none has a gap."""
    cells = cells.unbroken()
    begin, end = cells.spans()
    rows = zip(begin.tolist(), end.tolist(), cells.parent.tolist(), strict=True)
    return Tracks(
        table=[Track(number, *row) for number, row in enumerate(rows, 1)],
        ids=cells.of_frame,
    )
