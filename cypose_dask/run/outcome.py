"""What became of one movie: its TIFs, its record, and which frames have no labels."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cypose_dask.results import OutputNames, Result, Status, export_debug_tifs, export_tif
from cypose_dask.results.atomic import write_json
from cypose_dask.run.journal import Journal

__all__ = ["MissingFrame", "MovieOutcome", "export_result"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingFrame:
    """A frame without labels, t counted in the movie, and why it has none."""

    t: int
    position: int
    z: int
    status: Status
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "status": self.status.name.lower()}


@dataclass(frozen=True, kw_only=True, slots=True)
class MovieOutcome:
    """What became of one movie.

    Attributes
    ----------
    source : str
        File, folder or pattern.
    names : OutputNames
    error : str or None
        Why the movie as a whole was not segmented.
    not_done : tuple of MissingFrame
        Frames without labels.
    tifs : tuple of Path
        Empty when the result is incomplete.
    frames, cells : int
    seconds : float
    """

    source: str
    names: OutputNames
    error: str | None = None
    not_done: tuple[MissingFrame, ...] = ()
    tifs: tuple[Path, ...] = ()
    frames: int = 0
    cells: int = 0
    seconds: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether every frame has labels."""
        return self.error is None and not self.not_done


def export_result(
    result: Result, outcome: MovieOutcome, *, debug_base: Path | None, allow_damaged: bool
) -> MovieOutcome:
    """Write the TIFs and the record of a result, and return what became of its movie.

    Parameters
    ----------
    result : Result
    outcome : MovieOutcome
        What is known of the movie without looking into the result.
    debug_base : Path or None
        Name in front of the suffixes of flows and probabilities; None writes none.
    allow_damaged : bool
        Whether damaged frames become blank pages. Failed ones never do: there is no TIF then.

    Raises
    ------
    ResultError
        If a file cannot be written.
    """
    not_done = _missing_frames(result, outcome.names)
    tifs: list[Path] = []
    accepted = allow_damaged and all(frame.status == Status.DAMAGED for frame in not_done)
    if not not_done or accepted:
        tifs = export_tif(result, outcome.names.tif, allow_incomplete=accepted)
        if debug_base:
            export_debug_tifs(result, debug_base, allow_incomplete=accepted)
    outcome = replace(
        outcome,
        not_done=not_done,
        tifs=tuple(tifs),
        frames=sum(result.status(p).size for p in range(result.n_positions)),
        cells=sum(int(result.cells(p).sum()) for p in range(result.n_positions)),
    )
    write_json(outcome.names.run_json, _run_record(result, outcome))
    return outcome


def _missing_frames(result: Result, names: OutputNames) -> tuple[MissingFrame, ...]:
    missing = result.frames_not_done()
    reasons = Journal(names.journal).reasons() if missing else {}
    return tuple(
        MissingFrame(t=t, position=p, z=z, status=s, reason=reasons.get((t, p, z), "not reached"))
        for t, p, z, s in missing
    )


def _run_record(result: Result, outcome: MovieOutcome) -> dict[str, Any]:
    """Return everything that is needed to get the same labels again."""
    not_done = [frame.to_dict() for frame in outcome.not_done]
    return {
        "command": sys.argv,
        "plan": result.attributes["plan"],
        "fingerprint": result.attributes["fingerprint"],
        "outputs": {
            "zarr": str(outcome.names.zarr),
            "journal": str(outcome.names.journal),
            "tif": [str(path) for path in outcome.tifs],
        },
        "frames": outcome.frames,
        "cells": outcome.cells,
        "frames_not_done": not_done,
        "seconds": round(outcome.seconds, 3),
    }
