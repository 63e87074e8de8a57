"""What tracks tell: a table of lives with growth rates, and a curve of growth for each lineage."""

from __future__ import annotations

import math

import numpy as np

from cypose_dask.results.linking.cells import LinkedCells

__all__ = ["growth_curves", "track_table"]

# A line through fewer points says nothing of how well it fits them.
_FEWEST_POINTS = 3
_S_PER_H = 3600.0


def track_table(
    cells: LinkedCells, *, pixel_size_um: float | None, interval_s: float | None
) -> dict[str, np.ndarray]:
    """Return a row for each track, from its birth to its division.

    Parameters
    ----------
    cells : LinkedCells
    pixel_size_um, interval_s : float or None
        What is unknown leaves columns in um and in hours empty (NaN).

    Returns
    -------
    dict of str to (N,) ndarray
        `track`; `parent`, 0 for none; `lineage`; `generation`, 0 without parent; `begin` and `end`
        (first and last frame, 0-based as in the movie), `begin_s` and `end_s` (s); `n_frames` in
        which it was seen; `daughters`; `area_begin_px`, `area_end_px`, `area_begin_um2`,
        `area_end_um2`; `growth_rate_per_h` and `doubling_time_h`.

    Notes
    -----
    The growth rate is the slope of the natural logarithm of area against time by least squares,
    from three frames on; the doubling time is ln 2 divided by it, for cells that grow.
    """
    begin, end = cells.spans()
    area_begin, area_end = _areas_at_ends(cells)
    px2 = math.nan if pixel_size_um is None else pixel_size_um**2
    second = math.nan if interval_s is None else interval_s
    rate = _growth_rates(cells) / (second / _S_PER_H)
    return {
        "track": np.arange(1, len(cells.parent) + 1),
        "parent": cells.parent,
        "lineage": cells.lineage,
        "generation": _generations(cells),
        "begin": begin,
        "end": end,
        "begin_s": begin * second,
        "end_s": end * second,
        "n_frames": np.bincount(cells.track - 1, minlength=len(begin)),
        "daughters": np.bincount(cells.parent, minlength=len(begin) + 1)[1:],
        "area_begin_px": area_begin,
        "area_end_px": area_end,
        "area_begin_um2": area_begin * px2,
        "area_end_um2": area_end * px2,
        "growth_rate_per_h": rate,
        "doubling_time_h": np.divide(
            math.log(2), rate, out=np.full(len(rate), math.nan), where=rate > 0
        ),
    }


def growth_curves(
    cells: LinkedCells, *, pixel_size_um: float | None, interval_s: float | None
) -> dict[str, np.ndarray]:
    """Return how many cells each lineage has in each frame, and what they cover.

    Parameters
    ----------
    cells : LinkedCells
    pixel_size_um, interval_s : float or None
        As in `track_table`.

    Returns
    -------
    dict of str to (R,) ndarray
        `lineage`, `t` (0-based as in the movie), `time_s`, `cells`, `area_px`, `area_um2`; a row
        for each frame in which a lineage has cells, by lineage and time.
    """
    lineage = cells.lineage[cells.track - 1]
    places, which = np.unique(np.stack([lineage, cells.t]), axis=1, return_inverse=True)
    area = np.bincount(which.ravel(), weights=cells.area, minlength=places.shape[1])
    return {
        "lineage": places[0],
        "t": places[1],
        "time_s": places[1] * (math.nan if interval_s is None else interval_s),
        "cells": np.bincount(which.ravel(), minlength=places.shape[1]),
        "area_px": area.astype(np.int64),
        "area_um2": area * (math.nan if pixel_size_um is None else pixel_size_um**2),
    }


def _areas_at_ends(cells: LinkedCells) -> tuple[np.ndarray, np.ndarray]:
    """Return the area of each track in its first and in its last frame, px."""
    begin, end = np.zeros((2, len(cells.parent)), np.int64)
    # Cells are in the order of time: the first of a track is written last, and so stays.
    begin[cells.track[::-1] - 1] = cells.area[::-1]
    end[cells.track - 1] = cells.area
    return begin, end


def _generations(cells: LinkedCells) -> np.ndarray:
    generation = np.zeros(len(cells.parent), np.int64)
    for k in np.flatnonzero(cells.parent).tolist():  # parents have lower numbers
        generation[k] = generation[cells.parent[k] - 1] + 1
    return generation


def _growth_rates(cells: LinkedCells) -> np.ndarray:
    """Return the slope of log area of each track, per frame; NaN where points are too few."""
    tracks = len(cells.parent)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.bincount(cells.track - 1, weights=values, minlength=tracks) / points)

    points = np.maximum(np.bincount(cells.track - 1, minlength=tracks), 1)
    x, y = cells.t.astype(float), np.log(cells.area)
    x, y = x - mean(x)[cells.track - 1], y - mean(y)[cells.track - 1]
    slope = np.full(tracks, math.nan)
    enough = points >= _FEWEST_POINTS
    slope[enough] = mean(x * y)[enough] / mean(x * x)[enough]
    return slope
