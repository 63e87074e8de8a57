"""What a weights file holds, probed once: probing imports torch and Cellpose, ten seconds a run."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

from cypose_dask.models.builtin import require_transformer_extra
from cypose_dask.models.cache import cache_folder, kept_file
from cypose_dask.models.probe import Probe, probe_weights

__all__ = ["probe_once"]

logger = logging.getLogger(__name__)

# Raised when the probe checks more than it did, so that every file is looked into again.
_VERSION = 2


def probe_once(path: Path, sha256: str, *, classes: int = 3) -> Probe:
    """Return `probe_weights` of a file, remembered on disk by the hash of its bytes.

    Only files that passed are remembered; a folder that cannot be written is no error.

    Parameters
    ----------
    path : Path
        The weights file.
    sha256 : str
        Its hash.
    classes : int
        Outputs that are expected: 3 for segmentation, 1 for restoration.

    Raises
    ------
    ModelError
        As `probe_weights`.
    """
    remembered = cache_folder() / "probes" / f"{sha256}-{classes}-v{_VERSION}.json"
    probe = _read(remembered)
    if probe is None:
        probe = probe_weights(path, classes=classes)
        _write(remembered, probe)
    elif probe.backbone == "transformer":
        require_transformer_extra()
    return probe


def _read(path: Path) -> Probe | None:
    try:
        return Probe(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not there, or not what we wrote
        return None


def _write(path: Path, probe: Probe) -> None:
    try:
        with kept_file(path) as file:
            file.write(json.dumps(asdict(probe)).encode())
    except OSError as error:
        logger.info("%s is not remembered: %s", path, error)
