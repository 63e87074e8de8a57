"""How cells lie: rods that grow, divide and push each other.

A cell is a capsule: a straight axis with half-spheres on its ends, later bent, pinched and
tapered by the rasteriser. `grow_colony` starts from a few founders and lets them grow and divide
until there are enough, so daughters lie end to end and neighbours align as they do in a real
microcolony. Nothing here knows about pixels' values; lengths are pixels, angles radians.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PUSH = 0.4  # share of an overlap that one sweep removes; above 0.5 neighbours oscillate
MAX_SHIFT_PX = 3.0  # a cell moves no further in one sweep, which keeps crowded starts stable
MAX_TURN = 0.15  # radians, likewise
PINCH_FROM = 0.8  # constriction begins at this share of the division length


@dataclass(frozen=True)
class Cells:
    """The cells of one moment; every array has one entry a cell.

    Attributes
    ----------
    y, x : ndarray of float64, shape (N,)
        Centres, pixels.
    angle : ndarray of float64, shape (N,)
        Direction of the long axis, radians from +x towards +y.
    half : ndarray of float64, shape (N,)
        Half of the straight axis, pixels; 0 is a disc.
    radius : ndarray of float64, shape (N,)
        Half of the width of the optically dense body, pixels.
    bend : ndarray of float64, shape (N,)
        Curvature of the axis, 1/pixels.
    pinch : ndarray of float64, shape (N,)
        Depth of the constriction in the middle, 0 to 1, dimensionless.
    taper : ndarray of float64, shape (N,)
        How much narrower one end is than the other, -1 to 1, dimensionless.
    limit : ndarray of float64, shape (N,)
        Half axis at which the cell divides, pixels.
    rate : ndarray of float64, shape (N,)
        Relative growth of the whole length a step, dimensionless.
    tone : ndarray of float64, shape (N,)
        Optical strength of the cell, 1 on average, dimensionless.
    pigment : ndarray of float64, shape (N,)
        Chlorophyll of the cell, 1 on average, dimensionless.
    number, mother : ndarray of float64, shape (N,)
        Which cell it is, from 1, and which one divided into it; 0 where nobody counted.
    """

    y: Floats
    x: Floats
    angle: Floats
    half: Floats
    radius: Floats
    bend: Floats
    pinch: Floats
    taper: Floats
    limit: Floats
    rate: Floats
    tone: Floats
    pigment: Floats
    number: Floats
    mother: Floats

    def __len__(self) -> int:
        return len(self.y)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Cells:
        """Return the cells at `which`, a mask or indices."""
        return Cells(*(getattr(self, f.name)[which] for f in fields(self)))

    def join(self, other: Cells) -> Cells:
        """Return these cells followed by those of `other`."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Cells(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True)
class Habit:
    """What the cells of one frame have in common.

    Attributes
    ----------
    radius : float
        Mean radius of the optically dense body, pixels.
    aspect : float
        Mean length over width of a newborn cell, dimensionless; 1 is a disc.
    gap : float
        Distance that touching bodies keep, pixels.
    spread : float
        Relative scatter of radius, length and growth between cells, dimensionless.
    tone_spread : float
        Relative scatter of the optical strength between cells, dimensionless.
    pigment_spread : float
        Relative scatter of the chlorophyll between cells, dimensionless.
    bend : float
        Scatter of the curvature in units of 1 / (4 radius), dimensionless.
    taper : float
        Largest taper of a cell, dimensionless.
    turn : float
        Scatter of a daughter's angle, radians.
    waist : float
        Depth of the constriction just before division, 0 to 1, dimensionless.
    blunt : float
        Exponent of the poles' outline, dimensionless: 2 is round, more is flatter.
    """

    radius: float
    aspect: float = 2.0
    gap: float = 1.0
    spread: float = 0.08
    tone_spread: float = 0.1
    pigment_spread: float = 0.2
    bend: float = 0.1
    taper: float = 0.0
    turn: float = 0.06
    waist: float = 0.45
    blunt: float = 2.0


