"""The network in OpenVINO, which multiplies as fast as the processor can."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

import numpy as np

from cypose_dask.engine.runtimes import cpnet
from cypose_dask.engine.runtimes.batches import in_batches
from cypose_dask.engine.runtimes.conversion import folded_weights
from cypose_dask.engine.runtimes.fold import Folded
from cypose_dask.models.spec import ModelSpec

__all__ = ["OpenVinoRuntime"]


def _openvino() -> Any:
    # Importing it reports to its maker over the network and writes into the home folder, unless
    # this package, which it installs, cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


ov = _openvino()
ops = ov.opset13

_ROWS_AND_COLUMNS = np.array([2, 3])


class OpenVinoRuntime:
    """A network in OpenVINO on the processor."""

    name = "openvino"

    def __init__(self, compiled: Any, threads: int) -> None:
        self._compiled = compiled
        self._threads = threads
        # A request holds the tensors of one call, so each calling thread needs its own.
        self._of_thread = threading.local()

    @classmethod
    def open(cls, spec: ModelSpec, threads: int, callers: int) -> OpenVinoRuntime:
        """Load a model."""
        model = _record(folded_weights(spec))
        return cls(ov.Core().compile_model(model, "CPU", _options(threads, callers)), threads)

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the network, see `Runtime`."""
        return in_batches(self._run, np.ascontiguousarray(tiles), self._threads)

    def _run(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        request = self._request()
        request.infer([tiles], share_inputs=True)
        output, styles = (request.get_output_tensor(i).data for i in range(2))
        return output, styles

    def _request(self) -> Any:
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        return self._of_thread.request


def _options(threads: int, callers: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 or half precision where there is any
        "INFERENCE_NUM_THREADS": threads * callers,
        "NUM_STREAMS": callers,  # calls beyond their number wait for each other
        # Pinned, all workers of a machine would compute on its first cores.
        "ENABLE_CPU_PINNING": False,
    }


def _record(folded: Folded) -> Any:
    """Return the network for tiles (N, C, H, W) of any N, H and W."""
    inputs = folded["down0.proj.weight"].shape[1]
    tiles = ops.parameter([-1, inputs, -1, -1], np.float32)
    return ov.Model(list(cpnet.forward(_Recorder(folded), tiles)), [tiles])


class _Recorder:
    """`cpnet.Operations` that are written down instead of carried out."""

    def __init__(self, folded: Folded) -> None:
        self._folded = folded

    def conv(self, x: Any, name: str) -> Any:
        weight, bias = self._folded[f"{name}.weight"], self._folded[f"{name}.bias"]
        one, pad = [1, 1], [weight.shape[-1] // 2] * 2
        convolved = ops.convolution(x, ops.constant(weight), one, pad, pad, one)
        return ops.add(convolved, ops.constant(bias[:, np.newaxis, np.newaxis]))

    def norm_relu(self, x: Any, name: str) -> Any:
        return ops.relu(ops.add(self.scale(x, name), self._constant(f"{name}.shift")))

    def relu(self, x: Any) -> Any:
        return ops.relu(x)

    def add(self, x: Any, y: Any) -> Any:
        return ops.add(x, y)

    def pool(self, x: Any) -> Any:
        two, one, none = [2, 2], [1, 1], [0, 0]
        return ops.max_pool(x, two, one, none, none, two).output(0)

    def upsample(self, x: Any) -> Any:
        return ops.interpolate(
            x,
            np.full(2, 2, np.float32),
            "nearest",
            "scales",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
            axes=_ROWS_AND_COLUMNS,
        )

    def style(self, x: Any) -> Any:
        mean = ops.reduce_mean(x, _ROWS_AND_COLUMNS, keep_dims=False)
        square = ops.reduce_sum(ops.multiply(mean, mean), np.array([1]), keep_dims=True)
        return ops.divide(mean, ops.sqrt(square))

    def style_relu(self, x: Any, style: Any, name: str) -> Any:
        dense = ops.matmul(style, self._constant(f"{name}.weight"), False, True)
        dense = ops.add(dense, self._constant(f"{name}.bias"))
        return ops.relu(ops.add(x, ops.unsqueeze(dense, _ROWS_AND_COLUMNS)))

    def scale(self, x: Any, name: str) -> Any:
        return ops.multiply(x, self._constant(f"{name}.scale"))

    def _constant(self, key: str) -> Any:
        return ops.constant(self._folded[key])
