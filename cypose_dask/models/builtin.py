"""Cellpose's own models: their names, where they lie, and their download.

Source: cellpose 3.1.1.3 `models.MODEL_NAMES`, `models.model_path` and `denoise.MODEL_NAMES`; a test
compares the tables. They are repeated because importing `cellpose.models` takes seconds, and
because 3.1.1.3 forgot three names of Cellpose 2 whose files are still served.
"""

from __future__ import annotations

import http.client
import logging
import os
import ssl
from pathlib import Path

from cypose_dask.errors import ModelError, ModelNotFoundError

__all__ = [
    "BUILTIN",
    "FORGOTTEN",
    "RESTORATION",
    "fetch_builtin",
    "model_folder",
    "name_of_file",
    "require_transformer_extra",
    "size_model_file",
]

logger = logging.getLogger(__name__)

BUILTIN = (
    "cyto3", "nuclei", "cyto2_cp3", "tissuenet_cp3", "livecell_cp3", "yeast_PhC_cp3",
    "yeast_BF_cp3", "bact_phase_cp3", "bact_fluor_cp3", "deepbacs_cp3", "cyto2", "cyto", "CPx",
    "transformer_cp3", "neurips_cellpose_default", "neurips_cellpose_transformer",
    "neurips_grayscale_cyto2", "CP", "TN1", "TN2", "TN3", "LC1", "LC2", "LC3", "LC4",
)  # fmt: skip
FORGOTTEN = ("tissuenet", "livecell", "general")
TRANSFORMERS = ("transformer_cp3", "neurips_cellpose_transformer")

_KINDS = ("denoise", "deblur", "upsample", "oneclick")
_TRAINED_ON = ("cyto3", "cyto2", "nuclei")
RESTORATION = (
    *(f"{kind}_{cells}" for kind in _KINDS for cells in _TRAINED_ON),
    *(f"{k}_{loss}_{c}" for k in _KINDS for loss in ("per", "seg", "rec") for c in _TRAINED_ON[1:]),
    *(f"aniso_{cells}" for cells in _TRAINED_ON[1:]),
)

_FILES = {"cyto": "cytotorch_0", "cyto2": "cyto2torch_0", "nuclei": "nucleitorch_0"}
_SIZE_FILES = {
    "cyto3": "size_cyto3.npy",
    **{name: f"size_{file}.npy" for name, file in _FILES.items()},
}
# Cellpose ignores the `diam_mean` in the file when a model is asked for by its built-in name.
_NUCLEI_DIAMETER, _CELL_DIAMETER = 17.0, 30.0


def model_folder() -> Path:
    """Return the folder of Cellpose's model cache.

    Source: cellpose 3.1.1.3 `models.MODEL_DIR`, which reads the same variable when it is imported.
    """
    folder = os.environ.get("CELLPOSE_LOCAL_MODELS_PATH")
    return Path(folder) if folder else Path.home() / ".cellpose" / "models"


def builtin_diam_mean(name: str) -> float | None:
    """Return the diameter that Cellpose forces for a built-in name, px, or None to ask the file."""
    if name in BUILTIN or name in RESTORATION:
        return _NUCLEI_DIAMETER if "nuclei" in name else _CELL_DIAMETER
    return None


def path_diam_mean(path: Path) -> float | None:
    """Return the diameter that Cellpose forces for a path, px: it knows its nuclei file by name."""
    return _NUCLEI_DIAMETER if str(path).endswith(_FILES["nuclei"]) else None


def fetch_builtin(name: str) -> Path:
    """Return the cached file of a built-in model, downloading it when it is absent.

    Raises
    ------
    ModelNotFoundError
        If the file is absent and cannot be downloaded. The message names file and folder.
    ModelError
        If it is a transformer, and the package that it needs is not installed.
    """
    if name in TRANSFORMERS:
        require_transformer_extra()
    return _fetch(_FILES.get(name, name), name)


def name_of_file(file: str) -> str:
    """Return the built-in name of a file of Cellpose's; other names of files are names already."""
    return next((name for name, known in _FILES.items() if known == file), file)


def is_cached(name: str) -> bool:
    """Tell whether a built-in model's file is on this machine."""
    return (model_folder() / _FILES.get(name, name)).is_file()


def size_model_file(name: str) -> Path | None:
    """Return the cached size model of a built-in name, or None where Cellpose has none."""
    return _fetch(_SIZE_FILES[name], name) if name in _SIZE_FILES else None


def require_transformer_extra() -> None:
    """Raise ModelError where the package that runs Cellpose's transformers is not installed."""
    try:
        import segmentation_models_pytorch  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "This model is a transformer and needs another package. Install it with "
            "`pip install 'cypose-dask[transformer]'`."
        ) from error


def _fetch(file: str, name: str) -> Path:
    path = model_folder() / file
    if path.is_file():
        return path
    try:
        return _download(file)
    except (OSError, http.client.HTTPException) as error:
        raise ModelNotFoundError(
            f"Model {name!r} is built into Cellpose, but its file is not on this machine and could "
            f"not be downloaded ({error}). Put the file {file!r} into {path.parent} (from another "
            "machine that has it), or set CELLPOSE_LOCAL_MODELS_PATH to the folder that holds it."
        ) from error


def _download(file: str) -> Path:
    from cellpose import models

    logger.info("downloading %s from cellpose.org", file)
    # Cellpose switches TLS verification off for the whole process while it downloads.
    verified = ssl._create_default_https_context
    try:
        # Its folder is settled when it is imported, so its answer counts, not `model_folder`.
        return Path(models.cache_model_path(file))
    finally:
        ssl._create_default_https_context = verified
