"""Link the cells of frames into tracks by how they overlap: one frame after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from cypose_dask.results.linking.cells import LinkedCells
from cypose_dask.results.linking.counting import Overlaps
from cypose_dask.results.linking.hypotheses import Hypothesis, most_likely
from cypose_dask.results.linking.overlaps import FrameOverlaps

__all__ = ["link_by_overlap"]

# Intersection over union below which nothing is taken for the same.
_LEAST_IOU = 0.15
# What lies one frame further back counts less: what was there in between is more likely.
_FORGETTING = 0.8
# Share of a daughter that lies in its mother.
_INSIDE = 0.3
# Of two daughters, the smaller has at least this share of the larger one's area. A smaller piece
# is rather a fault of the segmentation.
_BALANCE = 0.2


def link_by_overlap(frames: Iterable[FrameOverlaps], gap: int) -> LinkedCells:
    """Link the cells of a position.

    Parameters
    ----------
    frames : iterable of FrameOverlaps
        Those with labels, in the order of time, each compared with the `gap` + 1 before it.
    gap : int
        For how many of them a cell may be lost and still be found again.
    """
    linker = _Linker(gap)
    for frame in frames:
        linker.add(frame)
    return linker.finish()


@dataclass(slots=True)
class _Track:
    """A track: where it was seen last, and what it came from."""

    place: tuple[int, int]  # t and label
    area: int
    born: int  # how many frames there were before
    mother: int | None = None
    sister: int | None = None
    # Of a track that was no daughter, but a piece of a cell that seemed to have divided.
    piece_of: int | None = None


@dataclass(slots=True)
class _Linker:
    """Takes one frame after the other, and keeps which tracks may still go on."""

    gap: int
    _tracks: list[_Track] = field(default_factory=list)
    _at: dict[tuple[int, int], int] = field(default_factory=dict)  # tracks that may go on
    _times: list[int] = field(default_factory=list)
    _ids: list[np.ndarray] = field(default_factory=list)
    _areas: list[np.ndarray] = field(default_factory=list)
    _same: dict[int, int] = field(default_factory=dict)  # track -> what it is since

    def add(self, frame: FrameOverlaps) -> None:
        """Link a frame's cells."""
        ids = np.full(len(frame.areas), -1, np.int64)
        self._ids.append(ids)
        self._areas.append(frame.areas)
        for one in most_likely(list(self._hypotheses(frame))):
            self._accept(one, frame)
        for label in (np.flatnonzero(ids < 0) + 1).tolist():
            self._begin(frame, label)
        self._times.append(frame.t)
        oldest = self._times[-self.gap - 1 :][0]
        self._at = {place: k for place, k in self._at.items() if place[0] >= oldest}

    def finish(self) -> LinkedCells:
        """Return every cell with its track."""
        resolved = np.array([self._since(k) for k in range(len(self._tracks))], np.int64)
        return LinkedCells.numbered(
            np.repeat(np.array(self._times, np.int64), [len(ids) for ids in self._ids]),
            resolved[np.concatenate([np.zeros(0, np.int64), *self._ids])],
            np.concatenate([np.zeros(0, np.int64), *self._areas]),
            {
                k: (self._since(track.mother), self._since(track.piece_of))
                for k, track in enumerate(self._tracks)
            },
        )

    def _since(self, k: int | None) -> int | None:
        """Return what a track is since divisions were taken back."""
        while k in self._same:
            k = self._same[k]
        return k

    # ---- what may have happened -------------------------------------------------------------

    def _hypotheses(self, frame: FrameOverlaps) -> Iterator[Hypothesis]:
        for steps, t in enumerate(reversed(self._times[-self.gap - 1 :])):
            found = _Candidates.of(frame, t, self._at, self._tracks)
            for one in (*found.links(), *found.divisions(), *self._rejoined(found)):
                if one.score >= _LEAST_IOU:
                    yield Hypothesis(one.tracks, one.cells, one.score * _FORGETTING**steps)

    def _rejoined(self, found: _Candidates) -> Iterator[Hypothesis]:
        now = len(self._times)
        young = {k for k in found.of_track if now - self._tracks[k].born <= self.gap + 1}
        for k in sorted(young):
            other = self._tracks[k].sister
            if other is not None and other in young and k < other:
                yield from found.joins(k, other)

    # ---- what is taken to have happened -----------------------------------------------------

    def _accept(self, one: Hypothesis, frame: FrameOverlaps) -> None:
        if len(one.cells) == 2:
            self._divide(one.tracks[0], frame, one.cells)
        elif len(one.tracks) == 2:
            self._go_on(self._take_back(one.tracks), frame, one.cells[0])
        else:
            self._go_on(one.tracks[0], frame, one.cells[0])

    def _begin(self, frame: FrameOverlaps, label: int, mother: int | None = None) -> int:
        track = _Track((0, 0), 0, born=len(self._times), mother=mother)
        self._tracks.append(track)
        self._go_on(len(self._tracks) - 1, frame, label)
        return len(self._tracks) - 1

    def _go_on(self, k: int, frame: FrameOverlaps, label: int) -> None:
        track = self._tracks[k]
        self._at.pop(track.place, None)
        track.place, track.area = (frame.t, label), int(frame.areas[label - 1])
        self._at[track.place] = k
        self._ids[-1][label - 1] = k

    def _divide(self, k: int, frame: FrameOverlaps, labels: tuple[int, ...]) -> None:
        self._at.pop(self._tracks[k].place, None)
        first, second = (self._begin(frame, label, mother=k) for label in labels)
        self._tracks[first].sister, self._tracks[second].sister = second, first

    def _take_back(self, sisters: tuple[int, ...]) -> int:
        """Return the mother of two sisters, who never divided; the larger one was her all along."""
        larger, smaller = sorted(sisters, key=lambda k: (-self._tracks[k].area, k))
        mother = self._tracks[larger].mother
        assert mother is not None
        for k in sisters:
            self._at.pop(self._tracks[k].place, None)
        self._same[larger] = mother
        self._tracks[smaller].mother, self._tracks[smaller].piece_of = None, mother
        return mother


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The tracks last seen in one frame, and the cells of a later one that overlap with them.

    Attributes
    ----------
    areas : (N,) ndarray of int64
        Of the cells, px.
    of_track : dict
        For each track its area and, by cell, the pixels shared, px.
    """

    areas: np.ndarray
    of_track: dict[int, tuple[int, dict[int, int]]]

    @classmethod
    def of(
        cls, frame: FrameOverlaps, t: int, at: dict[tuple[int, int], int], tracks: list[_Track]
    ) -> _Candidates:
        shared: dict[int, tuple[int, dict[int, int]]] = {}
        for before, after, pixels in frame.before.get(t, Overlaps.none()).rows():
            k = at.get((t, before))
            if k is not None:
                shared.setdefault(k, (tracks[k].area, {}))[1][after] = pixels
        return cls(frame.areas, shared)

    def links(self) -> Iterator[Hypothesis]:
        """Say that a track goes on as a cell."""
        for k, (area, cells) in self.of_track.items():
            for c, pixels in cells.items():
                yield Hypothesis((k,), (c,), _iou(area, self._area(c), pixels))

    def divisions(self) -> Iterator[Hypothesis]:
        """Say that a track divided into two cells."""
        for k, (area, cells) in self.of_track.items():
            inside = [c for c, pixels in cells.items() if pixels >= _INSIDE * self._area(c)]
            for pair in combinations(inside, 2):
                small, large = sorted(map(self._area, pair))
                if small >= _BALANCE * large:
                    pixels = sum(cells[c] for c in pair)
                    yield Hypothesis((k,), pair, _iou(area, small + large, pixels))

    def joins(self, k: int, other: int) -> Iterator[Hypothesis]:
        """Say that two tracks are one cell."""
        (area, cells), (other_area, other_cells) = self.of_track[k], self.of_track[other]
        for c in sorted(cells.keys() & other_cells.keys()):
            if cells[c] >= _INSIDE * area and other_cells[c] >= _INSIDE * other_area:
                pixels = cells[c] + other_cells[c]
                yield Hypothesis((k, other), (c,), _iou(area + other_area, self._area(c), pixels))

    def _area(self, cell: int) -> int:
        return int(self.areas[cell - 1])


def _iou(one: int, other: int, shared: int) -> float:
    return shared / (one + other - shared)
