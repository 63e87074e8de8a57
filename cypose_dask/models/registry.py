"""The bundled models: `models/registry.toml` and the weights beside it."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Any

from cypose_dask.errors import ModelError

__all__ = ["bundled_entry", "bundled_file", "bundled_names", "default_name", "entry_beside"]

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
    if Path(file).name != file or file in ("", ".", ".."):
        raise ModelError(f"The registry's entry {name!r} points outside {folder}; refused.")
    path = folder / file
    if not path.is_file():
        raise ModelError(f"{path} is missing although the registry names it. Install again.")
    return path


def entry_beside(path: Path, sha256: str) -> dict[str, Any]:
    """Return what a ``registry.toml`` beside a user's weights says about them.

    Parameters
    ----------
    path : Path
        The weights.
    sha256 : str
        Their hash.

    Returns
    -------
    dict
        The table; empty where there is no registry, or none that names this file.

    Raises
    ------
    ModelError
        If the registry cannot be read, or its entry is damaged, points elsewhere, or is about
        another file of this name.
    """
    beside = path.parent / "registry.toml"
    tables = read_tables(beside)
    found = [table for table in tables.values() if table.get("file") == path.name]
    if not found and path.name in tables:
        raise ModelError(
            f"{beside}: the entry {path.name!r} points to {tables[path.name].get('file')!r}; "
            f"expected the file {path.name!r} beside it. Mend or remove the entry."
        )
    if not found:
        return {}
    entry = next((table for table in found if table.get("sha256") == sha256), None)
    if entry is None:
        raise ModelError(
            f"{path}: SHA-256 is {sha256}, but {beside} says {found[0].get('sha256')}. The file "
            "was changed, damaged or replaced. Restore it, or remove its entry there to use it "
            "as it is."
        )
    if not _are_words(entry.get("wants", [])):
        raise ModelError(
            f"{beside}: 'wants' of {path.name!r} is {entry['wants']!r}; expected a list of lists "
            "of channel names. Mend or remove the entry."
        )
    return dict(entry)


def read_tables(path: Path) -> dict[str, dict[str, Any]]:
    """Return the tables under ``models`` in a registry, by name; none where there is no file.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    if not path.is_file():
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} lies beside models and cannot be read ({type(error).__name__}: {error}). Mend "
            "it, or move it away."
        ) from error
    tables = content.get("models")
    if not isinstance(tables, dict):
        return {}
    return {name: table for name, table in tables.items() if isinstance(table, dict)}


def _are_words(wants: Any) -> bool:
    return isinstance(wants, list) and all(
        isinstance(words, list) and all(isinstance(word, str) for word in words) for words in wants
    )
