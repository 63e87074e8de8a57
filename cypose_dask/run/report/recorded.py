"""What a journal has recorded of every frame, as arrays; later lines win."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cypose_dask.results import Status
from cypose_dask.results.naming import journal_of
from cypose_dask.results.report import FrameNumbers
from cypose_dask.results.report.numbers import Place
from cypose_dask.run.journal import Journal
from cypose_dask.run.record import BlockRecord, FrameRecord
from cypose_dask.run.state import ResultState

__all__ = ["Recorded", "recorded_numbers"]

_MEASURES = ("covered_area", "mean_cellprob", "flow_error", "focus")
_MARKS = ("blank", "saturated", "non_finite")
# Of our own engine there are ten.
_MOST_STAGES = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What the journal of a result says.

    Attributes
    ----------
    numbers : FrameNumbers
    n_unknown : int
        Frames with labels of which the journal says nothing.
    stages : dict
        Seconds of all workers together by stage, each frame's last try alone.
    begun, ended : float
        Of the first and last block, s since 1970; NaN if unknown.
    n_workers : int
    """

    numbers: FrameNumbers
    n_unknown: int
    stages: dict[str, float]
    begun: float
    ended: float
    n_workers: int


def recorded_numbers(state: ResultState) -> Recorded:
    """Gather what the journal says of the frames of a result."""
    gathered = _Gathered(state)
    for record in Journal(journal_of(state.result.path)).read():
        gathered.add(record)
    told = state.told == Status.DONE
    numbers = FrameNumbers(
        status=state.status,
        cells=state.cells,
        **gathered.measures,
        **gathered.marks,
        reasons=gathered.reasons,
    )
    return Recorded(
        numbers=numbers,
        n_unknown=int((numbers.done & ~told).sum()),
        stages=gathered.total_seconds(),
        begun=gathered.begun,
        ended=gathered.ended,
        n_workers=len(gathered.workers),
    )


@dataclass(slots=True)
class _Gathered:
    """Arrays (P, T, Z) that are filled record by record."""

    state: ResultState
    measures: dict[str, np.ndarray] = field(init=False)
    marks: dict[str, np.ndarray] = field(init=False)
    stages: dict[str, np.ndarray] = field(default_factory=dict)
    write_s: dict[tuple[int, int], float] = field(default_factory=dict)
    reasons: dict[Place, str] = field(default_factory=dict)
    workers: set[str] = field(default_factory=set)
    begun: float = math.nan
    ended: float = math.nan

    def __post_init__(self) -> None:
        shape = self.state.status.shape
        self.measures = {name: np.full(shape, np.nan, np.float32) for name in _MEASURES}
        self.marks = {name: np.zeros(shape, bool) for name in _MARKS}

    def add(self, record: BlockRecord) -> None:
        for frame in record.frames:
            self._add_frame(frame, record.block.position)
        self.write_s[record.block.position, record.block.start] = _number(record.write_s, 0.0)
        self.workers.add(str(record.worker))
        begun, seconds = _number(record.begun) or math.nan, _number(record.seconds, 0.0)
        self.begun = float(np.fmin(self.begun, begun))
        self.ended = float(np.fmax(self.ended, begun + seconds))

    def _add_frame(self, frame: FrameRecord, position: int) -> None:
        t = frame.t - self.state.result.start_frame
        at = (position, t, frame.z)
        for name, values in self.measures.items():
            values[at] = _number(getattr(frame, name)) if frame.status == Status.DONE else math.nan
        for name, values in self.marks.items():
            values[at] = getattr(frame, name) is True
        for name, seconds in self._seconds(frame):
            self.stages.setdefault(name, np.zeros_like(self.measures["focus"]))[at] = seconds
        if frame.error:
            self.reasons[t, position, frame.z] = str(frame.error)

    def _seconds(self, frame: FrameRecord) -> Iterator[tuple[str, float]]:
        """Yield the seconds of each stage, those of an earlier try as zero."""
        told: Any = frame.seconds
        seconds = told if isinstance(told, dict) else {}
        names = dict.fromkeys([*self.stages, *map(str, seconds)])
        for name in list(names)[:_MOST_STAGES]:
            yield name, _number(seconds.get(name), 0.0)

    def total_seconds(self) -> dict[str, float]:
        """Add up each stage over all frames."""
        totals = {name: float(values.sum(dtype=float)) for name, values in self.stages.items()}
        return totals | ({"write": sum(self.write_s.values())} if self.write_s else {})


def _number(value: Any, otherwise: float = math.nan) -> float:
    """Return a number of a journal, which anybody may have written."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else otherwise
