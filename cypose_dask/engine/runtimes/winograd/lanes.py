"""Sixteen float32 at a time, as a type that numba's kernels can compute with.

LLVM looks for loops whose rounds it can carry out many at a time, and does not find those of a
convolution. So they are spelled out: sixteen lanes are one register of AVX-512, two of AVX2, four
of NEON.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, overload, register_model

__all__ = [
    "FLOAT_BYTES", "LANES", "at", "every", "fused_add", "larger", "load", "repeat", "store",
    "vector",
]  # fmt: skip

LANES = 16

# A product and a sum may become one instruction, which rounds once.
_FUSED = ("contract",)
FLOAT_BYTES = 4

vector = ir.VectorType(ir.FloatType(), LANES)


class Lanes(types.Type):
    """Numba's type of sixteen float32."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


_lanes = Lanes()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, vector)


# For those who write LLVM's instructions themselves: `builder` is llvmlite's.


def at(builder: Any, data: Any, index: Any) -> Any:
    """Return the place of sixteen elements from `index` of what `data` points to."""
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def repeat(builder: Any, value: Any) -> Any:
    """Return sixteen times the same number."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, undefined, mask)


def fused_add(builder: Any, x: Any, y: Any, total: Any) -> Any:
    """Return x * y + total."""
    return builder.fadd(total, builder.fmul(x, y, flags=_FUSED), flags=_FUSED)


# For kernels.


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Return the sixteen elements from `index` of a one-dimensional array of float32."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        data = context.make_array(array)(context, builder, given[0]).data
        return builder.load(at(builder, data, given[1]), align=FLOAT_BYTES)

    return _lanes(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, values: Any) -> Any:
    """Write sixteen elements from `index` into a one-dimensional array of float32."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        data = context.make_array(array)(context, builder, given[0]).data
        builder.store(given[2], at(builder, data, given[1]), align=FLOAT_BYTES)
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes), generate


@intrinsic
def every(typing: Any, value: Any) -> Any:
    """Return sixteen times the same number."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return repeat(builder, given[0])

    return _lanes(types.float32), generate


def _of_two(instruction: Callable[[Any, Any, Any], Any]) -> Any:
    @intrinsic
    def of_two(typing: Any, x: Any, y: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            return instruction(builder, *given)

        return _lanes(_lanes, _lanes), generate

    return of_two


_add = _of_two(lambda builder, x, y: builder.fadd(x, y, flags=_FUSED))
_subtract = _of_two(lambda builder, x, y: builder.fsub(x, y, flags=_FUSED))
_multiply = _of_two(lambda builder, x, y: builder.fmul(x, y, flags=_FUSED))
# A NaN in either stays one, as in `numpy.maximum`, if it is in x.
larger = _of_two(lambda builder, x, y: builder.select(builder.fcmp_ordered("<", x, y), y, x))


# `strict` would compare annotations, too.
@overload(operator.add, strict=False)
def _overload_add(x: Any, y: Any) -> Any:
    return (lambda x, y: _add(x, y)) if x == y == _lanes else None


@overload(operator.sub, strict=False)
def _overload_subtract(x: Any, y: Any) -> Any:
    return (lambda x, y: _subtract(x, y)) if x == y == _lanes else None


@overload(operator.mul, strict=False)
def _overload_multiply(x: Any, y: Any) -> Any:
    if x == y == _lanes:
        return lambda x, y: _multiply(x, y)
    if isinstance(x, types.Float) and y == _lanes:
        return lambda x, y: _multiply(every(numba.float32(x)), y)
    return None
