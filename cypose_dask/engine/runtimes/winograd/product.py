"""Products of matrices, a block of rows and columns at a time that fits the registers."""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from cypose_dask.engine.runtimes.winograd.lanes import (
    FLOAT_BYTES,
    LANES,
    at,
    fused_add,
    repeat,
    vector,
)

__all__ = ["COLUMNS", "Rows", "multiply", "pack"]

# Columns of a block. Packed matrices are laid out in it, whatever the processor.
COLUMNS = 32
_VECTORS = range(0, COLUMNS, LANES)
# 8 rows take 16 of the 32 registers of AVX-512, 3 rows 12 of the 16 of AVX2. Either is enough to
# keep both multipliers busy while a sum is under way.
_ROWS = 8 if binding.get_host_cpu_features().get("avx512f", False) else 3


class Rows(NamedTuple):
    """Rows of float32, from `start` of a one-dimensional array, each `step` after the other."""

    values: np.ndarray
    start: int
    step: int


def pack(matrix: np.ndarray) -> np.ndarray:
    """Lay a matrix (depth, columns) out as `multiply` reads it, with columns of zeros to the end.

    Returns
    -------
    (B * depth * COLUMNS,) ndarray of float32
        B blocks of columns.
    """
    depth, columns = matrix.shape
    blocks = -(-columns // COLUMNS)
    padded = np.zeros((depth, blocks * COLUMNS), np.float32)
    padded[:, :columns] = matrix
    return np.ascontiguousarray(padded.reshape(depth, blocks, COLUMNS).swapaxes(0, 1)).ravel()


def _block(rows: int) -> Any:
    """Return a kernel for so many rows and COLUMNS columns of a product."""

    @intrinsic
    def multiply_block(
        typing: Any, left: Any, right: Any, depth: Any, start: Any, into: Any
    ) -> Any:
        """Write start + left x right; `right` is one packed block of `depth` rows."""

        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            left, right, start, into = (
                _place(context, builder, signature.args[i], given[i]) for i in (0, 1, 3, 4)
            )
            sums = _sum_up(builder, (left, right, start), rows, given[2])
            for row, vectors in enumerate(sums):
                for column, values in zip(_VECTORS, vectors, strict=True):
                    place = at(builder, into[0], _index(builder, into[1], row, column))
                    builder.store(values, place, align=FLOAT_BYTES)
            return context.get_dummy_value()

        return types.void(left, right, types.intp, start, into), generate

    return multiply_block


def _place(context: Any, builder: Any, kind: Any, rows: Any) -> tuple[Any, Any]:
    """Return the pointer to the first element of a `Rows`, and the step."""
    values, start, step = (builder.extract_value(rows, i) for i in range(3))
    data = context.make_array(kind[0])(context, builder, values).data
    return builder.gep(data, [start]), step


def _index(builder: Any, step: Any, row: int, column: int) -> Any:
    return builder.add(builder.mul(step, step.type(row)), step.type(column))


def _sum_up(builder: Any, matrices: Any, rows: int, depth: Any) -> Any:
    """Write the loop over the depth, and return the sums: of each row, of each vector."""
    left, right, start = matrices
    initial = _vectors(builder, start, rows)
    lefts = [builder.gep(left[0], [_index(builder, left[1], row, 0)]) for row in range(rows)]
    before = builder.block
    loop, after = (builder.append_basic_block(name) for name in ("depth", "summed"))
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(depth.type)
    sums = [[builder.phi(vector) for _ in _VECTORS] for _ in range(rows)]
    deeper = _one_deeper(builder, (lefts, right), k, sums)
    following = builder.add(k, k.type(1))
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
    for phi, first, later in [
        (k, k.type(0), following),
        *zip(*map(chain.from_iterable, (sums, initial, deeper)), strict=True),
    ]:
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)
    builder.position_at_end(after)
    return deeper


def _one_deeper(builder: Any, matrices: Any, k: Any, sums: Any) -> Any:
    """Return the sums with the products of column k of the left and row k of the right matrix."""
    lefts, (right, step) = matrices
    line = builder.gep(right, [builder.mul(k, step)])
    (factors,) = _vectors(builder, (line, step), 1)
    return [
        _products(builder, builder.load(builder.gep(left, [k])), factors, totals)
        for left, totals in zip(lefts, sums, strict=True)
    ]


def _products(builder: Any, value: Any, factors: Any, totals: Any) -> Any:
    repeated = repeat(builder, value)
    return [
        fused_add(builder, repeated, f, total) for f, total in zip(factors, totals, strict=True)
    ]


def _vectors(builder: Any, matrix: Any, rows: int) -> Any:
    """Load the first COLUMNS columns of rows of a matrix."""
    data, step = matrix
    return [
        [
            builder.load(at(builder, data, _index(builder, step, row, column)), align=FLOAT_BYTES)
            for column in _VECTORS
        ]
        for row in range(rows)
    ]


_multiply_rows = _block(_ROWS)
_multiply_row = _block(1)


@njit(nogil=True)
def multiply(left: Rows, right: Rows, start: np.ndarray, into: Rows, count: int) -> None:
    """Write start + left x right.

    Parameters
    ----------
    left : Rows
        `count` rows, each of them as deep as `right`.
    right : Rows
        A packed matrix, see `pack`; its step is its depth.
    start : (columns,) ndarray of float32
        Whose length says how many columns there are, a multiple of COLUMNS.
    into : Rows
        `count` rows of as many columns.
    """
    depth = right.step
    for column in range(0, start.size, COLUMNS):
        block = Rows(right.values, right.start + column * depth, COLUMNS)
        first = Rows(start, column, 0)
        row = 0
        while row < count:
            a = Rows(left.values, left.start + row * left.step, left.step)
            c = Rows(into.values, into.start + row * into.step + column, into.step)
            if row + _ROWS <= count:
                _multiply_rows(a, block, depth, first, c)
                row += _ROWS
            else:
                _multiply_row(a, block, depth, first, c)
                row += 1
