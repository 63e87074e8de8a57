"""What is measured of several models on one frame, or on two that follow each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cypose_dask.learn.comparison.shots import Shot
from cypose_dask.learn.scoring.evaluation import average_precision, median_diameter

__all__ = ["Tally", "drift_of", "tally_shot"]

# Agreement and steadiness use the coarse and the middle one; truth is worth all three.
_TRUTH_THRESHOLDS = (0.5, 0.75, 0.9)
_AGREEMENT_THRESHOLDS = (0.5, 0.75)
_STEADINESS_THRESHOLD = (0.5,)
# A stage that seems to have moved further than this share of the frame is not believed.
_FARTHEST_DRIFT = 0.25


@dataclass(slots=True)
class Tally:
    """What was measured of one candidate, shot by shot."""

    ap: list[NDArray[Any]] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    steadiness: list[float] = field(default_factory=list)
    jumps: list[float] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)
    diameters: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def tally_shot(tallies: Sequence[Tally], shot: Shot, labels: Sequence[NDArray[Any]]) -> float:
    """Add one shot; return how much the candidates agree on its first frame."""
    for tally, found in zip(tallies, labels, strict=True):
        tally.cells += [int(frame.max(initial=0)) for frame in found]
        tally.diameters += [median_diameter(frame) for frame in found if frame.any()]
        if shot.truth is not None:
            scores = average_precision([shot.truth], [found[0]], thresholds=_TRUTH_THRESHOLDS)
            tally.ap.append(scores.ap[0])
    if len(shot.frames) > 1:
        _tally_steadiness(tallies, shot, labels)
    return _tally_agreement(tallies, labels)


def _tally_agreement(tallies: Sequence[Tally], labels: Sequence[NDArray[Any]]) -> float:
    found = []
    for i, j in combinations(range(len(labels)), 2):
        ap = average_precision(
            list(labels[i]), list(labels[j]), thresholds=_AGREEMENT_THRESHOLDS
        ).ap.mean(axis=1)
        # Frames on which neither finds a cell say nothing.
        known = [float(value) for value in ap if np.isfinite(value)]
        tallies[i].agreement += known
        tallies[j].agreement += known
        found += known
    return float(np.mean(found)) if found else 1.0


def _tally_steadiness(tallies: Sequence[Tally], shot: Shot, labels: Sequence[NDArray[Any]]) -> None:
    drift = drift_of(*(frame[0] for frame in shot.frames))
    anything = any(found.any() for found in labels)
    for tally, found in zip(tallies, labels, strict=True):
        before, after = _overlap(found[0], found[1], drift)
        ap = float(average_precision([before], [after], thresholds=_STEADINESS_THRESHOLD).ap[0, 0])
        if anything:
            # A candidate that finds nothing where others find cells is not steady.
            tally.steadiness.append(ap if np.isfinite(ap) else 0.0)
        counts = [int(frame.max(initial=0)) for frame in found]
        tally.jumps.append(abs(counts[1] - counts[0]) / max(float(np.mean(counts)), 1.0))


def drift_of(before: NDArray[Any], after: NDArray[Any]) -> tuple[int, int]:
    """Return by how many whole pixels (dy, dx) the stage moved, or (0, 0) if that fits better."""
    from skimage.registration import phase_cross_correlation

    before, after = before.astype(np.float32), after.astype(np.float32)
    shift, _, _ = phase_cross_correlation(before, after, normalization=None)
    moved = int(-shift[0]), int(-shift[1])
    if max(abs(n) / size for n, size in zip(moved, before.shape, strict=True)) > _FARTHEST_DRIFT:
        return 0, 0
    likeness = {at: _likeness(*_overlap(before, after, at)) for at in ((0, 0), moved)}
    return max(likeness, key=lambda at: likeness[at])


def _likeness(one: NDArray[Any], other: NDArray[Any]) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).mean() / max(float(one.std() * other.std()), 1e-9))


def _overlap(
    before: NDArray[Any], after: NDArray[Any], drift: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the parts of two (Y, X) arrays that show the same place."""
    parts: list[list[slice]] = [[], []]
    for moved, size in zip(drift, before.shape, strict=True):
        parts[0].append(slice(max(-moved, 0), size - max(moved, 0)))
        parts[1].append(slice(max(moved, 0), size - max(-moved, 0)))
    return before[tuple(parts[0])], after[tuple(parts[1])]
