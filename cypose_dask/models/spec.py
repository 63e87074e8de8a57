"""What is known about a model before it is loaded."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ModelSpec", "file_sha256"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A verified weights file: an address with everything that was probed.

    Attributes
    ----------
    name : str
        The name it was asked for by, or the file's name.
    path : str
        Absolute path of the weights.
    sha256 : str
        Hash of the file's bytes.
    kind : str
        ``"bundled"``, ``"built-in"``, ``"user"`` (in Cellpose's list) or ``"file"``.
    network_inputs : int
        Channels of the network's input, 1 to 3.
    diam_mean : float
        Diameter that cells are rescaled to before the network, px.
    diameter : float
        Mean diameter of the training cells, px; used when no diameter is given.
    backbone : str
        ``"default"`` (residual U-Net) or ``"transformer"``.
    wants : tuple of tuple of str
        For each movie channel that the model uses, words that its name contains. Empty when
        the file does not say.
    """

    name: str
    path: str
    sha256: str
    kind: str
    network_inputs: int
    diam_mean: float
    diameter: float
    backbone: str = "default"
    wants: tuple[tuple[str, ...], ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {**asdict(self), "wants": [list(words) for words in self.wants]}


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
