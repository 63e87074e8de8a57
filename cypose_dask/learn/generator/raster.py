"""From capsules to pixels: one pass that yields the geometry of a frame, then its labels.

The rasteriser keeps, for every pixel, the nearest cell and where the pixel lies in it. Labels and
every optical model are functions of these maps, so they cannot disagree about where a cell is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from skimage.measure import label as connected

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cypose_dask.learn.generator.colony import Cells

    Floats = NDArray[np.floating[Any]]
    Owners = NDArray[np.int32]

REACH_PX = 4.0  # maps are filled this far outside a body: more than labels and edges need
MIN_LABEL_PX = 24  # smaller remains of cells at the border are not labelled


@dataclass(frozen=True)
class Geometry:
    """Where every pixel lies in its nearest cell; every map is (Y, X).

    Attributes
    ----------
    owner : ndarray of int32
        Index of the nearest cell plus 1; 0 where none is within `REACH_PX`.
    depth : ndarray of float32
        Distance to the surface of that cell's body, pixels, positive inside.
    across : ndarray of float32
        Distance to its axis over its radius there, dimensionless: 0 axis, 1 surface.
    along : ndarray of float32
        Position along the axis, -1 to 1 at the poles, dimensionless.
    """

    owner: NDArray[np.int32]
    depth: NDArray[np.float32]
    across: NDArray[np.float32]
    along: NDArray[np.float32]


@njit(cache=True)
def _place(cell: Floats, y: float, x: float, blunt: float) -> tuple[float, float, float]:
    """Where (y, x) lies in a cell: depth (pixels), across and along (dimensionless)."""
    cy, cx, angle, half, radius, bend, pinch, taper = cell
    dy, dx = y - cy, x - cx
    u = dy * np.sin(angle) + dx * np.cos(angle)
    v = dy * np.cos(angle) - dx * np.sin(angle)
    v += 0.5 * bend * (u * u - half * half / 3)
    local = radius * (1 + taper * u / (half + radius))
    local *= 1 - pinch * np.exp(-((u / (0.55 * radius)) ** 2))
    beyond, rho = abs(u) - half, abs(v)
    if beyond > 0:
        rho = (beyond**blunt + rho**blunt) ** (1 / blunt)
    return local - rho, rho / local, u / (half + radius)


@njit(cache=True)
def _fill(cells: Floats, warp: Floats, blunt: float, owner: Owners, maps: Floats) -> None:
    """Write the nearest of cells (N, 8) and the pixel's place in it, maps (3, Y, X)."""
    height, width = owner.shape
    margin = np.abs(warp).max()
    for i in range(len(cells)):
        cy, cx, half, bend = cells[i, 0], cells[i, 1], cells[i, 3], cells[i, 5]
        box = half + cells[i, 4] + REACH_PX + margin + 0.5 * abs(bend) * half * half
        for py in range(max(0, int(cy - box)), min(height, int(cy + box) + 2)):
            for px in range(max(0, int(cx - box)), min(width, int(cx + box) + 2)):
                place = _place(cells[i], py + warp[0, py, px], px + warp[1, py, px], blunt)
                if place[0] > -REACH_PX and place[0] > maps[0, py, px]:
                    owner[py, px] = i + 1
                    maps[0, py, px], maps[1, py, px], maps[2, py, px] = place


def rasterise(
    cells: Cells,
    shape: tuple[int, int],
    *,
    warp: NDArray[np.float32] | None = None,
    blunt: float = 2.0,
) -> Geometry:
    """Find the nearest cell of every pixel.

    Parameters
    ----------
    cells : Cells
        Cells in pixels; they may overlap or lie outside.
    shape : tuple of int
        (Y, X) of the frame.
    warp : ndarray of float32, shape (2, Y, X), optional
        Displacement (dy, dx) added to every pixel's position, pixels. A smooth one bends cells
        without making them overlap.
    blunt : float, optional
        Exponent of the poles' outline, dimensionless: 2 is round, more is flatter.

    Returns
    -------
    Geometry
    """
    if warp is None:
        warp = np.zeros((2, *shape), np.float32)
    names = ("y", "x", "angle", "half", "radius", "bend", "pinch", "taper")
    table = np.stack([getattr(cells, name) for name in names], axis=1)
    owner = np.zeros(shape, np.int32)
    maps = np.empty((3, *shape), np.float32)
    maps[:] = np.reshape([-REACH_PX, 9, 0], (3, 1, 1))
    _fill(table, warp, float(blunt), owner, maps)
    return Geometry(owner, *maps)


def label_cells(geometry: Geometry, rim: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Label the pixels of every cell.

    A label is the body and a rim around it: in phase contrast the dark body is narrower than the
    cell, and reference masks put the edge where the bright halo begins, or half way to the
    neighbour. Each label is one 4-connected piece, the largest.

    Parameters
    ----------
    geometry : Geometry
        From `rasterise`.
    rim : ndarray of float64, shape (N,)
        How far each label reaches beyond its body, pixels; negative: the cell is not labelled.

    Returns
    -------
    ndarray of uint32, shape (Y, X)
        0 is background; labels are 1..n without gaps, in the order of the cells.
    """
    reach = np.concatenate([[-np.inf], np.where(rim < 0, -np.inf, rim)]).astype(np.float32)
    owner = np.where(geometry.depth > -reach[geometry.owner], geometry.owner, 0)
    return renumber(largest_pieces(owner))


def largest_pieces(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Keep the largest 4-connected piece of every label (Y, X), and drop small remains."""
    pieces = connected(labels, background=0, connectivity=1)
    size = np.bincount(pieces.ravel())
    owner = np.zeros(len(size), labels.dtype)
    owner[pieces.ravel()] = labels.ravel()
    size[0] = 0
    best = np.zeros(int(owner.max(initial=0)) + 1, np.intp)
    order = np.argsort(size, kind="stable")
    best[owner[order]] = order  # the last assignment is that of the largest piece
    keep = (best[owner] == np.arange(len(size))) & (size >= MIN_LABEL_PX)
    return np.where(keep[pieces], labels, 0)


def renumber(labels: NDArray[np.integer[Any]]) -> NDArray[np.uint32]:
    """Renumber labels (Y, X) to 1..n without gaps, in their old order."""
    present = np.bincount(labels.ravel()) > 0
    present[0] = False
    return np.where(present, np.cumsum(present), 0).astype(np.uint32)[labels]
