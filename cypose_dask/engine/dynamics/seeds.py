"""Pixels that the flows carry to one place become one cell."""

from __future__ import annotations

import numpy as np
from numba import njit

from cypose_dask.engine.dynamics.numbering import count_pixels, keep_and_number
from cypose_dask.engine.dynamics.order import torch_argsort

__all__ = ["gather"]

# A seed is a pixel where more pixels end, and at least as many as anywhere within two pixels.
_FEWEST_AT_SEED = 10
_SEED_REACH_PX = 2
# A seed grows this often, by its eight neighbours where more than this many pixels end.
_GROWTHS = 5
_FEWEST_AT_GROWTH = 2
# Growth looks one pixel further than it reaches.
_MARGIN_PX = _GROWTHS + 1


def gather(
    pixels: np.ndarray, ends: np.ndarray, shape: tuple[int, ...], *, max_size_fraction: float
) -> np.ndarray:
    """Label pixels by the place where they end.

    Parameters
    ----------
    pixels, ends : (n,) ndarray of int64
        Start and end positions ``y * X + x``.
    shape : (Y, X)
    max_size_fraction : float
        Cells that cover more of the frame are removed.

    Returns
    -------
    (Y, X) ndarray of uint32
        Numbered from 1 without gaps, by their first pixels.

    Notes
    -----
    Where two seeds grow into each other, the one where more pixels end has the pixel, and between
    equals torch's sort decides.
    Source: cellpose 3.1.1.3 `dynamics.get_masks_torch`.
    """
    counts = _count_ends(ends, shape[0], shape[1])
    seeds = _find_seeds(counts, np.empty(ends.size // (_FEWEST_AT_SEED + 1), np.int64))
    order = torch_argsort(counts.ravel()[seeds])
    owners = _grow(counts, seeds[order])
    labels = np.zeros(shape, np.uint32)
    _carry_back(owners, pixels, ends, labels)
    sizes = count_pixels(labels)
    keep_and_number(labels, sizes <= np.prod(shape) * max_size_fraction)
    return labels


@njit(nogil=True, cache=True)
def _count_ends(ends: np.ndarray, height: int, width: int) -> np.ndarray:
    counts = np.zeros((height + 2 * _MARGIN_PX, width + 2 * _MARGIN_PX), np.int32)
    for end in ends:
        counts[end // width + _MARGIN_PX, end % width + _MARGIN_PX] += 1
    return counts


@njit(nogil=True, cache=True)
def _find_seeds(counts: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Fill `room` with the flat positions of seeds, in raster order, and return what is filled."""
    found = 0
    for y in range(_MARGIN_PX, counts.shape[0] - _MARGIN_PX):
        for x in range(_MARGIN_PX, counts.shape[1] - _MARGIN_PX):
            if counts[y, x] > _FEWEST_AT_SEED and _is_highest(counts, y, x):
                room[found] = y * counts.shape[1] + x
                found += 1
    return room[:found]


@njit(nogil=True, cache=True)
def _is_highest(counts: np.ndarray, y: int, x: int) -> bool:
    for v in range(y - _SEED_REACH_PX, y + _SEED_REACH_PX + 1):
        for u in range(x - _SEED_REACH_PX, x + _SEED_REACH_PX + 1):
            if counts[v, u] > counts[y, x]:
                return False
    return True


@njit(nogil=True, cache=True)
def _grow(counts: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return the number of each pixel's seed, from 1; later seeds take pixels of earlier ones."""
    owners = np.zeros(counts.shape, np.uint32)
    flat, width = counts.ravel(), counts.shape[1]
    queue = np.empty((2 * _GROWTHS + 1) ** 2, np.int64)
    for k in range(seeds.size):
        queue[0], start, stop = seeds[k], 0, 1
        owners.ravel()[seeds[k]] = k + 1
        for _ in range(_GROWTHS):
            start, stop = stop, _grow_once(flat, owners.ravel(), queue, (start, stop, width, k + 1))
    return owners


@njit(nogil=True, cache=True)
def _grow_once(
    counts: np.ndarray, owners: np.ndarray, queue: np.ndarray, state: tuple[int, int, int, int]
) -> int:
    """Append the new neighbours of the pixels ``queue[start:stop]`` and return the new end."""
    start, stop, width, number = state
    end = stop
    for i in range(start, stop):
        for line in (-width, 0, width):
            for near in range(queue[i] + line - 1, queue[i] + line + 2):
                if counts[near] > _FEWEST_AT_GROWTH and owners[near] != number:
                    owners[near] = number
                    queue[end] = near
                    end += 1
    return end


@njit(nogil=True, cache=True)
def _carry_back(
    owners: np.ndarray, pixels: np.ndarray, ends: np.ndarray, labels: np.ndarray
) -> None:
    width = labels.shape[1]
    for i in range(pixels.size):
        owner = owners[ends[i] // width + _MARGIN_PX, ends[i] % width + _MARGIN_PX]
        labels[pixels[i] // width, pixels[i] % width] = owner
