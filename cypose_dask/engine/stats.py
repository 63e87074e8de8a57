"""What is known about one segmented frame, and the clock of its stages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

__all__ = ["FrameStats", "Timer", "blank_stats", "frame_stats"]

# A frame counts as saturated when this share of its pixels stands at the largest value.
_SATURATED_SHARE = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameStats:
    """What is known about one segmented frame.

    Attributes
    ----------
    cells : int
    covered_area : float
        Share of the frame's pixels inside cells, 0 to 1.
    mean_cellprob : float or None
        Mean logit inside cells; None without cells.
    flow_error : float or None
        Median over all cells before the flow check, dimensionless; None when it was off.
    focus : float
        Variance of the Laplacian over the variance of the first channel, dimensionless.
    blank, saturated : bool
        One intensity only; more than 1 % of the pixels at the dtype's largest value.
    seconds : dict of str to float
        Time a stage, s.
    """

    cells: int
    covered_area: float
    mean_cellprob: float | None
    flow_error: float | None
    focus: float
    blank: bool
    saturated: bool
    seconds: dict[str, float] = field(default_factory=dict)


class Timer:
    """Seconds of named stages; a stage that comes again adds up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the seconds of a ``with`` block."""
        begun = time.perf_counter()
        yield
        self.add(stage, time.perf_counter() - begun)

    def add(self, stage: str, seconds: float) -> None:
        """Count seconds that were taken elsewhere."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


def blank_stats(channel: np.ndarray) -> FrameStats:
    """Return the facts of a frame of one intensity; `channel` is its first, (Y, X)."""
    return FrameStats(
        cells=0, covered_area=0.0, mean_cellprob=None, flow_error=None, focus=0.0,
        blank=True, saturated=_is_saturated(channel),
    )  # fmt: skip


def frame_stats(
    channel: np.ndarray,
    labels: np.ndarray,
    *,
    cellprob: np.ndarray,
    errors: np.ndarray,
    seconds: dict[str, float],
) -> FrameStats:
    """Measure a segmented frame; (Y, X) arrays, errors (n,), and the seconds of its stages."""
    cells = labels > 0
    return FrameStats(
        cells=int(labels.max()),
        covered_area=float(cells.mean()),
        mean_cellprob=float(cellprob[cells].mean()) if cells.any() else None,
        flow_error=float(np.median(errors)) if len(errors) else None,
        focus=_focus(channel),
        blank=False,
        saturated=_is_saturated(channel),
        seconds=seconds,
    )


def _focus(channel: np.ndarray) -> float:
    from scipy.ndimage import laplace

    sharp = channel.astype(np.float32)
    return float(laplace(sharp).var() / max(float(sharp.var()), 1e-12))


def _is_saturated(channel: np.ndarray) -> bool:
    if channel.dtype.kind not in "iu":
        return False
    return bool((channel == np.iinfo(channel.dtype).max).mean() > _SATURATED_SHARE)
