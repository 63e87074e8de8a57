"""Where to crop a frame: squares at random, with cells in their middle, that do not overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cypose_dask.learn.frames.features import window_shares

__all__ = ["Scene", "Window", "crop_windows"]

# First row, first column and side of a square, pixels.
Window = tuple[int, int, int]

# The middle of a crop has at least this share of cells.
_CORE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Scene:
    """Where cells are in a frame.

    Attributes
    ----------
    cells : ndarray of float32, shape (Y', X')
        From `cell_maps`: 0 to 1 at each binned pixel.
    bin_px : int
        Pixels of the frame along one side of a binned one.
    shape : tuple of int
        Y and X of the frame, pixels.
    """

    cells: NDArray[np.float32]
    bin_px: int
    shape: tuple[int, int]


def crop_windows(
    scene: Scene,
    side_px: int,
    rng: np.random.Generator,
    *,
    count: int = 1,
    blocked: Sequence[Window] = (),
) -> Iterator[tuple[Window, float]]:
    """Yield squares that do not overlap, the likelier the more cells they hold.

    Parameters
    ----------
    scene : Scene
    side_px : int
        At most the smaller side of the frame, pixels.
    rng : numpy.random.Generator
    count : int, optional
        How many; fewer where cells or room run out. A frame without cells gives one.
    blocked : sequence of Window, optional
        Squares that must not be overlapped.

    Yields
    ------
    window : Window
    density : float
        Share of the square where there are cells, 0 to 1.
    """
    side = min(max(2, -(-side_px // scene.bin_px)), *scene.cells.shape)
    shares = window_shares(scene.cells, side)
    free = np.ones(shares.shape, bool)
    for window in blocked:
        _block(free, window, (scene.bin_px, side))
    weights = shares * _has_core(scene.cells, side)
    if not (weights * free).any():
        count, weights = min(count, 1), np.ones_like(shares)
    for _ in range(count):
        if not (weights * free).any():
            return
        row, column = _draw(weights * free, rng)
        y, x = (
            min(i * scene.bin_px, n - side_px)
            for i, n in zip((row, column), scene.shape, strict=True)
        )
        yield (y, x, side_px), float(shares[row, column])
        _block(free, (y, x, side_px), (scene.bin_px, side))


def _has_core(cells: NDArray[np.float32], side: int) -> NDArray[np.bool_]:
    """Tell which squares have cells in their middle, and not only the edge of one."""
    core = side // 2
    margin = (side - core) // 2
    inner = window_shares(cells, core)
    rows, columns = (n - side + 1 for n in cells.shape)
    return inner[margin : margin + rows, margin : margin + columns] >= _CORE_SHARE


def _draw(weights: NDArray[np.float32], rng: np.random.Generator) -> tuple[int, int]:
    exact = weights.astype(np.float64).ravel()
    index = rng.choice(exact.size, p=exact / exact.sum())
    row, column = np.unravel_index(index, weights.shape)
    return int(row), int(column)


def _block(free: NDArray[np.bool_], window: Window, binning: tuple[int, int]) -> None:
    y, x, side_px = window
    bin_px, side = binning
    top, left = (max(i // bin_px - side, 0) for i in (y, x))
    bottom, right = (-(-(i + side_px) // bin_px) for i in (y, x))
    free[top:bottom, left:right] = False
