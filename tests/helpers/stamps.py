"""Movies whose pixels say where they are, so that a mistaken axis is caught by its value."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["FULL", "stamped", "stored_as"]

FULL = "TPZCYX"


def stamped(dtype: npt.DTypeLike = np.uint16, **sizes: int) -> npt.NDArray[np.generic]:
    """Return a movie (T, P, Z, C, Y, X); each pixel encodes its own t, p, z, c, y and x.

    An axis that is not given has size 1; Y and X are 5 and 7. Distinct up to 3 x 3 x 3 x 3.
    """
    shape = [sizes.get(axis, {"Y": 5, "X": 7}.get(axis, 1)) for axis in FULL]
    grid = np.indices(shape, sparse=True)
    code = sum(index * weight for index, weight in zip(grid, (27, 9, 3, 1, 0, 0), strict=True))
    return (code * 64 + grid[4] * 8 + grid[5]).astype(dtype)


def stored_as(movie: npt.NDArray[np.generic], axes: str) -> npt.NDArray[np.generic]:
    """Return the movie with its axes in this order; axes that are left out must be singleton."""
    left_out = tuple(i for i, axis in enumerate(FULL) if axis not in axes)
    kept = [axis for axis in FULL if axis in axes]
    squeezed = movie.squeeze(left_out)
    return np.ascontiguousarray(squeezed.transpose([kept.index(axis) for axis in axes]))
