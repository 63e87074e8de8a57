"""Look into a weights file without running it: kind, channels, classes, diameters.

Cellpose loads a 4-class file with a random output layer, a 1-channel file by broadcasting and a
mistyped path as cyto3, all without an error. So keys and shapes are compared first, here.
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cypose_dask.errors import ModelError

__all__ = ["Probe", "probe_weights"]

_FIRST_LAYER = "downsample.down.res_down_0.conv.conv_0.0.weight"
_LAST_LAYER = "output.2.weight"
_DIAMETERS = ("diam_mean", "diam_labels")
# Cellpose 1 files have no diameters; `CPnet` then keeps this default.
_CELLPOSE_1_DIAMETER = 30.0


@dataclass(frozen=True, slots=True)
class Probe:
    """What a weights file holds; diameters in px."""

    network_inputs: int
    diam_mean: float
    diameter: float
    backbone: str


def probe_weights(path: Path, *, classes: int = 3) -> Probe:
    """Check that a file holds a Cellpose 2 or 3 network, and read its size and diameters.

    Parameters
    ----------
    path : Path
        The weights file.
    classes : int
        Outputs that are expected: 3 for segmentation, 1 for restoration.

    Raises
    ------
    ModelError
        If the file is no flat state dict of tensors, or has other keys, shapes or outputs than
        `cellpose.resnet_torch.CPnet`. No code in the file is executed.
    """
    state = _load_state(path)
    _refuse_other_generations(path, state)
    if _is_transformer(state):
        return Probe(3, *_diameters(state), backbone="transformer")
    _check_classes(path, state, classes)
    inputs = int(state[_FIRST_LAYER].shape[0])
    if not 1 <= inputs <= 3:
        raise ModelError(
            f"{path}: the network has {inputs} input channels; Cellpose 2 and 3 have 1 to 3."
        )
    _check_shapes(path, state, (inputs, classes))
    return Probe(inputs, *_diameters(state), backbone="default")


def _load_state(path: Path) -> dict[str, Any]:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        ValueError,
    ) as error:
        raise ModelError(
            f"{path}: not a file of plain PyTorch weights ({_first_line(error)}). Expected a state "
            "dict as Cellpose 2 or 3 saves it; files that would run code are never loaded."
        ) from error
    if not isinstance(state, dict) or not all(torch.is_tensor(v) for v in state.values()):
        raise ModelError(
            f"{path}: holds a {type(state).__name__}, not a flat dictionary of tensors. "
            "Save the network's state_dict()."
        )
    return state


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _refuse_other_generations(path: Path, state: dict[str, Any]) -> None:
    if "W2" in state:
        raise ModelError(
            f"{path}: weights of Cellpose 4 (Cellpose-SAM). This version runs Cellpose 2 and 3 "
            "networks; choose such a file, see `cypose-dask models`."
        )
    if any(key.startswith("module.") for key in state):
        raise ModelError(
            f"{path}: keys begin with 'module.' (saved from DataParallel), which Cellpose cannot "
            "read. Save `net.module.state_dict()` instead."
        )


def _is_transformer(state: dict[str, Any]) -> bool:
    return any(key.startswith("encoder.") for key in state) and _FIRST_LAYER not in state


def _check_classes(path: Path, state: dict[str, Any], classes: int) -> None:
    missing = [key for key in (_FIRST_LAYER, _LAST_LAYER) if key not in state]
    if missing:
        raise ModelError(
            f"{path}: no Cellpose network (no {missing[0]!r} among its {len(state)} tensors). "
            "Expected weights of Cellpose 2 or 3."
        )
    found = int(state[_LAST_LAYER].shape[0])
    if found == classes:
        return
    kinds = {1: "an image restoration network", 4: "an older Omnipose network"}
    wanted = "segmentation (3 outputs)" if classes == 3 else "restoration (1 output)"
    raise ModelError(
        f"{path}: the network has {found} outputs, which is {kinds.get(found, 'an unknown kind')}; "
        f"expected {wanted}."
    )


def _check_shapes(path: Path, state: dict[str, Any], size: tuple[int, int]) -> None:
    import torch
    from cellpose.resnet_torch import CPnet

    inputs, classes = size
    with torch.device("meta"):
        network = CPnet([inputs, 32, 64, 128, 256], classes, sz=3)
    expected = {key: tuple(v.shape) for key, v in network.state_dict().items()}
    found = {key: tuple(v.shape) for key, v in state.items()}
    for key in _DIAMETERS:
        expected.pop(key)
        found.pop(key, None)
    wrong = sorted(set(expected.items()) ^ set(found.items()))
    if wrong:
        names = ", ".join(dict.fromkeys(key for key, _ in wrong))
        raise ModelError(
            f"{path}: not the layers of a Cellpose 2 or 3 network; these are missing, unknown or "
            f"of another shape: {names[:300]}."
        )


def _diameters(state: dict[str, Any]) -> tuple[float, float]:
    mean, labels = (
        float(state[key].float().reshape(-1)[0]) if key in state else _CELLPOSE_1_DIAMETER
        for key in _DIAMETERS
    )
    return mean, labels
