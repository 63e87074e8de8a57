"""Labels of a result, read frame by frame: numbers without gaps, counts and checksums."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cypose_dask.errors import ResultError
from cypose_dask.results import Status
from cypose_dask.results.pages import read_array
from cypose_dask.results.writing import checksum
from cypose_dask.run.checks.finding import Finding, block_name, frame_name
from cypose_dask.run.state import ResultState

__all__ = ["check_labels"]

# Compares a frame (Y, X) of uint32 with the page of this number.
Compare = Callable[[int, np.ndarray], Iterator[Finding]]

_EDITED = (
    "If you did not edit the labels, the store is damaged: restore it from a copy, or segment "
    "again with --restart."
)


def check_labels(state: ResultState, where: tuple[int, Any], compare: Compare) -> Iterator[Finding]:
    """Check every frame and block of a position, and hand each frame to `compare`.

    Parameters
    ----------
    state : ResultState
    where : tuple of int and zarr.Array
        The position and its labels (T, Z, Y, X).
    compare : callable
        Is given the page's number and the frame's labels, zeros where it has none.
    """
    layout, position = state.result.layout, where[0]
    for first in range(0, layout.frames, layout.frames_per_block):
        length = min(layout.frames_per_block, layout.frames - first)
        digest, intact = checksum(), True
        for t, z in np.ndindex(length, layout.planes):
            frame = _Frame(state, position, first + t, z)
            try:
                labels = read_array(state.result.path, where[1], (first + t, z))
            except ResultError as error:
                yield frame.unreadable(error)
                intact = False
                continue
            digest.update(labels.tobytes())
            yield from frame.check(labels)
            blank = np.zeros_like(labels)
            yield from compare(frame.page, labels if frame.status == Status.DONE else blank)
        told = state.checksums.get((position, first, length))
        if intact and told and told != digest.hexdigest():
            yield _changed(state, (position, first, length))


def _changed(state: ResultState, block: tuple[int, int, int]) -> Finding:
    position, first, length = block
    return Finding(
        where=block_name(first + state.result.start_frame, length, position),
        found="other labels than the journal has the checksum of",
        expected="labels as they were written",
        advice=_EDITED,
    )


class _Frame:
    """One frame and what is known of it."""

    def __init__(self, state: ResultState, position: int, t: int, z: int) -> None:
        at = (position, t, z)
        told = state.told[at] != Status.PENDING
        self.status = Status(int((state.told if told else state.stored)[at]))
        self.told_cells = int(state.told_cells[at]) if told else None
        same = told and state.stored[at] == state.told[at] == Status.DONE
        self.stored_cells = int(state.stored_cells[at]) if same or not told else None
        self.page = t * state.result.layout.planes + z
        self.name = frame_name(t + state.result.start_frame, position, z)

    def check(self, labels: np.ndarray) -> Iterator[Finding]:
        """Yield what is wrong with the labels (Y, X)."""
        if self.status != Status.DONE:
            yield from self._check_blank(labels)
            return
        highest = int(labels.max(initial=0))
        gaps = highest - _distinct(labels, highest)
        if gaps:
            yield self._finding(
                f"labels up to {highest} of which {gaps} do not occur", "labels 1 to N without gaps"
            )
        counts = (("journal", self.told_cells), ("zarr", self.stored_cells))
        wrong = [(name, n) for name, n in counts if n is not None and n != highest]
        if wrong:
            expected = " and ".join(f"{n} cells, as the {name} counts them" for name, n in wrong)
            yield self._finding(f"labels up to {highest}", expected)

    def _check_blank(self, labels: np.ndarray) -> Iterator[Finding]:
        pixels = int(np.count_nonzero(labels))
        if not pixels:
            return
        found = f"{pixels} pixels with labels although it is {self.status.name.lower()}"
        # A run that was killed between writing a block and its line in the journal leaves these.
        again = "The same `cypose-dask segment` does it again."
        pending = self.status == Status.PENDING
        yield self._finding(found, "zeros", again if pending else _EDITED, is_fault=not pending)

    def unreadable(self, error: ResultError) -> Finding:
        """Say that the frame cannot be read."""
        return self._finding(f"a chunk that cannot be read ({error})", "labels", _EDITED)

    def _finding(
        self, found: str, expected: str, advice: str = _EDITED, *, is_fault: bool = True
    ) -> Finding:
        return Finding(
            where=self.name, found=found, expected=expected, advice=advice, is_fault=is_fault
        )


def _distinct(labels: np.ndarray, highest: int) -> int:
    """Return how many of 1 to `highest` occur."""
    if highest > labels.size:  # no room for all of them, and perhaps none in memory
        return int(np.count_nonzero(np.unique(labels)))
    seen = np.zeros(highest + 1, bool)
    seen[labels] = True
    return int(np.count_nonzero(seen[1:]))
