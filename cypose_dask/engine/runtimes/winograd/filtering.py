"""Winograd's transforms: 6 x 6 px in, 4 x 4 px out, for filters of 3 x 3.

A filter that slides over six values gives four, and so does a product of polynomials known at six
points: 0, +-A, +-B and infinity. Both steps hold for rows and for columns, hence 36 products.

Source: A. Lavin and S. Gray, CVPR 2016; B. Barabasz et al., Error analysis and improving the
accuracy of Winograd convolution for deep neural networks, ACM TOMS 46, 2020.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cypose_dask.engine.runtimes.winograd.lanes import load, store
from cypose_dask.engine.runtimes.winograd.product import pack

__all__ = ["POINTS", "TILE", "WINDOW", "transform_tile", "transform_weights", "undo_tile"]

# Pixels of a tile that are written, that are read, and what is multiplied for it.
TILE, WINDOW, POINTS = 4, 6, 36

# Of all that float32 holds exactly, these two round least: half as much as the usual 1 and 2.
_A, _B = 5 / 8, 3 / 2
_AA, _BB = _A * _A, _B * _B


def _at_point(point: float, norm: float) -> list[float]:
    return [1 / norm, point / norm, point**2 / norm]


# Rows of what Lavin and Gray call G: the filter's polynomial at a point, over the product of that
# point's distances to the others.
_OF_FILTER = np.array(
    [
        _at_point(0, _AA * _BB),
        _at_point(_A, 2 * _AA * (_AA - _BB)),
        _at_point(-_A, 2 * _AA * (_AA - _BB)),
        _at_point(_B, 2 * _BB * (_BB - _AA)),
        _at_point(-_B, 2 * _BB * (_BB - _AA)),
        [0, 0, 1],
    ]
)


def transform_weights(weight: np.ndarray) -> np.ndarray:
    """Transform the weights of a convolution.

    Parameters
    ----------
    weight : (O, I, 3, 3) ndarray of float32

    Returns
    -------
    ndarray of float32
        36 matrices (I, O), one after the other, each packed for `product.multiply`.
    """
    points = np.einsum("iy,ocyx,jx->ijco", _OF_FILTER, weight, _OF_FILTER, optimize=True)
    return np.concatenate([pack(matrix) for matrix in points.reshape(POINTS, *points.shape[2:])])


# Six vectors of sixteen channels in, six or four out.


@njit(nogil=True)
def _transform(six: Any) -> Any:
    d0, d1, d2, d3, d4, d5 = six
    near, near_odd = d4 - _BB * d2, _A * (d3 - _BB * d1)
    far, far_odd = d4 - _AA * d2, _B * (d3 - _AA * d1)
    at_0 = _AA * _BB * d0 - (_AA + _BB) * d2 + d4
    at_infinity = _AA * _BB * d1 - (_AA + _BB) * d3 + d5
    return at_0, near + near_odd, near - near_odd, far + far_odd, far - far_odd, at_infinity


@njit(nogil=True)
def _undo(six: Any) -> Any:
    m0, m1, m2, m3, m4, m5 = six
    near, near_odd, far, far_odd = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return (
        m0 + near + far,
        _A * near_odd + _B * far_odd,
        _AA * near + _BB * far,
        _A * _AA * near_odd + _B * _BB * far_odd + m5,
    )


# Written out, as numba keeps vectors in registers only if it knows which is which.


@njit(nogil=True)
def transform_tile(
    x: np.ndarray, start: int, steps: tuple[int, int], into: np.ndarray, to: int, step: int
) -> None:
    """Transform sixteen channels of 6 x 6 px.

    Parameters
    ----------
    x : ndarray of float32
        From whose element `start` the tile lies, its rows and columns `steps` apart.
    into : ndarray of float32
        From whose element `to` the 36 points are written, `step` apart.
    """
    row, column = steps
    a = _transform(_six(x, start, row))
    b = _transform(_six(x, start + column, row))
    c = _transform(_six(x, start + 2 * column, row))
    d = _transform(_six(x, start + 3 * column, row))
    e = _transform(_six(x, start + 4 * column, row))
    f = _transform(_six(x, start + 5 * column, row))
    _put_six(_transform((a[0], b[0], c[0], d[0], e[0], f[0])), into, to, step)
    _put_six(_transform((a[1], b[1], c[1], d[1], e[1], f[1])), into, to + 6 * step, step)
    _put_six(_transform((a[2], b[2], c[2], d[2], e[2], f[2])), into, to + 12 * step, step)
    _put_six(_transform((a[3], b[3], c[3], d[3], e[3], f[3])), into, to + 18 * step, step)
    _put_six(_transform((a[4], b[4], c[4], d[4], e[4], f[4])), into, to + 24 * step, step)
    _put_six(_transform((a[5], b[5], c[5], d[5], e[5], f[5])), into, to + 30 * step, step)


@njit(nogil=True)
def undo_tile(
    m: np.ndarray, start: int, step: int, into: np.ndarray, to: int, steps: tuple[int, int]
) -> None:
    """Make 4 x 4 px of sixteen channels out of 36 products.

    Parameters
    ----------
    m : ndarray of float32
        From whose element `start` the products lie, `step` apart.
    into : ndarray of float32
        From whose element `to` the tile is written, its rows and columns `steps` apart.
    """
    row, column = steps
    a = _undo(_six(m, start, 6 * step))
    b = _undo(_six(m, start + step, 6 * step))
    c = _undo(_six(m, start + 2 * step, 6 * step))
    d = _undo(_six(m, start + 3 * step, 6 * step))
    e = _undo(_six(m, start + 4 * step, 6 * step))
    f = _undo(_six(m, start + 5 * step, 6 * step))
    _put_four(_undo((a[0], b[0], c[0], d[0], e[0], f[0])), into, to, column)
    _put_four(_undo((a[1], b[1], c[1], d[1], e[1], f[1])), into, to + row, column)
    _put_four(_undo((a[2], b[2], c[2], d[2], e[2], f[2])), into, to + 2 * row, column)
    _put_four(_undo((a[3], b[3], c[3], d[3], e[3], f[3])), into, to + 3 * row, column)


@njit(nogil=True)
def _six(x: np.ndarray, start: int, step: int) -> Any:
    return (
        load(x, start),
        load(x, start + step),
        load(x, start + 2 * step),
        load(x, start + 3 * step),
        load(x, start + 4 * step),
        load(x, start + 5 * step),
    )


@njit(nogil=True)
def _put_six(values: Any, into: np.ndarray, to: int, step: int) -> None:
    _put_four(values, into, to, step)
    store(into, to + 4 * step, values[4])
    store(into, to + 5 * step, values[5])


@njit(nogil=True)
def _put_four(values: Any, into: np.ndarray, to: int, step: int) -> None:
    store(into, to, values[0])
    store(into, to + step, values[1])
    store(into, to + 2 * step, values[2])
    store(into, to + 3 * step, values[3])
