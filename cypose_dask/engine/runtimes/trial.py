"""Whether a runtime computes here, found out with one small operation."""

from __future__ import annotations

import numpy as np

from cypose_dask.errors import DeviceError

__all__ = ["try_runtime"]


def try_runtime(name: str) -> str:
    """Let a runtime compute on this processor, and return what was found out, in words.

    torch is not tried: importing it takes seconds, and whoever needs it imports it anyway.

    Parameters
    ----------
    name : str
        ``"openvino"``, ``"torch"`` or ``"cellpose"``.

    Raises
    ------
    DeviceError
        If it computes nonsense. What is raised while it is imported or started passes through.
    """
    if name != "openvino":
        return f"{name}, not tried"
    # Here, because it may not be installed, which is what is asked.
    from cypose_dask.engine.runtimes.on_openvino import ops, ov

    numbers = np.array([-1.0, 2.0], np.float32)
    given = ops.parameter([2], np.float32)
    compiled = ov.Core().compile_model(ov.Model([ops.relu(given)], [given]), "CPU")
    found = compiled([numbers])[0]
    if not np.array_equal(found, [0, 2]):
        raise DeviceError(
            f"OpenVINO makes {found.tolist()} out of {numbers.tolist()} on this processor; "
            "expected [0, 2]. Give --runtime torch."
        )
    return f"{name} ran a kernel"
