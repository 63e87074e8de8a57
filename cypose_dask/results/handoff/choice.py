"""Which frames of a result are handed on, and which have nothing to hand on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cypose_dask.errors import IncompleteResultError, ResultError, SettingsError
from cypose_dask.results.ranges import as_ranges
from cypose_dask.results.store import Result, Status

__all__ = ["Place", "chosen_places", "explained", "frames_without_labels", "require_labels"]

_LISTED = 5


@dataclass(frozen=True, slots=True)
class Place:
    """A frame: time as in the movie, position and plane, and what is known about its labels."""

    t: int
    p: int
    z: int
    status: Status

    def __str__(self) -> str:
        return f"t={self.t} p={self.p} z={self.z} ({self.status.name.lower()})"


def chosen_places(result: Result, frames: Iterable[int] | None) -> list[Place]:
    """Return all positions and planes of some times, position by position.

    Parameters
    ----------
    result : Result
    frames : iterable of int or None
        Times, 0-based as in the movie; None takes all.

    Raises
    ------
    SettingsError
        If a time is not in the result, or there is none.
    """
    first, count = result.start_frame, result.layout.frames
    times = range(first, first + count) if frames is None else sorted(set(frames))
    outside = [t for t in times if not first <= t < first + count]
    if outside or not times:
        found = f"frame {outside[0]}" if outside else "no frame"
        raise SettingsError(
            f"{result.path} has frames {first} to {first + count - 1}, counted from 0 as in the "
            f"movie; {found} was chosen. Choose among these with --frames."
        )
    return list(_places(result, times))


def _places(result: Result, times: Sequence[int]) -> Iterator[Place]:
    for p in range(result.n_positions):
        status = result.status(p)
        for t in times:
            for z, one in enumerate(status[t - result.start_frame]):
                yield Place(t, p, z, Status(int(one)))


def require_labels(
    result: Result, places: Sequence[Place], *, allow_incomplete: bool
) -> list[Place]:
    """Return the frames that have labels.

    Raises
    ------
    IncompleteResultError
        If some have none and `allow_incomplete` is False, or none has any.
    """
    without = [place for place in places if place.status != Status.DONE]
    if without and (not allow_incomplete or len(without) == len(places)):
        more = f" and {len(without) - _LISTED} more" if len(without) > _LISTED else ""
        raise IncompleteResultError(
            f"{result.path}: {len(without)} of {len(places)} frames have no labels: "
            f"{', '.join(map(str, without[:_LISTED]))}{more}. Run `cypose-dask segment` again to "
            "finish them, choose others, or leave them out with --allow-incomplete."
        )
    return [place for place in places if place.status == Status.DONE]


def frames_without_labels(result: Result, frames: Iterable[int] | None = None) -> list[str]:
    """Say which frames have no labels: one sentence a position, plane and reason."""
    found = []
    planes = result.layout.planes > 1
    for p in range(result.n_positions):
        status, first = result.status(p), result.start_frame
        wanted = set(range(first, first + len(status)) if frames is None else frames)
        for z, kind in np.ndindex(status.shape[1], len(Status)):
            times = [int(t) + first for t in np.flatnonzero(status[:, z] == kind)]
            kept = [t for t in times if t in wanted]
            if kept and kind != Status.DONE:
                where = f"p={p} z={z}" if planes else f"p={p}"
                found.append(f"{where}, t {as_ranges(kept)}: {Status(kind).name.lower()}")
    return found


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError while `path` is written into a ResultError that says what to do."""
    try:
        yield
    except OSError as error:
        raise ResultError(
            f"{path}: could not be written ({error.strerror or error}). Nothing was kept; the zarr "
            "is whole. Make room or choose another place, then export again."
        ) from error
