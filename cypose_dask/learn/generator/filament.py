"""Filaments: cells in a row that grow and divide in place, so that the whole row lengthens.

The shape of a filament is kept as the angle at each joint between neighbours. It stays with the
cells, so a bend travels outwards as the cells within it multiply. Lengths are px, angles radians.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cypose_dask.learn.generator.colony import Cells, Habit, elongate, found

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

OVERLAP = 0.08  # neighbours share a septum this deep, in radii
STIFFNESS = 0.035  # scatter of a joint's angle, radians
HETEROCYST_ODDS = 0.08  # of a new cell, where none is near
HETEROCYST_SPACING = 8  # cells; a heterocyst keeps its neighbours from becoming one


@dataclass(frozen=True)
class Filament:
    """Cells in a row.

    Attributes
    ----------
    cells : Cells
        In the order of the row; their places are those of `lay`.
    joints : ndarray of float64, shape (N,)
        Angle between each cell and the one before it, radians; the first is not used.
    """

    cells: Cells
    joints: Floats

    def take(self, which: slice) -> Filament:
        """Return a stretch of the filament."""
        return Filament(self.cells.take(np.arange(len(self.cells))[which]), self.joints[which])


def found_filament(
    n: int, *, where: tuple[float, float, float], habit: Habit, rng: np.random.Generator
) -> Filament:
    """Make a filament of `n` cells whose middle is at `where` (y, x, angle)."""
    cells = found(np.full(n, where[0]), np.full(n, where[1]), habit=habit, rng=rng)
    cells = replace(cells, angle=np.full(n, where[2]), bend=np.zeros(n), taper=np.zeros(n))
    return lay(differentiate(Filament(cells, rng.normal(0, STIFFNESS, n)), rng=rng))


def grow(filament: Filament, *, habit: Habit, rng: np.random.Generator) -> Filament:
    """Let every cell grow for one step, and divide those that are ripe."""
    cells = elongate(filament.cells, habit=habit)
    ready = cells.half >= cells.limit
    parts = np.repeat(np.arange(len(cells)), 1 + ready)
    second = np.concatenate([[False], parts[1:] == parts[:-1]])
    fresh = ready[parts]
    new = found(cells.y[parts], cells.x[parts], habit=habit, rng=rng)
    row = cells.take(parts)
    row = replace(
        row,
        half=np.where(fresh, np.maximum((row.half - row.radius) / 2, 0), row.half),
        pinch=np.where(fresh, 0, row.pinch),
        rate=np.where(fresh, new.rate, row.rate),
        limit=np.where(fresh, np.maximum(new.limit, 0.8 * row.limit), row.limit),
        pigment=np.where(fresh, 0.5 * (row.pigment + new.pigment), row.pigment),
        number=np.where(fresh, 0, row.number),
        mother=np.where(fresh, row.number, row.mother),
    )
    joints = np.where(second, rng.normal(0, STIFFNESS, len(row)), filament.joints[parts])
    grown = Filament(row, joints)
    return lay(differentiate(grown, rng=rng) if ready.any() else grown)


def lay(filament: Filament) -> Filament:
    """Place the cells one after the other, from the middle one, which keeps its place."""
    cells = filament.cells
    middle = len(cells) // 2
    angle = np.cumsum(np.concatenate([[0], filament.joints[1:]]))
    angle += cells.angle[middle] - angle[middle]
    reach = cells.half + cells.radius * (1 - OVERLAP)
    y, x = (_chained(reach * part) for part in (np.sin(angle), np.cos(angle)))
    y += cells.y[middle] - y[middle]
    x += cells.x[middle] - x[middle]
    return replace(filament, cells=replace(cells, y=y, x=x, angle=angle))


def _chained(reach: Floats) -> Floats:
    """Centres along one axis, from how far each cell reaches along it."""
    return np.cumsum(reach) + np.concatenate([[0], np.cumsum(reach)[:-1]])


def differentiate(filament: Filament, *, rng: np.random.Generator) -> Filament:
    """Turn the odd cell into a heterocyst: larger, round, with little chlorophyll, never dividing.

    Source: Kumar, Mella-Herrera, Golden, Cold Spring Harb. Perspect. Biol. 2 (2010): one in ten to
    twenty cells, and a heterocyst has no photosystem II.
    """
    cells = filament.cells
    chosen = np.isinf(cells.limit)  # those of before, and cells that died
    for i in np.flatnonzero(rng.random(len(cells)) < HETEROCYST_ODDS):
        near = slice(max(0, i - HETEROCYST_SPACING), i + HETEROCYST_SPACING + 1)
        chosen[i] = chosen[i] or not chosen[near].any()
    fresh = chosen & ~np.isinf(cells.limit)
    return replace(
        filament,
        cells=replace(
            cells,
            radius=np.where(fresh, 1.2 * cells.radius, cells.radius),
            half=np.where(fresh, 0.2 * cells.radius, cells.half),
            pinch=np.where(fresh, 0, cells.pinch),
            limit=np.where(chosen, np.inf, cells.limit),
            rate=np.where(fresh, 1e-4, cells.rate),
            pigment=np.where(fresh, 0.3, cells.pigment),
        ),
    )


def in_sight(filament: Filament, shape: tuple[int, int], *, far_px: float) -> Filament:
    """Cut off the ends that are further than `far_px` outside a frame of `shape` (Y, X)."""
    cells = filament.cells
    rows = (cells.y > -far_px) & (cells.y < shape[0] + far_px)
    seen = np.flatnonzero(rows & (cells.x > -far_px) & (cells.x < shape[1] + far_px))
    return filament.take(slice(seen[0], seen[-1] + 1)) if len(seen) else filament
