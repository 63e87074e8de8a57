"""Every cell of a position with the track that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["LinkedCells"]


@dataclass(frozen=True, slots=True)
class LinkedCells:
    """The cells of a position in the order of frames and labels, and the tracks that they make.

    Attributes
    ----------
    t : (M,) ndarray of int64
        Frame of each cell, 0-based as in the movie.
    track : (M,) ndarray of int64
        Number of its track, from 1, in the order of first frames and labels.
    area : (M,) ndarray of int64
        px.
    parent : (N,) ndarray of int64
        For each track the one that divided into it and its sister; 0 for none.
    lineage : (N,) ndarray of int64
        For each track the one that all its ancestors come from; its own number if it has none.
    """

    t: np.ndarray
    track: np.ndarray
    area: np.ndarray
    parent: np.ndarray
    lineage: np.ndarray

    @classmethod
    def numbered(
        cls,
        t: np.ndarray,
        track: np.ndarray,
        area: np.ndarray,
        origins: Mapping[int, tuple[int | None, int | None]],
    ) -> LinkedCells:
        """Return cells whose tracks are numbered in order.

        Parameters
        ----------
        t, track, area : (M,) ndarray of int64
            Of each cell; any numbers of tracks.
        origins : mapping of int to (int or None, int or None)
            For each track its mother, and the track that it was a piece of.
        """
        old, first, which = np.unique(track, return_index=True, return_inverse=True)
        order = np.argsort(first)
        new = np.empty(len(old), np.int64)
        new[order] = np.arange(1, len(old) + 1)
        number = dict(zip(old.tolist(), new.tolist(), strict=True))
        parent = np.zeros(len(old), np.int64)
        lineage = np.arange(1, len(old) + 1)
        # A track begins after those that it comes from, so these have their lineage already.
        for k in old[order].tolist():
            mother, whole = origins[k]
            source = mother if mother is not None else whole
            if source is not None:
                lineage[number[k] - 1] = lineage[number[source] - 1]
            if mother is not None:
                parent[number[k] - 1] = number[mother]
        return cls(np.asarray(t, np.int64), new[which], area, parent, lineage)

    @property
    def label(self) -> np.ndarray:
        """Label of each cell in its frame, (M,) ndarray of int64."""
        return np.arange(len(self.t)) - np.searchsorted(self.t, self.t) + 1

    def of_frame(self, t: int) -> np.ndarray:
        """Return the tracks of the cells of a frame, that of label 1 first."""
        return self.track[slice(*np.searchsorted(self.t, (t, t + 1)))]

    def unbroken(self) -> LinkedCells:
        """Return the same cells in tracks without gaps.

        A track that was lost for a while becomes several, each the parent of the next: so the Cell
        Tracking Challenge has it.
        """
        order = np.lexsort((self.t, self.track))
        track, t = self.track[order], self.t[order]
        begins = np.diff(track, prepend=0) != 0
        piece = np.cumsum(begins | (np.diff(t, prepend=0) > 1)) - 1
        first, last = piece[begins], np.r_[piece[begins][1:] - 1, piece[-1:]]
        origins: dict[int, tuple[int | None, int | None]] = {
            k: (k - 1, None) for k in range(int(piece.max(initial=-1)) + 1)
        }
        for k, parent in zip(first.tolist(), self.parent.tolist(), strict=True):
            origins[k] = (int(last[parent - 1]) if parent else None, None)
        of_cell = np.empty_like(piece)
        of_cell[order] = piece
        return LinkedCells.numbered(self.t, of_cell, self.area, origins)

    def spans(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first and the last frame of every track, (N,) ndarray of int64 each."""
        begin = np.full(len(self.parent), np.iinfo(np.int64).max)
        end = np.full(len(self.parent), -1, np.int64)
        np.minimum.at(begin, self.track - 1, self.t)
        np.maximum.at(end, self.track - 1, self.t)
        return begin, end
