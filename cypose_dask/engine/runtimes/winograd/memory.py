"""Memory that is used again: asking for it anew costs a fifth of the network's time."""

from __future__ import annotations

import weakref
from collections import defaultdict

import numpy as np

from cypose_dask.engine.runtimes.winograd.lanes import FLOAT_BYTES

__all__ = ["Memory", "aligned"]

_CACHE_LINE = 64


class Memory:
    """Arrays of float32, taken back when nothing refers to them; for any number of threads."""

    def __init__(self) -> None:
        self._free: defaultdict[int, list[np.ndarray]] = defaultdict(list)

    def take(self, size: int) -> np.ndarray:
        """Return an array (size,) of anything, from the start of a cache line on."""
        try:
            block = self._free[size].pop()
        except IndexError:
            block = _block(size)
        # Views of an array refer to the one that owns its memory. Of `array` it is only said that
        # `block` lends it, so views refer to `array`.
        array = np.frombuffer(block.data, np.float32)
        weakref.finalize(array, self._free[size].append, block)
        return array


def aligned(values: np.ndarray) -> np.ndarray:
    """Return a copy of an array of float32 from the start of a cache line on."""
    copy = _block(values.size)
    copy[:] = values.ravel()
    return copy.reshape(values.shape)


def _block(size: int) -> np.ndarray:
    room = np.empty(size + _CACHE_LINE // FLOAT_BYTES, np.float32)
    skipped = -room.ctypes.data % _CACHE_LINE // FLOAT_BYTES
    return room[skipped : skipped + size]
