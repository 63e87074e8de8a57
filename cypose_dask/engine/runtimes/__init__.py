"""What runs the network on this machine's processor.

A runtime is opened once a process and then called with tiles. All of them read the weights that
`conversion` folds and keeps; so the one that needs no torch never imports it.
"""

from __future__ import annotations

import importlib.util
from typing import Protocol

import numpy as np

from cypose_dask.engine.runtimes.conversion import convert_network
from cypose_dask.errors import ModelError, SettingsError
from cypose_dask.models.spec import ModelSpec

__all__ = ["Runtime", "choose_runtime", "convert_network", "open_runtime"]


class Runtime(Protocol):
    """A network that is ready to run; may be called from several threads."""

    @property
    def name(self) -> str:
        """``"openvino"`` or ``"torch"``."""
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
        ``"openvino"``, ``"torch"``, or ``"auto"``: OpenVINO where it is installed and knows the
        network, else torch.

    Raises
    ------
    SettingsError
        If the wanted runtime is unknown or not installed.
    ModelError
        If it cannot run this model.
    """
    installed = importlib.util.find_spec("openvino") is not None
    if wanted == "auto":
        return "openvino" if installed and spec.backbone == "default" else "torch"
    if wanted not in ("openvino", "torch"):
        raise SettingsError(f"runtime is {wanted!r}; choose one of auto, openvino, torch.")
    if wanted == "openvino" and not installed:
        raise SettingsError(
            "runtime is 'openvino', which is not installed here. Install cypose-dask[cpu] on "
            "every machine that computes, or leave out --runtime."
        )
    if wanted == "openvino" and spec.backbone != "default":
        raise ModelError(
            f"Model {spec.name!r} is a {spec.backbone}, which OpenVINO does not run here. Leave "
            "out --runtime: torch runs it."
        )
    return wanted


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
        Threads that will call it at the same time (OpenVINO; torch shares its cores among them).

    Raises
    ------
    ModelError
        If the file is no longer the one that was hashed when the model was resolved.
    """
    # Here, because importing torch takes seconds and OpenVINO may be absent.
    if name == "openvino":
        from cypose_dask.engine.runtimes.on_openvino import OpenVinoRuntime

        return OpenVinoRuntime.open(spec, threads, callers)
    from cypose_dask.engine.runtimes.on_torch import TorchRuntime

    return TorchRuntime.open(spec, threads * callers)
