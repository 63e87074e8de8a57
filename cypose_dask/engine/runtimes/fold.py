"""Batch norms folded into the convolutions beside them, once and in double precision.

At inference a batch norm is ``scale * x + shift`` a channel. After a convolution it changes only
that convolution's numbers; before one of 1 x 1 px as well. Before a ReLU it stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["LEVELS", "Folded", "fold"]

# Resolutions of Cellpose's U-Net, each half of the one before.
LEVELS = 4
# Of `torch.nn.BatchNorm2d` in `cellpose.resnet_torch.batchconv`.
_EPSILON = 1e-5

# Arrays of float32 by "<block>.<part>.<weight or bias, scale or shift>".
Folded = dict[str, np.ndarray]
_Pair = tuple[np.ndarray, np.ndarray]


def fold(state: Mapping[str, Any]) -> Folded:
    """Fold the weights of Cellpose's network.

    Parameters
    ----------
    state : mapping of str to array
        State dict of `cellpose.resnet_torch.CPnet`, any float type.

    Returns
    -------
    Folded
        What `cpnet.forward` asks for; float32.

    Notes
    -----
    Source: cellpose 3.1.1.3 `resnet_torch.resdown`, `resup`, `batchconv`, `batchconvstyle`.
    """
    exact = {key: np.asarray(value, np.float64) for key, value in state.items()}
    folded: dict[str, np.ndarray] = {}
    for level in range(LEVELS):
        folded |= _down(exact, level) | _up(exact, level)
    folded |= _norm("output.norm", _affine(exact, "output.0"))
    folded |= _layer("output.conv", _pair(exact, "output.2"))
    return {key: np.ascontiguousarray(value, np.float32) for key, value in folded.items()}


def _down(state: Folded, level: int) -> Folded:
    old, new = f"downsample.down.res_down_{level}", f"down{level}"
    norms = [_affine(state, f"{old}.conv.conv_{i}.0") for i in range(4)]
    convs = [_pair(state, f"{old}.conv.conv_{i}.2") for i in range(4)]
    return (
        _projection(state, old, new)
        | _norm(f"{new}.norm0", norms[0])
        | _layer(f"{new}.conv0", _then_affine(convs[0], norms[1]))
        | _layer(f"{new}.conv1", convs[1])
        | _norm(f"{new}.norm2", norms[2])
        | _layer(f"{new}.conv2", _then_affine(convs[2], norms[3]))
        | _layer(f"{new}.conv3", convs[3])
    )


def _up(state: Folded, level: int) -> Folded:
    old, new = f"upsample.up.res_up_{level}", f"up{level}"
    first, *later = (f"{old}.conv.conv_{i}" for i in range(4))
    norms = [_affine(state, f"{at}.conv.0") for at in later]
    styles = [_pair(state, f"{at}.full") for at in later]
    convs = [_pair(state, f"{first}.2"), *(_pair(state, f"{at}.conv.2") for at in later)]
    return (
        _projection(state, old, new)
        | _norm(f"{new}.norm0", _affine(state, f"{first}.0"))
        # Skip, style and this convolution are summed before the norm, so each is scaled by it.
        | _layer(f"{new}.conv0", _then_affine(convs[0], norms[0]))
        | {f"{new}.skip1.scale": _across(norms[0][0])}
        | _layer(f"{new}.style1", _scaled(styles[0], norms[0][0]))
        | _layer(f"{new}.conv1", convs[1])
        | {f"{new}.skip2.scale": _across(norms[1][0])}
        | _layer(f"{new}.style2", _then_affine(styles[1], norms[1]))
        | _layer(f"{new}.conv2", _then_affine(convs[2], norms[2]))
        | _layer(f"{new}.style3", _scaled(styles[2], norms[2][0]))
        | _layer(f"{new}.conv3", convs[3])
    )


def _projection(state: Folded, old: str, new: str) -> Folded:
    (scale, shift), (weight, bias) = _affine(state, f"{old}.proj.0"), _pair(state, f"{old}.proj.1")
    summed = bias + weight[:, :, 0, 0] @ shift
    return _layer(f"{new}.proj", (weight * scale[:, np.newaxis, np.newaxis], summed))


def _affine(state: Folded, key: str) -> _Pair:
    scale = state[f"{key}.weight"] / np.sqrt(state[f"{key}.running_var"] + _EPSILON)
    return scale, state[f"{key}.bias"] - state[f"{key}.running_mean"] * scale


def _pair(state: Folded, key: str) -> _Pair:
    return state[f"{key}.weight"], state[f"{key}.bias"]


def _scaled(layer: _Pair, scale: np.ndarray) -> _Pair:
    weight, bias = layer
    return weight * scale.reshape(-1, *(1,) * (weight.ndim - 1)), bias * scale


def _then_affine(layer: _Pair, norm: _Pair) -> _Pair:
    weight, bias = _scaled(layer, norm[0])
    return weight, bias + norm[1]


def _layer(name: str, layer: _Pair) -> Folded:
    return {f"{name}.weight": layer[0], f"{name}.bias": layer[1]}


def _norm(name: str, norm: _Pair) -> Folded:
    return {f"{name}.scale": _across(norm[0]), f"{name}.shift": _across(norm[1])}


def _across(channels: np.ndarray) -> np.ndarray:
    return channels[:, np.newaxis, np.newaxis]  # one number for a channel's pixels
