"""The bundled models: `models/registry.toml` and the weights beside it."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

from cypose_dask.errors import ModelError

__all__ = ["bundled_entry", "bundled_file", "bundled_names", "default_name"]


@functools.cache
def registry_folder() -> Path:
    """Return the folder with ``registry.toml``: inside the wheel, or the checkout's ``models/``."""
    here = Path(__file__).resolve().parent
    for folder in (here / "bundled", here.parents[1] / "models"):
        if (folder / "registry.toml").is_file():
            return folder
    raise ModelError(
        f"No registry.toml in {here / 'bundled'}; the installation is incomplete. Install the "
        "package again."
    )


@functools.cache
def _registry() -> dict[str, Any]:
    with (registry_folder() / "registry.toml").open("rb") as file:
        return tomllib.load(file)


def bundled_names() -> tuple[str, ...]:
    """Return the names of the bundled models, the default first."""
    registry = _registry()
    others = (name for name in registry["models"] if name != registry["default"])
    return (registry["default"], *others)


def default_name() -> str:
    """Return the name that ``model="default"`` stands for."""
    return str(_registry()["default"])


def bundled_entry(name: str) -> dict[str, Any]:
    """Return the registry's table of a bundled model."""
    return dict(_registry()["models"][name])


def bundled_file(name: str) -> Path:
    """Return the weights of a bundled model.

    Raises
    ------
    ModelError
        If the entry points outside the registry's folder, or the file is missing.
    """
    folder = registry_folder()
    path = (folder / bundled_entry(name)["file"]).resolve()
    if path.parent != folder.resolve():
        raise ModelError(f"The registry's entry {name!r} points outside {folder}; refused.")
    if not path.is_file():
        raise ModelError(f"{path} is missing although the registry names it. Install again.")
    return path
