"""Sizes, boxes and numbers of labels."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["boxes", "count_pixels", "keep_and_number"]


def count_pixels(labels: np.ndarray) -> np.ndarray:
    """Return the pixels of each number from 0 to the largest, (n + 1,) int64."""
    return _count_pixels(labels, int(labels.max()))


def keep_and_number(labels: np.ndarray, keep: np.ndarray) -> None:
    """Remove labels and number the others from 1 by their first pixels, in place.

    Parameters
    ----------
    labels : (Y, X) ndarray of uint32
    keep : (n + 1,) ndarray of bool
        Whether a number stays; that of 0 does not matter.
    """
    _keep_and_number(labels, keep)


def boxes(labels: np.ndarray) -> np.ndarray:
    """Return the bounding box of each number from 0 to the largest.

    Parameters
    ----------
    labels : (Y, X) ndarray of uint32

    Returns
    -------
    (n + 1, 4) ndarray of int64
        First and last row, first and last column, px; the last row of an absent number, and of 0,
        is -1.
    """
    return _boxes(labels, int(labels.max()))


@njit(nogil=True, cache=True)
def _count_pixels(labels: np.ndarray, largest: int) -> np.ndarray:
    counts = np.zeros(largest + 1, np.int64)
    for label in labels.ravel():
        counts[label] += 1
    return counts


@njit(nogil=True, cache=True)
def _keep_and_number(labels: np.ndarray, keep: np.ndarray) -> None:
    numbers = np.zeros(keep.size, np.uint32)
    given = 0
    flat = labels.ravel()
    for i in range(flat.size):
        label = flat[i]
        if label == 0:
            continue
        if keep[label] and numbers[label] == 0:
            given += 1
            numbers[label] = given
        flat[i] = numbers[label]


@njit(nogil=True, cache=True)
def _boxes(labels: np.ndarray, largest: int) -> np.ndarray:
    found = np.empty((largest + 1, 4), np.int64)
    found[:, 0], found[:, 1], found[:, 2], found[:, 3] = labels.size, -1, labels.size, -1
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            box = found[labels[y, x]]
            if labels[y, x] != 0:
                box[0], box[1] = min(box[0], y), y
                box[2], box[3] = min(box[2], x), max(box[3], x)
    return found
