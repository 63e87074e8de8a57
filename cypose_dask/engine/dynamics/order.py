"""The order in which torch sorts equal numbers, which decides between seeds of equal counts."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["torch_argsort"]

# `std::sort` leaves ranges of up to 16 elements to one insertion sort at the end.
_SHORT = 16
# `torch` sorts integers by a stable radix sort from this length on (`at::internal::GRAIN_SIZE`).
_RADIX = 32768


def torch_argsort(keys: np.ndarray) -> np.ndarray:
    """Return the ascending order of integers as `torch.Tensor.argsort` does on a CPU.

    Parameters
    ----------
    keys : (n,) ndarray of int32

    Returns
    -------
    (n,) ndarray of int64

    Notes
    -----
    The sort is not stable: equal keys come in the order in which GNU's `std::sort` leaves them.
    Source: torch 2.13 `aten/src/ATen/native/cpu/SortingKernel.cpp` on x86-64 Linux, equal for all
    its CPU capabilities; libstdc++ `std::sort` (median of three, then insertion).
    """
    if keys.size >= _RADIX:
        return np.argsort(keys, kind="stable")
    return _introsort(keys)


@njit(nogil=True, cache=True)
def _introsort(keys: np.ndarray) -> np.ndarray:
    order = np.arange(keys.size)
    stack = [(0, keys.size, 2 * int(np.log2(max(keys.size, 1))))]
    while len(stack) > 0:
        first, last, depth = stack.pop()
        while last - first > _SHORT:
            if depth == 0:
                _heapsort(keys, order[first:last])
                break
            depth -= 1
            cut = _partition(keys, order, first, last)
            stack.append((cut, last, depth))
            last = cut
    _insertion_sort(keys, order)
    return order


@njit(nogil=True, cache=True)
def _partition(keys: np.ndarray, order: np.ndarray, first: int, last: int) -> int:
    _median_to_front(keys, order, first, last)
    pivot = keys[order[first]]
    low, high = first + 1, last
    while True:
        while keys[order[low]] < pivot:
            low += 1
        high -= 1
        while pivot < keys[order[high]]:
            high -= 1
        if low >= high:
            return low
        order[low], order[high] = order[high], order[low]
        low += 1


@njit(nogil=True, cache=True)
def _median_to_front(keys: np.ndarray, order: np.ndarray, first: int, last: int) -> None:
    low, middle, high = first + 1, first + (last - first) // 2, last - 1
    a, b, c = keys[order[low]], keys[order[middle]], keys[order[high]]
    if a < b:
        chosen = middle if b < c else (high if a < c else low)
    else:
        chosen = low if a < c else (high if b < c else middle)
    order[first], order[chosen] = order[chosen], order[first]


@njit(nogil=True, cache=True)
def _insertion_sort(keys: np.ndarray, order: np.ndarray) -> None:
    for i in range(1, order.size):
        moved, hole = order[i], i
        while hole > 0 and keys[moved] < keys[order[hole - 1]]:
            order[hole] = order[hole - 1]
            hole -= 1
        order[hole] = moved


@njit(nogil=True, cache=True)
def _heapsort(keys: np.ndarray, order: np.ndarray) -> None:
    """`std::partial_sort` of a whole range, where the partitions went too deep."""
    for root in range((order.size - 2) // 2, -1, -1):
        _sift(keys, order, root, order.size)
    for last in range(order.size - 1, 0, -1):
        order[0], order[last] = order[last], order[0]
        _sift(keys, order, 0, last)


@njit(nogil=True, cache=True)
def _sift(keys: np.ndarray, order: np.ndarray, root: int, size: int) -> None:
    """Carry the hole at `root` down to a leaf along the larger children, then the value up."""
    value, hole, child = order[root], root, 2 * root + 2
    while child < size:
        if keys[order[child]] < keys[order[child - 1]]:
            child -= 1
        order[hole] = order[child]
        hole, child = child, 2 * child + 2
    if child == size:
        order[hole] = order[child - 1]
        hole = child - 1
    while hole > root and keys[order[(hole - 1) // 2]] < keys[value]:
        order[hole] = order[(hole - 1) // 2]
        hole = (hole - 1) // 2
    order[hole] = value
