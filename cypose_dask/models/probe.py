"""Look into a weights file without running it: kind, channels, classes, diameters.

Cellpose loads a 4-class file with a random output layer, a 1-channel file by broadcasting, a file
that lacks a layer with a random one and a mistyped path as cyto3, all without an error. So keys,
shapes and numbers are compared first, here.
"""

from __future__ import annotations

import functools
import math
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cypose_dask.errors import ModelError
from cypose_dask.models.builtin import require_transformer_extra

__all__ = ["Probe", "probe_weights"]

_FIRST_LAYER = "downsample.down.res_down_0.conv.conv_0.0.weight"
_LAST_LAYER = "output.2.weight"
_TRANSFORMER_ENCODER = "net.encoder."
_TRANSFORMER_LAST_LAYER = "net.segmentation_head.0.weight"
_DIAMETERS = ("diam_mean", "diam_labels")
# Cellpose 1 files have no diameters; `CPnet` then keeps this default.
_CELLPOSE_1_DIAMETER = 30.0
# Integer counters of the batch norms, which no forward pass reads and converted files lack.
_COUNTER = "num_batches_tracked"
# torch checks little in files of its older format: damaged ones raise nearly anything.
_LOAD_ERRORS = (
    pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, OSError, EOFError, ValueError,
    LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, MemoryError,
    struct.error,
)  # fmt: skip


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
        If the file is no flat state dict of tensors, has other keys, shapes or outputs than
        `cellpose.resnet_torch.CPnet`, or numbers that are not finite. No code in the file is
        executed.
    """
    state = _load_state(path)
    _refuse_other_generations(path, state)
    transformer = any(key.startswith(_TRANSFORMER_ENCODER) for key in state)
    _check_classes(path, state, (classes, transformer))
    inputs = 3 if transformer else _count(state[_FIRST_LAYER])
    if not 1 <= inputs <= 3:
        raise ModelError(
            f"{path}: the network has {inputs} input channels; Cellpose 2 and 3 have 1 to 3."
        )
    expected = _transformer_shapes() if transformer else _unet_shapes(inputs, classes)
    _check_shapes(path, state, expected)
    _check_numbers(path, state)
    mean, labels = (_diameter(path, state, key) for key in _DIAMETERS)
    return Probe(inputs, mean, labels, "transformer" if transformer else "default")


def _load_state(path: Path) -> dict[str, Any]:
    import torch

    _refuse_packed(path)
    try:
        # Its warnings about damaged files would say less than our error.
        with warnings.catch_warnings(action="ignore"):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (IsADirectoryError, PermissionError, FileNotFoundError) as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).") from error
    except _LOAD_ERRORS as error:
        raise ModelError(
            f"{path}: not a file of plain PyTorch weights ({_reason(path, error)}). Expected a "
            "state dict as Cellpose 2 or 3 saves it; files that would run code are never loaded."
        ) from error
    if not isinstance(state, dict) or not all(_is_entry(torch, *item) for item in state.items()):
        raise ModelError(
            f"{path}: holds a {type(state).__name__}, not a flat dictionary of tensors. "
            "Save the network's state_dict()."
        )
    return state


def _refuse_packed(path: Path) -> None:
    """Refuse an archive that holds more than its bytes: torch, which never packs, unpacks it all.

    Raises
    ------
    ModelError
        If a part of the archive is packed, or several share their bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except _LOAD_ERRORS:  # no archive, or a damaged one: torch's own error says more
        return
    packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if packed or sum(part.file_size for part in parts) > path.stat().st_size:
        raise ModelError(
            f"{path}: a packed archive, which PyTorch does not write. Expected a state dict as "
            "Cellpose 2 or 3 saves it; save it again with torch.save, or unpack the archive."
        )


def _is_entry(torch: Any, key: object, value: object) -> bool:
    return isinstance(key, str) and torch.is_tensor(value)


