"""Holes of cells are filled and small cells removed, as Cellpose does it."""

from __future__ import annotations

import numpy as np
from numba import njit

from cypose_dask.engine.dynamics.numbering import boxes, count_pixels, keep_and_number

__all__ = ["fill_holes_and_remove_small"]


def fill_holes_and_remove_small(labels: np.ndarray, min_size_px: int, *, fix: bool = False) -> None:
    """Fill holes and remove small cells, in place.

    Parameters
    ----------
    labels : (Y, X) ndarray of uint32
        May have gaps in its numbers.
    min_size_px : int
        Cells of fewer pixels are removed, before and after the filling; 0 or less keeps all.
    fix : bool
        Remove the cells that are too small, as Cellpose 4.0.8 does; see the notes.

    Notes
    -----
    Cellpose takes the k-th number present for the number k. Where numbers are missing, or no pixel
    is background, a small cell therefore stays and another one goes. Its labels are the contract,
    so this is kept unless `fix` is True.
    Source: cellpose 3.1.1.3 `utils.fill_holes_and_remove_small_masks`; Cellpose 4.0.8 mends it.
    """
    remove = _remove_small if fix else _remove_small_as_cellpose
    if min_size_px > 0:
        remove(labels, min_size_px)
    _fill_holes(labels, boxes(labels))
    if min_size_px > 0:
        remove(labels, min_size_px)


def _remove_small(labels: np.ndarray, min_size_px: int) -> None:
    keep_and_number(labels, count_pixels(labels) >= min_size_px)


def _remove_small_as_cellpose(labels: np.ndarray, min_size_px: int) -> None:
    counts = count_pixels(labels)
    present = counts[counts > 0][1:]
    keep = np.ones(counts.size, np.bool_)
    keep[1 + np.flatnonzero(present < min_size_px)] = False
    keep_and_number(labels, keep)


@njit(nogil=True, cache=True)
def _fill_holes(labels: np.ndarray, found: np.ndarray) -> None:
    """Give each cell and its holes its place among those present; a cell in a hole is lost."""
    number = 0
    for label in range(1, found.shape[0]):
        if found[label, 1] < 0:
            continue
        number += 1
        top, bottom, left, right = found[label]
        patch = labels[top : bottom + 1, left : right + 1]
        outside = _outside(patch, label)
        for y in range(patch.shape[0]):
            for x in range(patch.shape[1]):
                if patch[y, x] == label or not outside[y + 1, x + 1]:
                    patch[y, x] = number


@njit(nogil=True, cache=True)
def _outside(patch: np.ndarray, label: int) -> np.ndarray:
    """Flood what is not the cell from around the patch, by the four sides; holes stay dry."""
    wet = np.zeros((patch.shape[0] + 2, patch.shape[1] + 2), np.bool_)
    stack = np.empty(wet.size, np.int64)
    width = wet.shape[1]
    wet[0, 0], stack[0], waiting = True, 0, 1
    while waiting > 0:
        waiting -= 1
        y, x = stack[waiting] // width, stack[waiting] % width
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= v < wet.shape[0] and 0 <= u < width and not wet[v, u]:
                inside = 0 < v <= patch.shape[0] and 0 < u <= patch.shape[1]
                if not inside or patch[v - 1, u - 1] != label:
                    wet[v, u] = True
                    stack[waiting] = v * width + u
                    waiting += 1
    return wet
