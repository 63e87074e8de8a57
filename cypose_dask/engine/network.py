"""Networks in memory: one of each model a process, and one user of the device at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cypose_dask.errors import ModelError
from cypose_dask.models.spec import ModelSpec, file_sha256

__all__ = ["Network", "Networks", "forward", "load_networks"]

# Cellpose's own tiling; together with a batch of 8 tiles these are `CellposeModel.eval`'s defaults.
TILE_PX, TILE_OVERLAP, TILES_PER_BATCH = 224, 0.1, 8


@dataclass(frozen=True, slots=True)
class Network:
    """One model in memory: Cellpose's object, the address it came from and its device."""

    cellpose: Any
    spec: ModelSpec
    device: str


@dataclass(frozen=True, slots=True)
class Networks:
    """What a run needs in memory: the segmentation network and, if asked for, a restoration."""

    segmentation: Network
    restoration: Network | None = None


_loaded: dict[tuple[str, str], Any] = {}
_loading = threading.Lock()
# Blocks on neighbouring threads read, follow flows and write while one of them is on the device.
_on_device = threading.Semaphore(1)


def load_networks(model: ModelSpec, device: str, restoration: ModelSpec | None = None) -> Networks:
    """Return the networks of a run, loading each at most once a process.

    Raises
    ------
    ModelError
        If a file is no longer the one that was hashed when it was resolved.
    """
    return Networks(
        segmentation=_load_once(model, device, _load_segmentation),
        restoration=_load_once(restoration, device, _load_restoration) if restoration else None,
    )


def forward(network: Network, image: np.ndarray, rescale: float) -> tuple[np.ndarray, np.ndarray]:
    """Run a segmentation network over one frame, in tiles.

    Parameters
    ----------
    image : (Y, X, C) ndarray of float32
        Normalised, dimensionless; C is the network's number of inputs.
    rescale : float
        ``diam_mean / diameter``, dimensionless; the frame is resized by it first.

    Returns
    -------
    output : (Y', X', 3) ndarray of float32
        Flow in y, flow in x, logit, at the rescaled size.
    style : (256,) ndarray of float32

    Notes
    -----
    Source: cellpose 3.1.1.3 `models.CellposeModel._run_net`.
    """
    from cellpose import core

    with _on_device:
        output, styles = core.run_net(
            network.cellpose.net,
            image[np.newaxis],
            batch_size=TILES_PER_BATCH,
            bsize=TILE_PX,
            augment=False,
            tile_overlap=TILE_OVERLAP,
            rsz=rescale if rescale != 1.0 else None,
        )
    return output[0], styles[0]


def restore_channel(network: Network, channel: np.ndarray, **options: Any) -> np.ndarray:
    """Run a restoration network over one (Y, X) channel; options as `DenoiseModel.eval`."""
    with _on_device:
        return network.cellpose.eval(channel, **options)[..., 0]


def _load_once(spec: ModelSpec, device: str, load: Callable[[ModelSpec, str], Any]) -> Network:
    key = (spec.sha256, device)
    with _loading:
        if key not in _loaded:
            _check_unchanged(spec)
            _loaded[key] = load(spec, device)
        # Equal weights can lie at two addresses; the caller keeps the one it asked for.
        return Network(_loaded[key], spec, device)


def _check_unchanged(spec: ModelSpec) -> None:
    try:
        found = file_sha256(spec.path)
    except OSError as error:
        raise ModelError(
            f"Model {spec.name!r}: this worker cannot read {spec.path} ({error}). The weights must "
            "lie on a disk that every worker sees."
        ) from error
    if found != spec.sha256:
        raise ModelError(
            f"{spec.path}: SHA-256 is {found}, but {spec.sha256} was resolved at the start. The "
            "file was changed meanwhile; start again."
        )


def _load_segmentation(spec: ModelSpec, device: str) -> Any:
    import torch
    from cellpose import models

    # Cellpose's dynamics make sparse tensors; without a choice torch warns once a process.
    torch.sparse.check_sparse_tensor_invariants.disable()
    return models.CellposeModel(
        pretrained_model=spec.path,
        nchan=spec.network_inputs,
        device=torch.device(device),
        backbone=spec.backbone,
    )


def _load_restoration(spec: ModelSpec, device: str) -> Any:
    import torch
    from cellpose import denoise

    return denoise.DenoiseModel(
        pretrained_model=spec.path,
        nchan=spec.network_inputs,
        diam_mean=spec.diam_mean,
        device=torch.device(device),
    )
