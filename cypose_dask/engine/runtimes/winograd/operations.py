"""The operations of `cpnet`, each held back until it is known what follows.

A convolution takes along what is added to it and whether it is rectified, and reads what is scaled
and shifted before it. So a picture is written once, and nothing between two convolutions is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from cypose_dask.engine.runtimes.fold import Folded
from cypose_dask.engine.runtimes.winograd.convolution import (
    Layer,
    Picture,
    convolve,
    mix,
    pool,
    settle,
)
from cypose_dask.engine.runtimes.winograd.filtering import transform_weights
from cypose_dask.engine.runtimes.winograd.memory import Memory, aligned
from cypose_dask.engine.runtimes.winograd.product import COLUMNS, pack

__all__ = ["Operations", "Sum"]

_EMPTY = np.empty(0, np.float32)
_NOTHING = Picture(_EMPTY, 0, 0, 0, 0, _EMPTY, _EMPTY, rectified=False)


@dataclass(frozen=True)
class Sum:
    """A convolution of 3 x 3 px that waits for what is added to it."""

    picture: Picture
    layer: Layer
    memory: Memory
    added: Picture = _NOTHING

    @cached_property
    def value(self) -> Picture:
        """The sum; asked for again, the same."""
        return self.compute(rectified=False)

    def compute(self, *, rectified: bool) -> Picture:
        """Return the sum, or 0 where it is negative and `rectified`."""
        values = convolve(
            self.picture, self.layer, self.added, rectified=rectified, memory=self.memory
        )
        return _as_it_lies(values, self.picture.height, self.picture.width)


class Operations:
    """`cpnet.Operations` on one tile; holds the weights, so one serves all tiles and threads."""

    def __init__(self, folded: Folded) -> None:
        self._memory = Memory()
        self._shape: tuple[int, ...] = ()
        self._weights = {key: aligned(_prepared(value)) for key, value in folded.items()}
        self._depths = {key: value.shape[1] for key, value in folded.items() if value.ndim == 4}
        self._wide = {key for key, value in folded.items() if value.shape[2:] == (3, 3)}

    def conv(self, x: Picture | Sum, name: str) -> Picture | Sum:  # noqa: D102
        key = f"{name}.weight"
        layer = Layer(self._weights[key], self._depths[key], self._weights[f"{name}.bias"])
        if key in self._wide:
            return Sum(_value(x), layer, self._memory)
        x = self._untouched(x)
        mixed = _as_it_lies(
            mix(x, layer, self._memory), x.height >> x.doubled, x.width >> x.doubled
        )
        return mixed._replace(height=x.height, width=x.width, doubled=x.doubled)

    def norm_relu(self, x: Picture | Sum, name: str) -> Picture:  # noqa: D102
        scale, shift = self._weights[f"{name}.scale"], self._weights[f"{name}.shift"]
        return self._untouched(x)._replace(scale=scale, shift=shift, rectified=True)

    def relu(self, x: Picture | Sum) -> Picture:  # noqa: D102
        if isinstance(x, Sum):
            return x.compute(rectified=True)
        return x._replace(rectified=True)

    def add(self, x: Picture | Sum, y: Picture | Sum) -> Sum:  # noqa: D102
        one, other = (x, y) if isinstance(x, Sum) and x.added is _NOTHING else (y, x)
        if not isinstance(one, Sum) or one.added is not _NOTHING:
            raise TypeError("Only a convolution of 3 x 3 px takes a picture along.")
        return replace(one, added=_value(other))

    def pool(self, x: Picture | Sum) -> Picture:  # noqa: D102
        x = self._whole(x)
        return _as_it_lies(pool(x, self._memory), x.height // 2, x.width // 2)

    def upsample(self, x: Picture | Sum) -> Picture:  # noqa: D102
        x = self._whole(x)
        return x._replace(height=2 * x.height, width=2 * x.width, doubled=1)

    def style(self, x: Picture | Sum) -> np.ndarray:  # noqa: D102
        x = self._whole(x)
        mean = x.values.reshape(-1, x.channels).mean(0, np.float64)
        return (mean / np.sqrt(np.square(mean).sum())).astype(np.float32)

    def style_relu(self, x: Picture | Sum, style: np.ndarray, name: str) -> Picture:  # noqa: D102
        shift = self._weights[f"{name}.weight"] @ style + self._weights[f"{name}.bias"]
        if isinstance(x, Sum):
            layer = x.layer._replace(bias=x.layer.bias + shift)
            return replace(x, layer=layer).compute(rectified=True)
        x = self._whole(x) if x.rectified else x
        return x._replace(shift=x.shift + shift, rectified=True)

    def scale(self, x: Picture | Sum, name: str) -> Picture:  # noqa: D102
        return self._untouched(x)._replace(scale=self._weights[f"{name}.scale"])

    def read(self, tile: np.ndarray) -> Picture:
        """Return a tile (C, H, W) of float32 as a picture."""
        channels, height, width = shape = tile.shape
        if shape != self._shape:  # small frames of many movies would each leave theirs behind
            self._shape, self._memory = shape, Memory()
        values = np.zeros((height, width, _rounded_up(channels)), np.float32)
        values[..., :channels] = np.moveaxis(tile, 0, -1)
        return _as_it_lies(values.ravel(), height, width)

    def written(self, x: Picture | Sum, channels: int) -> np.ndarray:
        """Return a picture's first channels, (channels, height, width) of float32."""
        x = self._whole(x)
        values = x.values.reshape(x.height, x.width, x.channels)
        return np.moveaxis(values[..., :channels], -1, 0)

    def _whole(self, x: Picture | Sum) -> Picture:
        """Return a picture that is read as it lies."""
        x = self._untouched(x)
        return self._settled(x) if x.doubled else x

    def _untouched(self, x: Picture | Sum) -> Picture:
        """Return a picture that is read as it lies, but for the doubling of its pixels."""
        x = _value(x)
        neutral = x.scale is _ones(x.channels) and x.shift is _zeros(x.channels)
        return x if neutral and not x.rectified else self._settled(x)

    def _settled(self, x: Picture) -> Picture:
        return _as_it_lies(settle(x, self._memory), x.height, x.width)


def _value(x: Picture | Sum) -> Picture:
    return x.value if isinstance(x, Sum) else x


def _as_it_lies(values: np.ndarray, height: int, width: int) -> Picture:
    channels = values.size // (height * width)
    neutral = _ones(channels), _zeros(channels)
    return Picture(values, height, width, channels, 0, *neutral, rectified=False)


@cache
def _ones(channels: int) -> np.ndarray:
    return np.ones(channels, np.float32)


@cache
def _zeros(channels: int) -> np.ndarray:
    return np.zeros(channels, np.float32)


def _prepared(weight: np.ndarray) -> np.ndarray:
    """Return one of the folded arrays as it is used."""
    if weight.shape[2:] == (3, 3):
        return transform_weights(weight)
    if weight.ndim == 4:
        return pack(weight[:, :, 0, 0].T)
    flat = weight[:, 0, 0] if weight.ndim == 3 else weight  # a norm's numbers
    return np.pad(flat, [(0, _rounded_up(size) - size) for size in flat.shape])


def _rounded_up(channels: int) -> int:
    return -(-channels // COLUMNS) * COLUMNS
