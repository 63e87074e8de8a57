"""Convolutions and pooling of a picture, each writing the picture that it returns once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from cypose_dask.engine.runtimes.winograd import filtering, lanes, product
from cypose_dask.engine.runtimes.winograd.filtering import (
    POINTS,
    TILE,
    WINDOW,
    transform_tile,
    undo_tile,
)
from cypose_dask.engine.runtimes.winograd.lanes import LANES, every, larger, load, store
from cypose_dask.engine.runtimes.winograd.memory import Memory
from cypose_dask.engine.runtimes.winograd.product import Rows, multiply
from cypose_dask.models.spec import file_sha256

__all__ = ["Layer", "Picture", "convolve", "mix", "pool", "settle"]

# Tiles that are multiplied at once: their transforms stay in a core's own cache.
_TILES = 64
_RIM = WINDOW - TILE


class Picture(NamedTuple):
    """Pixels with channels, and what is done to them whenever they are read.

    A value is read as ``scale * value + shift``, and as 0 if that is negative and `rectified`.
    """

    values: np.ndarray
    """(height * width * channels,) float32, channels last; `channels` is a multiple of 32."""
    height: int
    width: int
    channels: int
    doubled: int
    """1 if every pixel is read 2 x 2 times, else 0; height and width are those that are read."""
    scale: np.ndarray
    """(channels,) float32."""
    shift: np.ndarray
    """(channels,) float32."""
    rectified: bool


class Layer(NamedTuple):
    """A convolution."""

    weights: np.ndarray
    """For 3 x 3 px see `transform_weights`, for 1 x 1 px `pack`."""
    depth: int
    """Channels that are read."""
    bias: np.ndarray
    """(channels,) float32, of the picture that is written."""


def convolve(
    x: Picture, layer: Layer, rest: Picture, *, rectified: bool, memory: Memory
) -> np.ndarray:
    """Convolve with 3 x 3 px, beyond the edge zeros, and add a picture.

    Parameters
    ----------
    x : Picture
    layer : Layer
    rest : Picture
        What is added, unless its height is 0.
    rectified : bool
        Whether negative sums become 0.
    memory : Memory

    Returns
    -------
    (height * width * channels of the bias,) ndarray of float32
    """
    columns = layer.bias.size
    tall, wide = -(-x.height // TILE), -(-x.width // TILE)
    strip = min(tall, max(1, _TILES // wide))
    tiles = strip * wide
    # A cache line more, as powers of two apart all points would share a few lines of the cache.
    apart = (tiles * x.channels + LANES, tiles * columns + LANES)
    work = _Work(
        strip,
        apart,
        memory.take((TILE * strip + _RIM) * (TILE * wide + _RIM) * x.channels),
        memory.take(POINTS * apart[0]),
        memory.take(POINTS * apart[1]),
        memory.take(TILE * TILE * tiles * columns),
    )
    out = memory.take(x.height * x.width * columns)
    _KERNELS.convolve(x, layer, (rest, rectified), work, out)
    return out


class _Work(NamedTuple):
    """What some rows of tiles become on their way, and how far apart points and products lie."""

    rows: int
    apart: tuple[int, int]
    padded: np.ndarray
    points: np.ndarray
    products: np.ndarray
    summed: np.ndarray


@njit(nogil=True)
def _convolve(
    x: Picture, layer: Layer, last: tuple[Picture, bool], work: _Work, out: np.ndarray
) -> None:
    tall, wide, columns = -(-x.height // TILE), -(-x.width // TILE), layer.bias.size
    for first in range(0, tall, work.rows):
        rows = min(work.rows, tall - first)
        _read(x, TILE * first - 1, TILE * rows + _RIM, work.padded)
        _transform(work.padded, (rows, wide, x.channels), work.points, work.apart[0])
        _multiply(work, layer, rows * wide, x.channels)
        _undo(work.products, (rows, wide, columns), work.summed, work.apart[1])
        _write(work.summed, (TILE * first, TILE * rows), (layer.bias, *last), x, out)


@njit(nogil=True)
def _read(x: Picture, top: int, rows: int, padded: np.ndarray) -> None:
    """Read rows from `top`, with a rim of zeros as wide as the last tile asks for."""
    line = (-(-x.width // TILE) * TILE + _RIM) * x.channels
    end = (x.width + 1) * x.channels
    for row in range(rows):
        start = row * line
        if top + row < 0 or top + row >= x.height:
            padded[start : start + line] = 0
            continue
        padded[start : start + x.channels] = 0
        padded[start + end : start + line] = 0
        source = ((top + row) >> x.doubled) * (x.width >> x.doubled)
        for column in range(x.width):
            at = (source + (column >> x.doubled)) * x.channels
            to = start + (column + 1) * x.channels
            for c in range(0, x.channels, LANES):
                store(padded, to + c, _value(x, at, c))


@njit(nogil=True)
def _value(x: Picture, at: int, channel: int) -> Any:
    value = load(x.scale, channel) * load(x.values, at + channel) + load(x.shift, channel)
    return larger(value, every(np.float32(0))) if x.rectified else value


@njit(nogil=True)
def _transform(
    padded: np.ndarray, shape: tuple[int, int, int], points: np.ndarray, apart: int
) -> None:
    rows, wide, channels = shape
    line = (TILE * wide + _RIM) * channels
    for tile in range(rows * wide):
        at = TILE * ((tile // wide) * line + (tile % wide) * channels)
        for c in range(0, channels, LANES):
            transform_tile(padded, at + c, (line, channels), points, tile * channels + c, apart)


@njit(nogil=True)
def _multiply(work: _Work, layer: Layer, tiles: int, channels: int) -> None:
    columns, nothing = layer.bias.size, np.zeros_like(layer.bias)
    for point in range(POINTS):
        left = Rows(work.points, point * work.apart[0], channels)
        right = Rows(layer.weights, point * layer.depth * columns, layer.depth)
        into = Rows(work.products, point * work.apart[1], columns)
        multiply(left, right, nothing, into, tiles)


@njit(nogil=True)
def _undo(
    products: np.ndarray, shape: tuple[int, int, int], summed: np.ndarray, apart: int
) -> None:
    rows, wide, channels = shape
    line = TILE * wide * channels
    for tile in range(rows * wide):
        to = TILE * ((tile // wide) * line + (tile % wide) * channels)
        for c in range(0, channels, LANES):
            undo_tile(products, tile * channels + c, apart, summed, to + c, (line, channels))


@njit(nogil=True)
def _write(
    summed: np.ndarray,
    lines: tuple[int, int],
    last: tuple[np.ndarray, Picture, bool],
    x: Picture,
    out: np.ndarray,
) -> None:
    """Write the lines that the picture has of those summed, with all that is added to them."""
    (top, rows), (bias, rest, rectified) = lines, last
    channels = bias.size
    line = -(-x.width // TILE) * TILE * channels
    for row in range(min(rows, x.height - top)):
        added = ((top + row) >> rest.doubled) * (rest.width >> rest.doubled)
        for column in range(x.width):
            at = row * line + column * channels
            to = ((top + row) * x.width + column) * channels
            other = (added + (column >> rest.doubled)) * channels
            for c in range(0, channels, LANES):
                value = load(summed, at + c) + load(bias, c)
                if rest.height:
                    value = value + _value(rest, other, c)
                if rectified:
                    value = larger(value, every(np.float32(0)))
                store(out, to + c, value)


def settle(x: Picture, memory: Memory) -> np.ndarray:
    """Return the values (height * width * channels,) as they are read."""
    out = memory.take(x.height * x.width * x.channels)
    _KERNELS.settle(x, out)
    return out


@njit(nogil=True)
def _settle(x: Picture, out: np.ndarray) -> None:
    for pixel in range(x.height * x.width):
        row, column = pixel // x.width, pixel % x.width
        at = ((row >> x.doubled) * (x.width >> x.doubled) + (column >> x.doubled)) * x.channels
        for c in range(0, x.channels, LANES):
            store(out, pixel * x.channels + c, _value(x, at, c))


def mix(x: Picture, layer: Layer, memory: Memory) -> np.ndarray:
    """Convolve with 1 x 1 px, as it lies: neither scaled, nor shifted, nor doubled.

    Returns
    -------
    ndarray of float32
        As many pixels as `x.values` has, with the channels of the bias.
    """
    out = memory.take(x.values.size // x.channels * layer.bias.size)
    _KERNELS.mix(x, layer, out)
    return out


@njit(nogil=True)
def _mix(x: Picture, layer: Layer, out: np.ndarray) -> None:
    left, right = Rows(x.values, 0, x.channels), Rows(layer.weights, 0, layer.depth)
    into = Rows(out, 0, layer.bias.size)
    multiply(left, right, layer.bias, into, x.values.size // x.channels)


def pool(x: Picture, memory: Memory) -> np.ndarray:
    """Return the largest value of every 2 x 2 px, as they lie."""
    out = memory.take(x.values.size // 4)
    _KERNELS.pool(x, out)
    return out


@njit(nogil=True)
def _pool(x: Picture, out: np.ndarray) -> None:
    width, channels = x.width // 2, x.channels
    line = x.width * channels
    for pixel in range(out.size // channels):
        at = 2 * ((pixel // width) * line + (pixel % width) * channels)
        for c in range(at, at + channels, LANES):
            upper = larger(load(x.values, c), load(x.values, c + channels))
            lower = larger(load(x.values, c + line), load(x.values, c + line + channels))
            store(out, pixel * channels + c - at, larger(upper, lower))


class _Kernels(NamedTuple):
    """What is called from Python, and kept on disk with all that it calls."""

    convolve: Any
    settle: Any
    mix: Any
    pool: Any


def _kernels(sources: str) -> _Kernels:
    """Return the kernels, of which those on disk are good for the same `sources` alone.

    Numba looks at the file of a kernel only, and at what the kernel takes from around itself.
    """

    @njit(nogil=True, cache=True)
    def convolve(
        x: Picture, layer: Layer, last: tuple[Picture, bool], work: _Work, out: np.ndarray
    ) -> None:
        assert sources
        _convolve(x, layer, last, work, out)

    @njit(nogil=True, cache=True)
    def settle(x: Picture, out: np.ndarray) -> None:
        assert sources
        _settle(x, out)

    @njit(nogil=True, cache=True)
    def mix(x: Picture, layer: Layer, out: np.ndarray) -> None:
        assert sources
        _mix(x, layer, out)

    @njit(nogil=True, cache=True)
    def pool(x: Picture, out: np.ndarray) -> None:
        assert sources
        _pool(x, out)

    return _Kernels(convolve, settle, mix, pool)


_OTHER_FILES = (str(module.__file__) for module in (filtering, lanes, product))
_KERNELS = _kernels("".join(map(file_sha256, _OTHER_FILES)))
