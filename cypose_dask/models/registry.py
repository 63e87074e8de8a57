"""The bundled models: `models/registry.toml` and the weights beside it."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

from cypose_dask.errors import ModelError

__all__ = ["bundled_entry", "bundled_file", "bundled_names", "default_name"]

_NEEDED = ("file", "sha256")


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
    path = registry_folder() / "registry.toml"
    try:
        registry = tomllib.loads(path.read_text(encoding="utf-8"))
        _check(registry)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(
            f"{path}: damaged ({type(error).__name__}: {error}). Install the package again."
        ) from error
    return registry


def _check(registry: dict[str, Any]) -> None:
    registry["models"][registry["default"]]
    for name, entry in registry["models"].items():
        missing = [key for key in _NEEDED if not isinstance(entry.get(key), str)]
        if missing:
            raise ValueError(f"{name!r} has no {missing[0]!r}")


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
    folder, file = registry_folder(), bundled_entry(name)["file"]
    # A plain name, not a resolved path: some installers link every file into a shared cache.
    if Path(file).name != file or file in (".", ".."):
        raise ModelError(f"The registry's entry {name!r} points outside {folder}; refused.")
    path = folder / file
    if not path.is_file():
        raise ModelError(f"{path} is missing although the registry names it. Install again.")
    return path
