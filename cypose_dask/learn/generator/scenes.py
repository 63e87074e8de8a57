"""Where cells are: colonies, lawns, scattered cells and filaments, with ghosts among them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from cypose_dask.learn.generator.colony import Cells, Habit, found, grow_colony, relax
from cypose_dask.learn.generator.optics import smooth_noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Kind = Literal["colony", "lawn", "scatter", "chains", "threads", "sparse"]
KINDS: tuple[Kind, ...] = get_args(Kind)
KIND_ODDS = (0.25, 0.13, 0.13, 0.17, 0.08, 0.24)


@dataclass(frozen=True)
class Scene:
    """Cells in a frame.

    Attributes
    ----------
    cells : Cells
        Every capsule that leaves a trace in the image.
    labelled : ndarray of bool, shape (N,)
        False for ghosts.
    shape : tuple of int
        (Y, X), pixels.
    warp : ndarray of float32, shape (2, Y, X)
        Smooth displacement, pixels.
    blunt : float
        Exponent of the poles' outline, dimensionless.
    """

    cells: Cells
    labelled: NDArray[np.bool_]
    shape: tuple[int, int]
    warp: NDArray[np.float32]
    blunt: float


def draw_scene(
    shape: tuple[int, int],
    *,
    rng: np.random.Generator,
    kind: Kind | None = None,
    decoys: bool = False,
) -> Scene:
    """Draw a scene.

    Parameters
    ----------
    shape : tuple of int
        (Y, X), pixels.
    rng : numpy.random.Generator
        Source of every random number.
    kind : str, optional
        One of `KINDS`; drawn at random where it is not given.
    decoys : bool, optional
        Whether lysed cells may look as solid as living ones, so that only their lack of
        chlorophyll tells them.

    Returns
    -------
    Scene
    """
    drawn = kind or KINDS[rng.choice(len(KINDS), p=KIND_ODDS)]
    makers: dict[Kind, Callable[..., Cells]] = {
        "colony": _colony,
        "lawn": _lawn,
        "scatter": _scatter,
        "chains": _chains,
        "threads": _threads,
        "sparse": _sparse,
    }
    habit = draw_habit(rng=rng)
    cells = _stretched(makers[drawn](shape, habit, rng), habit, rng)
    ghosts = _ghosts(cells, shape, habit=habit, rng=rng)
    if decoys:
        ghosts = replace(ghosts, tone=rng.uniform(0.04, 1.1, len(ghosts)))
    labelled = np.arange(len(cells) + len(ghosts)) < len(cells)
    warp = _warp(shape, habit, bent=drawn == "threads", rng=rng)
    return Scene(cells.join(ghosts), labelled, shape, warp, habit.blunt)


def draw_habit(*, rng: np.random.Generator) -> Habit:
    """Draw what the cells of a frame have in common: size, shape, spacing, variety."""
    radius = 0.5 * np.exp(rng.uniform(np.log(5.5), np.log(15)))
    curved = rng.random() < 0.2
    return Habit(
        radius=radius,
        aspect=np.exp(rng.uniform(np.log(1.05), np.log(3.2))),
        gap=radius * rng.uniform(0.08, 0.5),
        spread=rng.uniform(0.03, 0.16),
        tone_spread=rng.uniform(0.02, 0.3),
        bend=rng.uniform(0.3, 0.7) if curved else rng.uniform(0, 0.2),
        taper=rng.uniform(0, 0.25),
        turn=rng.uniform(0.02, 0.2),
        waist=rng.uniform(0.1, 0.5),
        blunt=rng.uniform(2, 3.5),
    )


def _stretched(cells: Cells, habit: Habit, rng: np.random.Generator) -> Cells:
    """Bring poles nearer than flanks in half of the frames: fresh sisters hardly part."""
    if rng.random() < 0.5:
        return cells
    stretch = rng.uniform(0, 0.6) * habit.gap * rng.random(len(cells))
    return replace(cells, half=cells.half + stretch)


def _area(cells: Cells, gap: float) -> float:
    width = 2 * cells.radius + gap
    return float((width * (2 * cells.half + 0.8 * width)).sum())


def _inside(cells: Cells, shape: tuple[int, int], margin: float) -> NDArray[np.bool_]:
    rows = (cells.y > -margin) & (cells.y < shape[0] + margin)
    return rows & (cells.x > -margin) & (cells.x < shape[1] + margin)


def _somewhere(
    shape: tuple[int, int], n: int, *, margin: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y = rng.uniform(-margin, shape[0] + margin, n)
    return y, rng.uniform(-margin, shape[1] + margin, n)


def _grown(
    shape: tuple[int, int],
    habit: Habit,
    rng: np.random.Generator,
    *,
    n_founders: int,
    cover: float,
    margin: float,
) -> Cells:
    """Grow founders until cells fill `cover` of the frame with its margin."""
    y, x = _somewhere(shape, n_founders, margin=margin - 4 * habit.radius, rng=rng)
    goal = cover * (shape[0] + 2 * margin) * (shape[1] + 2 * margin)
    founders = found(y, x, habit=habit, rng=rng)
    return grow_colony(
        founders, habit=habit, enough=lambda cells: _area(cells, habit.gap) > goal, rng=rng
    )


def _colony(shape: tuple[int, int], habit: Habit, rng: np.random.Generator) -> Cells:
    n = int(rng.integers(1, 6))
    cover = rng.uniform(0.15, 0.75)
    return _grown(shape, habit, rng, n_founders=n, cover=cover, margin=0)


def _lawn(shape: tuple[int, int], habit: Habit, rng: np.random.Generator) -> Cells:
    n = int(rng.integers(12, 50))
    cover = rng.uniform(0.7, 1.0)
    margin = 4 * habit.radius
    return _grown(shape, habit, rng, n_founders=n, cover=cover, margin=margin)


def _scatter(shape: tuple[int, int], habit: Habit, rng: np.random.Generator) -> Cells:
    cover = rng.uniform(0.05, 0.4)
    share = rng.uniform(0.3, 1)
    cell = 4 * habit.radius**2 * (1.5 * habit.aspect + 0.5)
    n = 4 + int(share * cover * shape[0] * shape[1] / cell)
    return _grown(shape, habit, rng, n_founders=n, cover=cover, margin=0)


def _sparse(shape: tuple[int, int], habit: Habit, rng: np.random.Generator) -> Cells:
    """Place a few cells in a wide empty frame, where normalisation brings out the noise.

    The first frames of most movies look like this, so such frames are common.
    """
    n = int(rng.integers(1, 4))
    return _grown(shape, habit, rng, n_founders=n, cover=rng.uniform(0.003, 0.05), margin=0)


def _threads(shape: tuple[int, int], habit: Habit, rng: np.random.Generator) -> Cells:
    """Long undivided cells, side by side."""
    habit = replace(habit, aspect=rng.uniform(4, 18), bend=0.05, radius=min(habit.radius, 5.5))
    n = int(rng.integers(6, 28))
    y, x = _somewhere(shape, n, margin=0, rng=rng)
    cells = found(y, x, habit=habit, rng=rng)
    lean = rng.uniform(0, np.pi)
    cells = replace(cells, angle=lean + rng.normal(0, rng.uniform(0.1, 0.6), n))
    return relax(cells, gap=habit.gap, n_sweeps=150)


def _chains(shape: tuple[int, int], habit: Habit, rng: np.random.Generator) -> Cells:
    """Filaments: chains of ovoid cells along smooth curves, the odd one larger."""
    habit = replace(habit, bend=0.0, taper=0.0, aspect=rng.uniform(1.0, 1.9))
    chains: list[Cells] = []
    for _ in range(int(rng.integers(2, 9))):
        chain = _chain(shape, habit, rng)
        clear = all(_apart(chain, other, habit) for other in chains)
        if clear or not chains:
            chains.append(chain)
    cells = chains[0]
    for chain in chains[1:]:
        cells = cells.join(chain)
    return cells.take(_inside(cells, shape, 6 * habit.radius))


def _chain(shape: tuple[int, int], habit: Habit, rng: np.random.Generator) -> Cells:
    n = int(rng.integers(5, 45))
    cells = found(np.zeros(n), np.zeros(n), habit=habit, rng=rng)
    radius, half = cells.radius.copy(), 0.5 * cells.half
    giants = rng.random(n) < 0.05  # heterocysts: larger, rounder, and with little chlorophyll
    radius[giants] *= rng.uniform(1.15, 1.4)
    half[giants] *= 0.5
    pigment = np.where(giants, rng.uniform(0.1, 0.6, n), cells.pigment)
    overlap = rng.uniform(-0.2, 0.08) * habit.radius  # neighbours touch, or share a septum
    length = half + radius - overlap / 2
    along = np.cumsum(2 * length) - length
    sway = np.cumsum(rng.normal(0, rng.uniform(0.02, 0.16), n)) + rng.uniform(0, 2 * np.pi)
    start = _somewhere(shape, 1, margin=0, rng=rng)
    step = np.diff(along, prepend=0)
    y = start[0] + np.cumsum(step * np.sin(sway))
    x = start[1] + np.cumsum(step * np.cos(sway))
    placed = replace(cells, y=y, x=x, angle=sway, radius=radius, half=half, pigment=pigment)
    return replace(placed, pinch=_pinch(n, rng))


def _pinch(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """About a sixth of the cells are about to divide."""
    return np.where(rng.random(n) < 0.15, rng.uniform(0.05, 0.35, n), 0.0)


def _apart(one: Cells, two: Cells, habit: Habit) -> bool:
    distance = np.hypot(one.y[:, None] - two.y, one.x[:, None] - two.x)
    return bool((distance > 2.6 * habit.radius).mean() > 0.99)


def _ghosts(
    cells: Cells, shape: tuple[int, int], *, habit: Habit, rng: np.random.Generator
) -> Cells:
    """Pale remains of lysed cells that touch no living one; they are not labelled."""
    n = int(rng.integers(1, 8)) if rng.random() < 0.35 else 0
    y, x = _somewhere(shape, n, margin=0, rng=rng)
    ghosts = found(y, x, habit=habit, rng=rng)
    ghosts = replace(ghosts, tone=rng.uniform(0.04, 0.2, n), pigment=rng.uniform(0, 0.08, n))
    reach = ghosts.half + 3 * habit.radius
    distance = np.hypot(y[:, None] - cells.y, x[:, None] - cells.x)
    return ghosts.take((distance > reach[:, None] + cells.half).all(axis=1))


def _warp(
    shape: tuple[int, int], habit: Habit, *, bent: bool, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw a smooth displacement (2, Y, X) that bends cells; none in a third of the frames."""
    if rng.random() < 1 / 3:
        return np.zeros((2, *shape), np.float32)
    scale = rng.uniform(4, 9) * habit.radius
    height = rng.uniform(0.02, 0.1) * scale
    if bent:  # long cells follow each other around wide curves
        scale *= 2
        height = rng.uniform(0.05, 0.25) * scale
    return np.stack([height * smooth_noise(shape, scale, rng=rng) for _ in range(2)])
