"""What is known of every frame of a result, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cypose_dask.results.store import Status

__all__ = ["FrameNumbers", "Place"]

# T of the result, P and Z of a frame.
Place = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameNumbers:
    """What is known of every frame; arrays are (P, T, Z), and T counts frames of the result.

    Attributes
    ----------
    status : ndarray of uint8
        A `Status`.
    cells : ndarray of uint32
    covered_area : ndarray of float32
        Share of the pixels inside cells, 0 to 1; this and what follows is NaN where unknown.
    mean_cellprob : ndarray of float32
        Logit, over the pixels inside cells.
    flow_error, focus : ndarray of float32
        Dimensionless, as of `cypose_dask.engine.FrameStats`.
    blank, saturated, non_finite : ndarray of bool
    reasons : dict
        Why frames have no labels, by T, P and Z.
    """

    status: np.ndarray
    cells: np.ndarray
    covered_area: np.ndarray
    mean_cellprob: np.ndarray
    flow_error: np.ndarray
    focus: np.ndarray
    blank: np.ndarray
    saturated: np.ndarray
    non_finite: np.ndarray
    reasons: dict[Place, str] = field(default_factory=dict)

    @property
    def done(self) -> np.ndarray:
        """Which frames have labels, (P, T, Z) of bool."""
        return self.status == Status.DONE

    def count(self, status: Status) -> int:
        """Return how many frames have a status."""
        return int(np.count_nonzero(self.status == status))

    def over_time(self, name: str) -> np.ndarray:
        """Return a measure by position and time, (P, T) of float64, NaN where unknown.

        Cells are added up over the planes and known when all of them are; what else there is, is
        the mean of the planes where it is known.
        """
        values = np.where(self.done, getattr(self, name), np.nan).astype(np.float64)
        return values.sum(axis=2) if name == "cells" else _mean_of_known(values)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Return the mean along the last axis over what is known; NaN where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(axis=2)
    sums = np.where(known, values, 0.0).sum(axis=2)
    return np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
