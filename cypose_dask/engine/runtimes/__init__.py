"""What runs the network on this machine's processor.

`winograd` is our own and the fastest; `openvino` multiplies everything out, as fast as a processor
can; `torch` runs every network.

A runtime is opened once a process and then called with tiles. All of them read the weights that
`conversion` folds and keeps; so the one that needs no torch never imports it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Protocol

import numpy as np

from cypose_dask.engine.runtimes.conversion import convert_network
from cypose_dask.errors import ModelError, SettingsError
from cypose_dask.models.spec import ModelSpec

__all__ = ["Runtime", "choose_runtime", "convert_network", "open_runtime", "packages_of"]


class Runtime(Protocol):
    """A network that is ready to run; may be called from several threads."""

    @property
    def name(self) -> str:
        """``"winograd"``, ``"openvino"`` or ``"torch"``."""
        ...

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the network on tiles.

        Parameters
        ----------
        tiles : (N, C, H, W) ndarray of float32
            Any number; H and W are multiples of 16.

        Returns
        -------
        output : (N, 3, H, W) ndarray of float32
            Flow in y, flow in x, dimensionless, 5 x the unit flow; logit.
        styles : (N, 256) ndarray of float32
            One vector of length 1 a tile.
        """
        ...


def choose_runtime(spec: ModelSpec, wanted: str = "auto") -> str:
    """Settle which runtime runs a model on this machine's processor.

    Parameters
    ----------
    spec : ModelSpec
    wanted : str
        ``"winograd"``, ``"openvino"``, ``"torch"``, or ``"auto"``: Winograd's filtering if it knows
        the network, else torch.

    Raises
    ------
    SettingsError
        If the wanted runtime is unknown or not installed.
    ModelError
        If it cannot run this model.
    """
    is_known = spec.backbone == "default"
    if wanted == "auto":
        return "winograd" if is_known else "torch"
    if wanted not in _OPENED:
        raise SettingsError(f"runtime is {wanted!r}; choose one of auto, {', '.join(_OPENED)}.")
    if wanted == "openvino" and importlib.util.find_spec("openvino") is None:
        raise SettingsError(
            "runtime is 'openvino', which is not installed here. Install cypose-dask[cpu] on "
            "every machine that computes, or leave out --runtime."
        )
    if wanted != "torch" and not is_known:
        raise ModelError(
            f"Model {spec.name!r} is a {spec.backbone}, which {wanted} does not run here. Leave "
            "out --runtime: torch runs it."
        )
    return wanted


def packages_of(name: str) -> tuple[str, ...]:
    """Return the packages whose versions may change what a runtime computes."""
    return {"winograd": (), "openvino": ("openvino",)}.get(name, ("torch",))


def open_runtime(spec: ModelSpec, name: str, *, threads: int, callers: int = 1) -> Runtime:
    """Load a model into a runtime.

    Parameters
    ----------
    spec : ModelSpec
    name : str
        From `choose_runtime`.
    threads : int
        Cores that one call may use; also the tiles that it holds in memory at once.
    callers : int
        Threads that will call it at the same time (torch shares its cores among them).

    Raises
    ------
    ModelError
        If the file is no longer the one that was hashed when the model was resolved.
    """
    return _OPENED[name](spec, threads, callers)


# Each imports its own, because importing torch takes seconds and OpenVINO may be absent.


def _open_winograd(spec: ModelSpec, threads: int, callers: int) -> Runtime:
    from cypose_dask.engine.runtimes.on_winograd import WinogradRuntime

    return WinogradRuntime.open(spec, threads)


def _open_openvino(spec: ModelSpec, threads: int, callers: int) -> Runtime:
    from cypose_dask.engine.runtimes.on_openvino import OpenVinoRuntime

    return OpenVinoRuntime.open(spec, threads, callers)


def _open_torch(spec: ModelSpec, threads: int, callers: int) -> Runtime:
    from cypose_dask.engine.runtimes.on_torch import TorchRuntime

    return TorchRuntime.open(spec, threads * callers)


_OPENED: dict[str, Callable[[ModelSpec, int, int], Runtime]] = {
    "winograd": _open_winograd,
    "openvino": _open_openvino,
    "torch": _open_torch,
}