def found(y: Floats, x: Floats, *, habit: Habit, rng: np.random.Generator) -> Cells:
    """Make cells of random age and direction at the given centres.

    Parameters
    ----------
    y, x : ndarray of float64, shape (N,)
        Centres, pixels.
    habit : Habit
        What the cells have in common.
    rng : numpy.random.Generator
        Source of every random number.

    Returns
    -------
    Cells
    """
    n = len(y)
    radius = habit.radius * np.exp(rng.normal(0, 0.5 * habit.spread, n))
    newborn = radius * np.maximum(habit.aspect * np.exp(rng.normal(0, habit.spread, n)) - 1, 0)
    limit = 2 * newborn + radius + 0.5 * habit.gap  # two newborns fit into a dividing mother
    age = rng.random(n)
    return Cells(
        y=y.astype(np.float64),
        x=x.astype(np.float64),
        angle=rng.uniform(0, np.pi, n),
        half=newborn + age * (limit - newborn),
        radius=radius,
        bend=rng.normal(0, habit.bend, n) / (4 * radius),
        pinch=np.zeros(n),
        taper=rng.uniform(-habit.taper, habit.taper, n),
        limit=limit,
        rate=0.04 * np.exp(rng.normal(0, 2 * habit.spread, n)),
        tone=np.exp(rng.normal(0, habit.tone_spread, n)),
        pigment=np.exp(rng.normal(0, habit.pigment_spread, n)),
        number=np.zeros(n),
        mother=np.zeros(n),
    )


def elongate(cells: Cells, *, habit: Habit) -> Cells:
    """Let every cell grow for one step, and constrict those that are about to divide."""
    half = cells.half + cells.rate * (cells.half + cells.radius)
    ripe = (half / cells.limit - PINCH_FROM) / (1 - PINCH_FROM)
    return replace(cells, half=half, pinch=habit.waist * np.clip(ripe, 0, 1))


def divide(cells: Cells, *, habit: Habit, rng: np.random.Generator) -> Cells:
    """Replace every cell that reached its length by two daughters, end to end."""
    ready = cells.half >= cells.limit
    mothers = cells.take(ready)
    if not len(mothers):
        return cells
    one, two = (_daughter(mothers, side, habit=habit, rng=rng) for side in (-1.0, 1.0))
    return cells.take(~ready).join(one).join(two)


def _daughter(mother: Cells, side: float, *, habit: Habit, rng: np.random.Generator) -> Cells:
    n = len(mother)
    half = np.maximum((mother.half - mother.radius - 0.5 * habit.gap) / 2, 0)
    reach = side * (mother.half - half)
    fresh = found(mother.y, mother.x, habit=habit, rng=rng)
    return replace(
        fresh,
        y=mother.y + reach * np.sin(mother.angle),
        x=mother.x + reach * np.cos(mother.angle),
        angle=mother.angle + rng.normal(0, habit.turn, n),
        half=half,
        radius=0.7 * mother.radius + 0.3 * fresh.radius,
        limit=np.maximum(fresh.limit, 1.3 * half),
        tone=0.5 * (mother.tone + fresh.tone),
        pigment=0.5 * (mother.pigment + fresh.pigment),
        mother=mother.number,
    )


@njit(cache=True)
def _nearest(  # where two axes come closest: (s, t) along a and b; gap = centre a - centre b
    gap: tuple[float, float], a: Floats, b: Floats, half_a: float, half_b: float
) -> tuple[float, float]:
    across = a[0] * b[0] + a[1] * b[1]
    on_a = a[0] * gap[0] + a[1] * gap[1]
    on_b = b[0] * gap[0] + b[1] * gap[1]
    skew = 1 - across * across
    s = (across * on_b - on_a) / skew if skew > 1e-6 else 0.0
    s = min(half_a, max(-half_a, s))
    t = min(half_b, max(-half_b, across * s + on_b))
    s = min(half_a, max(-half_a, across * t - on_a))
    return s, t


@njit(cache=True)
def _turn(
    lever: float, axis: Floats, push: tuple[float, float], size: tuple[float, float]
) -> float:
    """Rotation that a push at `lever` on the axis gives a rod of (half, radius): by its inertia."""
    half, radius = size
    arm = lever * (axis[1] * push[0] - axis[0] * push[1])
    return arm / ((half + radius) ** 2 / 3 + radius * radius / 4)


