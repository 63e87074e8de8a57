"""Weights files of Cellpose's network that are a few hundred kilobytes instead of 26 MB.

Every layer is one seeded random number, repeated by a stride of 0: shapes, keys and types are the
real ones, and torch stores the single number.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def _shapes(inputs: int, outputs: int):
    from cellpose.resnet_torch import CPnet

    network = CPnet([inputs, 32, 64, 128, 256], outputs, sz=3)
    return {key: (tensor.shape, tensor.dtype) for key, tensor in network.state_dict().items()}


def network_state(inputs: int = 2, outputs: int = 3, *, diameters=(30.0, 18.0), seed: int = 0):
    """A state dict of `CPnet`; `diameters` are diam_mean and diam_labels, None leaves them out."""
    import torch

    random = torch.Generator().manual_seed(seed)
    state = {
        key: (torch.rand(1, generator=random) / 100).to(dtype).reshape(()).expand(shape)
        for key, (shape, dtype) in _shapes(inputs, outputs).items()
    }
    for key, value in zip(("diam_mean", "diam_labels"), diameters or (None, None), strict=True):
        state[key] = torch.tensor([value or 0.0])
        if diameters is None:
            del state[key]
    return state


def write_weights(path: Path, state=None, **options) -> Path:
    """Save a state dict (of `network_state` with `options`, if none is given) and return `path`."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network_state(**options) if state is None else state, path)
    return path
