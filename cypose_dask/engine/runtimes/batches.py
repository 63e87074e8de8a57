"""Few tiles at a time: each takes 60 MB of memory on its way through the network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["in_batches"]

_STYLES = 256


def in_batches(
    run: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], tiles: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Run tiles (N, C, H, W) through a network, `size` at a time.

    Parameters
    ----------
    run : callable
        Returns the output (n, 3, H, W) and the styles (n, 256) of n tiles; both are copied.
    tiles : (N, C, H, W) ndarray of float32
    size : int
        Larger batches are no faster on a processor, if every core has a tile.
    """
    output = np.empty((len(tiles), 3, *tiles.shape[2:]), np.float32)
    styles = np.empty((len(tiles), _STYLES), np.float32)
    for start in range(0, len(tiles), size):
        some = slice(start, start + size)
        output[some], styles[some] = run(tiles[some])
    return output, styles
