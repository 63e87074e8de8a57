"""A trained network becomes a bundled model: float16 weights, a registry entry and a card."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from cypose_dask.learn.training.registry import REGISTRY, read_registry, with_entry
from cypose_dask.results.atomic import whole_file


@dataclass(frozen=True)
class Entry:
    """What the registry says of a model beyond its file and hash.

    Attributes
    ----------
    wants : tuple of tuple of str
        Per used input, substrings of the channel names that suit it; case does not matter.
    diameter : float
        Mean diameter of the cells that it was trained on, pixels, before they were scaled.
    licence : str
        SPDX name.
    trained : str
        One sentence: how, by which script, seed, frames, epochs.
    generation : int
        Cellpose version of the architecture.
    """

    wants: tuple[tuple[str, ...], ...]
    diameter: float
    licence: str
    trained: str
    generation: int = 3


def bundle_model(
    source: str | Path, folder: str | Path, *, name: str, entry: Entry, card: str
) -> Path:
    """Write weights, registry entry and card of a model; an older one of this name is replaced.

    The first model of a registry becomes its default.

    Parameters
    ----------
    source : path
        Float32 weights as Cellpose saves them.
    folder : path
        Folder of the bundled models.
    name : str
        Name of the model and of its file.
    entry : Entry
        What the registry says.
    card : str
        Markdown.

    Returns
    -------
    pathlib.Path
        The float16 weights.

    Raises
    ------
    ModelError
        The registry that is there cannot be read, or cannot be changed line by line.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    registry = read_registry(folder / REGISTRY)
    with whole_file(folder / name) as partial:
        to_float16(source, partial)
        sha256 = hashlib.sha256(partial.read_bytes()).hexdigest()
        known = {"file": name, "sha256": sha256, "inputs": len(entry.wants)}
        registry = with_entry(registry, name, known | asdict(entry))
        _write(folder / f"{name}.md", card)
    _write(folder / REGISTRY, registry)
    return folder / name


def _write(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def to_float16(source: str | Path, target: str | Path) -> Path:
    """Store weights as float16: half the bytes, equal labels in practice.

    Diameters and the batch norms' running statistics stay float32: a variance can be larger than
    float16 holds (65,504) and would become infinite. They are a thousandth of the file.

    Parameters
    ----------
    source : path
        A flat state dict, as Cellpose saves it.
    target : path
        Where the float16 copy goes.

    Returns
    -------
    pathlib.Path
        `target`.
    """
    import torch

    state = torch.load(source, map_location="cpu", weights_only=True)
    wide = [key for key in state if key.startswith("diam_") or ".running_" in key]
    small = {
        key: value.half() if value.is_floating_point() and key not in wide else value
        for key, value in state.items()
    }
    torch.save(small, target)
    return Path(target)
