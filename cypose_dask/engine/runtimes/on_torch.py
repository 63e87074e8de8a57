"""The network in torch, channels last. Needs no package that Cellpose does not bring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cypose_dask.engine.runtimes import cpnet
from cypose_dask.engine.runtimes.batches import in_batches
from cypose_dask.engine.runtimes.conversion import folded_weights
from cypose_dask.engine.runtimes.fold import Folded
from cypose_dask.models.spec import ModelSpec

__all__ = ["FoldedNetwork", "TorchRuntime", "load_module"]


class FoldedNetwork(torch.nn.Module):
    """`cpnet.forward` as a module that can be moved to a device, or to half precision.

    It is its own `cpnet.Operations`, in place where nothing else reads a tensor.
    """

    def __init__(self, folded: Folded) -> None:
        super().__init__()
        for key, value in folded.items():
            self.register_buffer(_buffer_name(key), _channels_last(torch.from_numpy(value)))

    def forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the output (N, 3, H, W) and the styles (N, 256) of tiles (N, C, H, W)."""
        return cpnet.forward(self, _channels_last(tiles))

    def conv(self, x: torch.Tensor, name: str) -> torch.Tensor:  # noqa: D102
        weight, bias = self._layer(name)
        return functional.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    def norm_relu(self, x: torch.Tensor, name: str) -> torch.Tensor:  # noqa: D102
        scale, shift = self._weight(f"{name}.scale"), self._weight(f"{name}.shift")
        return torch.addcmul(shift, x, scale).relu_()

    def relu(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return x.relu_()

    def add(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return x.add_(y)

    def pool(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return functional.max_pool2d(x, 2)

    def upsample(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return functional.interpolate(x, scale_factor=2.0, mode="nearest")

    def style(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        mean = x.mean((2, 3))
        return mean / mean.square().sum(1, keepdim=True).sqrt()

    def style_relu(self, x: torch.Tensor, style: torch.Tensor, name: str) -> torch.Tensor:  # noqa: D102
        return x.add_(functional.linear(style, *self._layer(name))[..., None, None]).relu_()

    def scale(self, x: torch.Tensor, name: str) -> torch.Tensor:  # noqa: D102
        return x * self._weight(f"{name}.scale")

    def _layer(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self._weight(f"{name}.weight"), self._weight(f"{name}.bias")

    def _weight(self, key: str) -> Any:
        return getattr(self, _buffer_name(key))


def _buffer_name(key: str) -> str:
    return key.replace(".", "_")  # torch allows no dots


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    # Convolutions on a processor take 1.3 times as long on tensors laid out channel by channel.
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


@dataclass(frozen=True, slots=True)
class TorchRuntime:
    """A network in torch on the processor."""

    module: torch.nn.Module
    threads: int
    name: str = "torch"

    @classmethod
    def open(cls, spec: ModelSpec, threads: int) -> TorchRuntime:
        """Load a model. Torch's number of threads is set for the whole process."""
        torch.set_num_threads(threads)
        return cls(load_module(spec), threads)

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the network, see `Runtime`."""
        return in_batches(self._run, tiles, self.threads)

    def _run(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            output, styles = self.module(torch.from_numpy(tiles))
        return output.numpy(), styles.numpy()


def load_module(spec: ModelSpec) -> torch.nn.Module:
    """Return a model as a torch module in memory: tiles in, output and styles out.

    Raises
    ------
    ModelError
        As `folded_weights`.
    """
    if spec.backbone == "default":
        return FoldedNetwork(folded_weights(spec)).eval()
    from cellpose.segformer import Transformer

    module = Transformer(encoder_weights=None)
    module.load_model(spec.path)
    return module.eval().requires_grad_(requires_grad=False)
