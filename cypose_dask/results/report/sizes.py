"""Areas of the cells of the frames that are pictured, and which of them are suspicious."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cypose_dask.results.report.flags import Flag
from cypose_dask.results.report.numbers import Place

__all__ = ["SIZE_RULE", "CellSizes", "SizeLimits", "flags_of_sizes", "measure_cells"]

# Makes the standard deviation of a normal distribution out of the median absolute deviation.
# Source: Rousseeuw and Croux, J. Am. Stat. Assoc. 88 (1993), 1273.
_MAD_TO_SD = 1.4826
_SIZE_SDS = 5.0
_LEAST_TIMES = 4.0
_BORDER_SHARE, _BORDER_CELLS = 0.5, 3
SIZE_RULE = (
    f"A size is suspicious when the logarithm of the area is {_SIZE_SDS:g} robust standard "
    f"deviations ({_MAD_TO_SD:g} times the median absolute deviation) from the median of all cells "
    f"in the pictured frames, and the area at least {_LEAST_TIMES:g} times larger or smaller. "
    "Cells that the border of the frame cuts are never too small. A frame is flagged for its "
    f"border when it cuts {_BORDER_SHARE:.0%} of its cells, and at least {_BORDER_CELLS}."
)


@dataclass(frozen=True, slots=True)
class CellSizes:
    """The cells of one frame, in the order of their labels.

    Attributes
    ----------
    areas : (N,) ndarray of int
        px.
    at_border : (N,) ndarray of bool
        Whether a cell touches the border of the frame.
    """

    areas: np.ndarray
    at_border: np.ndarray

    @property
    def median_area(self) -> float:
        """The median area, px; NaN without cells."""
        return float(np.median(self.areas)) if len(self.areas) else math.nan

    @property
    def n_at_border(self) -> int:
        """Number of cells that touch the border."""
        return int(np.count_nonzero(self.at_border))


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """Smallest and largest area that is not suspicious, px."""

    low: float
    high: float

    @classmethod
    def of(cls, sizes: Sequence[CellSizes]) -> SizeLimits:
        """Take the limits from all cells of some frames; see `SIZE_RULE`."""
        areas = np.concatenate([one.areas for one in sizes]) if sizes else np.zeros(0)
        if not len(areas):
            return cls(0.0, math.inf)
        logs = np.log(areas)
        middle = float(np.median(logs))
        spread = _MAD_TO_SD * float(np.median(np.abs(logs - middle)))
        width = max(_SIZE_SDS * spread, math.log(_LEAST_TIMES))
        return cls(math.exp(middle - width), math.exp(middle + width))

    def suspicious(self, sizes: CellSizes) -> tuple[int, int]:
        """Return how many cells of a frame are too small, and too large."""
        small = (sizes.areas < self.low) & ~sizes.at_border
        return int(np.count_nonzero(small)), int(np.count_nonzero(sizes.areas > self.high))


def measure_cells(labels: np.ndarray) -> CellSizes:
    """Measure the cells of one frame of labels, (Y, X); numbers may be left out.

    >>> sizes = measure_cells(np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 0]]))
    >>> sizes.areas.tolist(), sizes.at_border.tolist()
    ([2, 1], [True, False])
    """
    names, areas = np.unique(labels, return_counts=True)
    edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    at_border = np.isin(names, np.unique(np.concatenate(edges)))
    cells = names > 0
    return CellSizes(areas[cells], at_border[cells])


def flags_of_sizes(measured: Mapping[Place, CellSizes]) -> list[Flag]:
    """Return what is odd about frames by the areas of their cells; see `SIZE_RULE`."""
    limits = SizeLimits.of(list(measured.values()))
    return [flag for place, sizes in measured.items() for flag in _flags(place, sizes, limits)]


def _flags(place: Place, sizes: CellSizes, limits: SizeLimits) -> Iterator[Flag]:
    small, large = limits.suspicious(sizes)
    if small or large:
        counts = [f"{n} {word}" for n, word in ((small, "very small"), (large, "very large")) if n]
        yield Flag(place, "sizes", f"{' and '.join(counts)} of {len(sizes.areas)} cells")
    cut = sizes.n_at_border
    if cut >= max(_BORDER_CELLS, _BORDER_SHARE * len(sizes.areas)):
        yield Flag(place, "border", f"the border cuts {cut} of {len(sizes.areas)} cells")