@njit(cache=True)
def _part(i: int, j: int, rods: Floats, axis: Floats, gap: float, move: Floats) -> None:
    """Add to `move` (N, 3: y, x, angle) what parts rods i and j, if they overlap."""
    y, x, half, radius = rods[:, 0], rods[:, 1], rods[:, 2], rods[:, 3]
    apart = (y[i] - y[j], x[i] - x[j])
    s, t = _nearest(apart, axis[i], axis[j], half[i], half[j])
    ny = apart[0] + s * axis[i, 0] - t * axis[j, 0]
    nx = apart[1] + s * axis[i, 1] - t * axis[j, 1]
    distance = np.sqrt(ny * ny + nx * nx)
    if distance < 1e-6:  # one upon the other: any direction, but a fixed one, parts them
        ny, nx, distance = axis[i, 1] * 1e-6, -axis[i, 0] * 1e-6, 1e-6
    overlap = radius[i] + radius[j] + gap - distance
    if overlap <= 0:
        return
    share = (half[j] + radius[j]) / (half[i] + radius[i] + half[j] + radius[j])
    for k, lever, amount in ((i, s, share), (j, t, share - 1)):  # the longer one moves less
        push = (PUSH * overlap * amount * ny / distance, PUSH * overlap * amount * nx / distance)
        move[k, 0] += push[0]
        move[k, 1] += push[1]
        move[k, 2] += _turn(lever, axis[k], push, (half[k], radius[k]))


@njit(cache=True)
def _sweep(rods: Floats, angle: Floats, gap: float) -> Floats:
    """Find the moves (N, 3) that part the overlapping of rods (N, 4: y, x, half, radius)."""
    n = len(rods)
    axis = np.stack((np.sin(angle), np.cos(angle)), axis=1)
    move = np.zeros((n, 3))
    for i in range(n):
        for j in range(i):
            far = rods[i, 2] + rods[j, 2] + rods[i, 3] + rods[j, 3] + gap
            if abs(rods[i, 0] - rods[j, 0]) < far and abs(rods[i, 1] - rods[j, 1]) < far:
                _part(i, j, rods, axis, gap, move)
    return move


def relax(cells: Cells, *, gap: float, n_sweeps: int) -> Cells:
    """Push overlapping cells apart.

    Parameters
    ----------
    cells : Cells
        Cells that may overlap.
    gap : float
        Distance that two bodies keep, pixels.
    n_sweeps : int
        How many times each pair is looked at.

    Returns
    -------
    Cells
        The same cells, moved and turned.
    """
    rods = np.stack([cells.y, cells.x, cells.half, cells.radius], axis=1)
    angle = cells.angle.copy()
    for _ in range(n_sweeps):
        move = _sweep(rods, angle, float(gap))
        rods[:, :2] += np.clip(move[:, :2], -MAX_SHIFT_PX, MAX_SHIFT_PX)
        angle += np.clip(move[:, 2], -MAX_TURN, MAX_TURN)
    return replace(cells, y=rods[:, 0], x=rods[:, 1], angle=angle)


def grow_colony(
    founders: Cells,
    *,
    habit: Habit,
    enough: Callable[[Cells], bool],
    rng: np.random.Generator,
    max_steps: int = 400,
) -> Cells:
    """Grow and divide until `enough` says so.

    Parameters
    ----------
    founders : Cells
        Where it begins.
    habit : Habit
        What the cells have in common.
    enough : callable
        Takes the cells, returns True when growth stops.
    rng : numpy.random.Generator
        Source of every random number.
    max_steps : int, optional
        Bound on the number of growth steps.

    Returns
    -------
    Cells
        Relaxed cells, at least as many as there were founders.
    """
    cells = relax(founders, gap=habit.gap, n_sweeps=60)
    for _ in range(max_steps):
        if enough(cells):
            break
        cells = divide(elongate(cells, habit=habit), habit=habit, rng=rng)
        cells = relax(cells, gap=habit.gap, n_sweeps=6)
    return relax(cells, gap=habit.gap, n_sweeps=40)