def _reason(path: Path, error: BaseException) -> str:
    """Say what is wrong, without torch's advice to load the file in an unsafe way."""
    if path.stat().st_size == 0:
        return "it is empty"
    call = re.search(r"GLOBAL (\S+)", str(error))
    if call:
        return f"it names {call[1]}, which is code"
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(b"PK"):
        return "a damaged or incomplete archive, or one of something else"
    return f"it begins with {head!r}"


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


def _check_classes(path: Path, state: dict[str, Any], expected: tuple[int, bool]) -> None:
    classes, transformer = expected
    needed = (_TRANSFORMER_LAST_LAYER,) if transformer else (_FIRST_LAYER, _LAST_LAYER)
    missing = [key for key in needed if key not in state]
    if missing:
        raise ModelError(
            f"{path}: no Cellpose network (no {missing[0]!r} among its {len(state)} tensors). "
            "Expected weights of Cellpose 2 or 3."
        )
    found = _count(state[needed[-1]])
    if found == classes:
        return
    kinds = {
        1: "an image restoration network (for --denoise)",
        3: "a segmentation network (for --model)",
        4: "an older Omnipose network",
    }
    wanted = "segmentation (3 outputs)" if classes == 3 else "restoration (1 output)"
    raise ModelError(
        f"{path}: the network has {found} output{'s' if found != 1 else ''}, which is "
        f"{kinds.get(found, 'an unknown kind')}; expected {wanted}."
    )


def _count(tensor: Any) -> int:
    return int(tensor.shape[0]) if tensor.ndim else 0


@functools.cache
def _unet_shapes(inputs: int, classes: int) -> dict[str, tuple[int, ...]]:
    import torch
    from cellpose.resnet_torch import CPnet

    # Not on the meta device: that imports torch's compiler, which takes a second.
    with torch.random.fork_rng(devices=[]):
        return _shapes(CPnet([inputs, 32, 64, 128, 256], classes, sz=3).state_dict())


@functools.cache
def _transformer_shapes() -> dict[str, tuple[int, ...]]:
    require_transformer_extra()
    import torch
    from cellpose.segformer import Transformer

    with torch.random.fork_rng(devices=[]):
        return _shapes(Transformer(encoder_weights=None).state_dict())


def _check_shapes(path: Path, state: dict[str, Any], expected: dict[str, tuple[int, ...]]) -> None:
    found = _shapes(state)
    wrong = {
        "missing": [key for key in expected if key not in found],
        "unknown": [key for key in found if key not in expected],
        "of another shape": [k for k, v in found.items() if k in expected and expected[k] != v],
    }
    if any(wrong.values()):
        listed = "; ".join(f"{what}: {_few(keys)}" for what, keys in wrong.items() if keys)
        raise ModelError(f"{path}: not the layers of a Cellpose 2 or 3 network ({listed}).")


def _shapes(state: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {
        key: tuple(value.shape)
        for key, value in state.items()
        if key not in _DIAMETERS and not key.endswith(_COUNTER)
    }


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _check_numbers(path: Path, state: dict[str, Any]) -> None:
    """Refuse what would load and then find no cells anywhere."""
    wrong = [key for key, value in state.items() if not _is_usable(key, value)]
    if wrong:
        raise ModelError(
            f"{path}: damaged weights; not plain finite numbers in {_few(wrong)}. Training may "
            "have diverged, or the file was changed. Choose an earlier copy."
        )


def _is_usable(key: str, value: Any) -> bool:
    import torch

    if value.layout != torch.strided or value.is_meta:
        return False
    if key.endswith(_COUNTER):
        return True
    # A sum is as finite as its parts, and needs no copy.
    return bool(value.is_floating_point() and value.sum(dtype=torch.float32).isfinite())


def _diameter(path: Path, state: dict[str, Any], key: str) -> float:
    if key not in state:
        return _CELLPOSE_1_DIAMETER
    values: Iterable[float] = state[key].float().reshape(-1).tolist()
    diameter = next(iter(values), math.nan)
    if not diameter > 0:
        raise ModelError(f"{path}: {key} is {diameter:g}; expected a diameter above 0 px.")
    return float(diameter)
