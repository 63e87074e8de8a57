"""Folded weights, made once a model and kept on disk.

Reading a weights file takes torch, whose import costs every worker seconds and 200 MB. The process
that converts imports it; all that find the converted file do not.
"""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from pathlib import Path

import numpy as np

from cypose_dask.engine.runtimes.fold import Folded, fold
from cypose_dask.errors import ModelError
from cypose_dask.models.cache import cache_folder, kept_file
from cypose_dask.models.spec import ModelSpec

__all__ = ["convert_network", "folded_weights"]

logger = logging.getLogger(__name__)

# Raised when `fold` gives other arrays or names than it did.
_VERSION = 1
# What numpy raises for a file that is missing, cut short, or not what we wrote: archives carry
# checksums.
_UNREADABLE = (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile)


def convert_network(spec: ModelSpec) -> Path:
    """Convert a model for the runtimes, unless this machine has it already.

    Processes may convert one model at the same time.

    Returns
    -------
    Path
        Where the converted weights lie. In a folder that cannot be written they do not, and every
        process converts for itself; a warning says so.

    Raises
    ------
    ModelError
        As `folded_weights`.
    """
    folded_weights(spec)
    return _place(spec)


def folded_weights(spec: ModelSpec) -> Folded:
    """Return a model's folded weights, converted if this machine does not have them.

    Raises
    ------
    ModelError
        If the model is no residual U-Net, or its file is no longer the one that was hashed.
    """
    if spec.backbone != "default":
        raise ModelError(f"Model {spec.name!r} is a {spec.backbone}; only U-Nets are converted.")
    path = _place(spec)
    folded = _read(path)
    if folded is None:
        folded = _convert(spec)
        _write(path, folded)
    return folded


def _place(spec: ModelSpec) -> Path:
    return cache_folder() / "networks" / f"{spec.sha256}-v{_VERSION}.npz"


def _read(path: Path) -> Folded | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        return None
    except _UNREADABLE as error:
        logger.info("%s is damaged and is made again: %s", path, error)
        return None


def _convert(spec: ModelSpec) -> Folded:
    import torch

    try:
        data = Path(spec.path).read_bytes()
    except OSError as error:
        raise ModelError(
            f"Model {spec.name!r}: {spec.path} cannot be read ({error.strerror})."
        ) from error
    # What is kept under a hash must come from the bytes that have it.
    if hashlib.sha256(data).hexdigest() != spec.sha256:
        raise ModelError(
            f"{spec.path} was changed after it was resolved; its SHA-256 is no longer "
            f"{spec.sha256}. Start again."
        )
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return fold({key: tensor.double().numpy() for key, tensor in state.items()})


def _write(path: Path, folded: Folded) -> None:
    try:
        with kept_file(path) as file:
            np.savez(file, **folded)
    except OSError as error:
        logger.warning(
            "The converted network cannot be kept (%s), so every process converts it for itself, "
            "which takes seconds. Set CYPOSE_CACHE to a folder that can be written.",
            error,
        )
