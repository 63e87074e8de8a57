"""Whether a runtime computes here, found out with one small operation."""

from __future__ import annotations

import numpy as np

from cypose_dask.errors import DeviceError

__all__ = ["try_runtime"]


def try_runtime(name: str) -> str:
    """Let a runtime compute on this processor, and return what was found out, in words.

    torch is not tried: importing it takes seconds, and whoever needs it imports it anyway. Our own
    kernels are compiled, which takes seconds too, but once a machine.

    Parameters
    ----------
    name : str
        ``"winograd"``, ``"openvino"``, ``"torch"`` or ``"cellpose"``.

    Raises
    ------
    DeviceError
        If it computes nonsense. What is raised while it is imported or started passes through.
    """
    if name not in _TRIALS:
        return f"{name}, not tried"
    found = _TRIALS[name]()
    if not np.allclose(found, _EXPECTED):
        raise DeviceError(
            f"{name} makes {found.tolist()} out of {_GIVEN.tolist()} on this processor; expected "
            f"{_EXPECTED.tolist()}. Give --runtime torch."
        )
    return f"{name} ran a kernel"


_GIVEN = np.array([-1, 2], np.float32)
_EXPECTED = np.array([0, 2], np.float32)


def _try_winograd() -> np.ndarray:
    from cypose_dask.engine.runtimes.winograd.operations import Operations

    nothing_but_the_middle = np.pad(np.ones((1, 1, 1, 1), np.float32), [(0, 0)] * 2 + [(1, 1)] * 2)
    do = Operations({"same.weight": nothing_but_the_middle, "same.bias": np.zeros(1, np.float32)})
    tile = do.relu(do.conv(do.read(_GIVEN.reshape(1, 1, 2)), "same"))
    return do.written(tile, 1).ravel()


def _try_openvino() -> np.ndarray:
    # Here, because it may not be installed, which is what is asked.
    from cypose_dask.engine.runtimes.on_openvino import ops, ov

    given = ops.parameter([2], np.float32)
    compiled = ov.Core().compile_model(ov.Model([ops.relu(given)], [given]), "CPU")
    return np.array(compiled([_GIVEN])[0])


_TRIALS = {"winograd": _try_winograd, "openvino": _try_openvino}
