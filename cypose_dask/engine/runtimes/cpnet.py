"""Cellpose's residual U-Net with folded batch norms, in terms that every runtime can carry out.

One description serves all runtimes: torch computes while it is walked through, OpenVINO records,
and our own kernels hold back what they can do at once.
"""

from __future__ import annotations

from typing import Any, Protocol

from cypose_dask.engine.runtimes.fold import LEVELS

__all__ = ["Operations", "forward"]


class Operations(Protocol):
    """What a runtime does with its own kind of tensor (N, C, H, W); `name` is that of the weights.

    `add` may change its first argument, `relu` and `style_relu` theirs: nothing else reads them.
    """

    def conv(self, x: Any, name: str) -> Any:
        """Convolve, padded by zeros to the same size."""
        ...

    def norm_relu(self, x: Any, name: str) -> Any:
        """Return max(0, scale * x + shift), channel by channel."""
        ...

    def relu(self, x: Any) -> Any:
        """Return max(0, x)."""
        ...

    def add(self, x: Any, y: Any) -> Any:
        """Return x + y."""
        ...

    def pool(self, x: Any) -> Any:
        """Return the largest of every 2 x 2 px."""
        ...

    def upsample(self, x: Any) -> Any:
        """Repeat every pixel 2 x 2 times."""
        ...

    def style(self, x: Any) -> Any:
        """Return the channels' means over all pixels, as a vector (N, C) of length 1."""
        ...

    def style_relu(self, x: Any, style: Any, name: str) -> Any:
        """Return max(0, x + dense(style)), the same for every pixel of a channel."""
        ...

    def scale(self, x: Any, name: str) -> Any:
        """Multiply every channel by its own number."""
        ...


def forward(do: Operations, x: Any) -> tuple[Any, Any]:
    """Run the network.

    Parameters
    ----------
    do : Operations
    x : tensor (N, C, H, W)
        H and W are multiples of 8.

    Returns
    -------
    output : tensor (N, 3, H, W)
    style : tensor (N, 256)

    Notes
    -----
    Source: cellpose 3.1.1.3 `resnet_torch.CPnet.forward`.
    """
    skips: list[Any] = []
    for level in range(LEVELS):
        x = _down(do, f"down{level}", do.pool(x) if level else x)
        skips.append(x)
    style = do.style(x)
    for level in reversed(range(LEVELS)):
        x = do.upsample(x) if level < LEVELS - 1 else x
        x = _up(do, f"up{level}", (x, skips[level], style))
    return do.conv(do.norm_relu(x, "output.norm"), "output.conv"), style


def _down(do: Operations, block: str, x: Any) -> Any:
    inner = do.relu(do.conv(do.norm_relu(x, f"{block}.norm0"), f"{block}.conv0"))
    x = do.add(do.conv(x, f"{block}.proj"), do.conv(inner, f"{block}.conv1"))
    inner = do.relu(do.conv(do.norm_relu(x, f"{block}.norm2"), f"{block}.conv2"))
    return do.add(x, do.conv(inner, f"{block}.conv3"))


def _up(do: Operations, block: str, given: tuple[Any, Any, Any]) -> Any:
    x, skip, style = given
    inner = do.conv(do.norm_relu(x, f"{block}.norm0"), f"{block}.conv0")
    inner = do.add(inner, do.scale(skip, f"{block}.skip1"))
    inner = do.conv(do.style_relu(inner, style, f"{block}.style1"), f"{block}.conv1")
    x = do.add(do.conv(x, f"{block}.proj"), inner)
    inner = do.style_relu(do.scale(x, f"{block}.skip2"), style, f"{block}.style2")
    inner = do.style_relu(do.conv(inner, f"{block}.conv2"), style, f"{block}.style3")
    return do.add(x, do.conv(inner, f"{block}.conv3"))
