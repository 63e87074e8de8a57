"""Rods, bent rods and filaments of known length and width, drawn as a fine microscope would."""

from __future__ import annotations

import numpy as np

__all__ = ["bent_capsule", "draw_capsule", "wavy_capsule"]

_FINE = 5


def draw_capsule(line: np.ndarray, width: float) -> np.ndarray:
    """A mask of the pixels of which half or more is within width / 2 of a line (N, 2) of points."""
    margin = width / 2 + 3
    low = np.floor(line.min(axis=0) - margin)
    shape = np.ceil(line.max(axis=0) + margin - low).astype(int)
    covered = np.zeros(shape * _FINE, bool)
    # Points dense enough that the discs around them make a smooth edge.
    for y, x in (line - low + 0.5) * _FINE:
        reach = width / 2 * _FINE
        top, left = int(y - reach) - 1, int(x - reach) - 1
        size = int(2 * reach) + 4
        ys, xs = np.ogrid[top : top + size, left : left + size]
        disc = (ys + 0.5 - y) ** 2 + (xs + 0.5 - x) ** 2 <= reach**2
        covered[top : top + size, left : left + size] |= disc
    fine = covered.reshape(shape[0], _FINE, shape[1], _FINE)
    return fine.mean(axis=(1, 3)) >= 0.5


def bent_capsule(length: float, width: float, *, bend: float, angle: float, shift=(0.0, 0.0)):
    """A mask of a capsule of constant curvature: `bend` is the turn of its middle line, rad."""
    body = max(length - width, 0.0)
    along = np.linspace(-0.5, 0.5, max(2, int(body * 4)))
    if bend:
        radius = body / bend
        x, y = radius * np.sin(bend * along), radius * (1 - np.cos(bend * along))
    else:
        x, y = body * along, 0 * along
    turned = np.stack(
        [x * np.sin(angle) + y * np.cos(angle), x * np.cos(angle) - y * np.sin(angle)], 1
    )
    return draw_capsule(turned + shift, width)


def wavy_capsule(length: float, width: float, *, tightest: float, seed: int) -> np.ndarray:
    """A mask of a filament whose radius of curvature wanders, never below `tightest` px."""
    random = np.random.default_rng(seed)
    body, step = length - width, 0.25
    count = int(body / step)
    knots = random.uniform(-1, 1, max(4, int(body / (4 * tightest)) + 3))
    curvature = (
        np.interp(np.linspace(0, len(knots) - 1, count), np.arange(len(knots)), knots) / tightest
    )
    # Turned back where it would curl up, so that it does not cross itself.
    heading = np.cumsum(curvature) * step
    heading = random.uniform(0, np.pi) + 1.2 * np.sin(heading)
    return draw_capsule(
        np.cumsum(step * np.stack([np.sin(heading), np.cos(heading)], 1), axis=0), width
    )
