"""A trained network becomes a bundled model: float16 weights, a registry entry and a card."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cypose_dask.errors import ModelError

REGISTRY = "registry.toml"
HEADING = "# The bundled models; written by cypose_dask.learn.bundle, one card (.md) beside each.\n"


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
        The registry that is there cannot be read.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    registry = _read(folder / REGISTRY)
    fresh = to_float16(source, folder / f".{name}.new")
    sha256 = hashlib.sha256(fresh.read_bytes()).hexdigest()
    known = {"file": name, "sha256": sha256, "inputs": len(entry.wants)}
    registry.setdefault("default", name)
    registry.setdefault("models", {})[name] = known | asdict(entry)
    _write(folder / f"{name}.md", card)
    fresh.replace(folder / name)
    _write(folder / REGISTRY, _as_toml(registry))
    return folder / name


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{path} is not TOML ({error}); mend or remove it") from error


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _as_toml(registry: dict[str, Any]) -> str:
    """Only what a registry holds: strings, numbers and lists of them, all valid JSON too."""
    lines = [HEADING, f"default = {json.dumps(registry['default'])}\n"]
    for name, fields in sorted(registry["models"].items()):
        key = name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name)
        lines.append(f"\n[models.{key}]\n")
        lines += [f"{key} = {json.dumps(value)}\n" for key, value in fields.items()]
    return "".join(lines)


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
