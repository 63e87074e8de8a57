"""From the network's flows to labels, on a CPU."""

from __future__ import annotations

import numpy as np

from cypose_dask.engine.dynamics.flow_check import clear_cells, flow_errors
from cypose_dask.engine.dynamics.follow import follow
from cypose_dask.engine.dynamics.holes import fill_holes_and_remove_small
from cypose_dask.engine.dynamics.seeds import gather
from cypose_dask.settings import Settings

__all__ = ["labels_from_flows"]

# The network's flows are this many times the unit flow.
# Source: cellpose 3.1.1.3 `dynamics.compute_masks`.
_FLOW_SCALE = 5.0
# `CellposeModel.eval`'s default: a cell that covers more of the frame is removed.
MAX_SIZE_FRACTION = 0.4


def labels_from_flows(
    flows: np.ndarray, cellprob: np.ndarray, settings: Settings, *, threads: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Follow the flows, gather the pixels that meet, and drop cells that disagree with them.

    Parameters
    ----------
    flows : (2, Y, X) ndarray of float32
        (dy, dx), dimensionless, 5 x the unit flow; finite.
    cellprob : (Y, X) ndarray of float32
        Logit, dimensionless.
    settings : Settings
        Resolved: `niter` is a number.
    threads : int
        Cores that this frame may use. The kernels release the interpreter lock, so frames can
        also be done side by side in threads of the caller.

    Returns
    -------
    labels : (Y, X) ndarray of uint32
    flow_errors : (n,) ndarray of float64
        Of all cells before the check, dimensionless. Empty when the check is off.

    Notes
    -----
    Labels and errors are those of `engine.reference.follow_and_label` on a CPU, bit for bit,
    whatever the number of threads.
    Source: cellpose 3.1.1.3 `dynamics.compute_masks`.
    """
    cells = cellprob > settings.cellprob_threshold
    if not cells.any():
        return np.zeros(cells.shape, np.uint32), np.zeros(0)
    moves = np.ascontiguousarray((flows * cells / _FLOW_SCALE).transpose(1, 2, 0))
    pixels = np.flatnonzero(cells)
    ends = follow(moves, pixels, int(settings.niter or 0), threads)
    labels = gather(pixels, ends, cells.shape, max_size_fraction=MAX_SIZE_FRACTION)
    errors = np.zeros(0)
    if settings.flow_threshold > 0:
        errors = flow_errors(labels, moves, threads)
        clear_cells(labels, errors > settings.flow_threshold)
    fill_holes_and_remove_small(labels, settings.min_size_px, fix=settings.fix_small_masks)
    return labels, errors
