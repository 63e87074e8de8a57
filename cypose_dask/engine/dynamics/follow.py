"""Where the flows carry each pixel."""

from __future__ import annotations

import numpy as np
from numba import njit

from cypose_dask.engine.dynamics.threads import in_parts

__all__ = ["follow"]

# Pixels that are followed side by side: a step waits for the one before, but not for those of
# other pixels, and the state of this many stays in the first cache.
_ABREAST = 256
# Steps before a position is first remembered, to be recognised in a cycle.
_FIRST_MARK = 8


def follow(moves: np.ndarray, pixels: np.ndarray, steps: int, threads: int = 1) -> np.ndarray:
    """Return where pixels end after a number of steps along the flow.

    Parameters
    ----------
    moves : (Y, X, 2) ndarray of float32
        (dy, dx) of one step, px; C-contiguous.
    pixels : (n,) ndarray of int64
        Start positions ``y * X + x``.
    steps : int
    threads : int
        Cores to use.

    Returns
    -------
    (n,) ndarray of int64
        End positions ``y * X + x``, rounded down.

    Notes
    -----
    A pixel that stands still stays, and one that comes back repeats its way: the ends are those of
    all the steps, bit for bit.
    Source: cellpose 3.1.1.3 `dynamics.steps_interp` and `dynamics.map_coordinates`.
    """
    ends = np.empty(pixels.size, np.int64)

    def part(start: int, stop: int) -> None:
        _follow(moves, pixels[start:stop], steps, ends[start:stop])

    in_parts(part, np.ones(pixels.size), threads)
    return ends


@njit(nogil=True, cache=True)
def _step(moves: np.ndarray, y: np.float32, x: np.float32) -> tuple[np.float32, np.float32]:
    """Move one position by the bilinear flow, with Cellpose's order and Cellpose's types.

    `gy` and `gx` are float64, `fy` and `fx` float32: so are `c[0] * fy` and `d[0] * fy * fx`.
    """
    bottom, right = moves.shape[0] - 1, moves.shape[1] - 1
    top, left = int(y), int(x)
    below, beside = min(bottom, top + 1), min(right, left + 1)
    fy, fx = np.float32(y - top), np.float32(x - left)
    a, b = moves[top, left], moves[top, beside]
    c, d = moves[below, left], moves[below, beside]
    gy, gx = 1.0 - fy, 1.0 - fx
    dy = np.float32(a[0] * gy * gx + b[0] * gy * fx + c[0] * fy * gx + d[0] * fy * fx)
    dx = np.float32(a[1] * gy * gx + b[1] * gy * fx + c[1] * fy * gx + d[1] * fy * fx)
    zero = np.float32(0)
    return min(np.float32(bottom), max(zero, y + dy)), min(np.float32(right), max(zero, x + dx))


@njit(nogil=True, cache=True)
def _follow(moves: np.ndarray, pixels: np.ndarray, steps: int, ends: np.ndarray) -> None:
    for first in range(0, pixels.size, _ABREAST):
        last = first + _ABREAST
        _follow_abreast(moves, pixels[first:last], steps, ends[first:last])


@njit(nogil=True, cache=True)
def _follow_abreast(moves: np.ndarray, pixels: np.ndarray, steps: int, ends: np.ndarray) -> None:
    now = _positions(pixels, moves.shape[1])
    ahead, mark = np.empty_like(now), np.full_like(now, -1)
    item = np.arange(pixels.size)
    active, done, marked = pixels.size, 0, 0
    while active > 0 and done < steps:
        for i in range(active):
            ahead[0, i], ahead[1, i] = _step(moves, now[0, i], now[1, i])
        done += 1
        period, left = done - marked, steps - done
        active = _settle(moves, (now, ahead, mark), (item, ends), (active, left % period))
        if done == max(2 * marked, _FIRST_MARK):
            marked = done
            for i in range(active):
                mark[0, i], mark[1, i] = now[0, i], now[1, i]
    for i in range(active):
        ends[item[i]] = _pixel(now[0, i], now[1, i], moves.shape[1])


@njit(nogil=True, cache=True)
def _settle(
    moves: np.ndarray,
    positions: tuple[np.ndarray, np.ndarray, np.ndarray],
    written: tuple[np.ndarray, np.ndarray],
    counts: tuple[int, int],
) -> int:
    """Take the step, note the ends of pixels that stand still or run in circles, close up."""
    now, ahead, mark = positions
    item, ends = written
    active, rest_of_cycle = counts
    going = 0
    for i in range(active):
        y, x = ahead[0, i], ahead[1, i]
        if y == now[0, i] and x == now[1, i]:
            ends[item[i]] = _pixel(y, x, moves.shape[1])
        elif y == mark[0, i] and x == mark[1, i]:
            y, x = _further(moves, y, x, rest_of_cycle)
            ends[item[i]] = _pixel(y, x, moves.shape[1])
        else:
            now[0, going], now[1, going] = y, x
            mark[0, going], mark[1, going] = mark[0, i], mark[1, i]
            item[going] = item[i]
            going += 1
    return going


@njit(nogil=True, cache=True)
def _positions(pixels: np.ndarray, width: int) -> np.ndarray:
    positions = np.empty((2, pixels.size), np.float32)
    for i in range(pixels.size):
        positions[0, i], positions[1, i] = pixels[i] // width, pixels[i] % width
    return positions


@njit(nogil=True, cache=True)
def _pixel(y: np.float32, x: np.float32, width: int) -> int:
    return int(y) * width + int(x)


@njit(nogil=True, cache=True)
def _further(
    moves: np.ndarray, y: np.float32, x: np.float32, steps: int
) -> tuple[np.float32, np.float32]:
    for _ in range(steps):
        y, x = _step(moves, y, x)
    return y, x
