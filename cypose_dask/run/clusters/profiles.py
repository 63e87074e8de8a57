"""Cluster profiles: a table in a TOML file is the name of a cluster.

::

    [profiles.lab-a100]
    cluster = "slurm"
    workers = 4
    gpu = true
    walltime = "4:00:00"
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cypose_dask.errors import SettingsError
from cypose_dask.run.clusters.options import KINDS, connect_arguments

__all__ = ["profile", "profile_files", "profile_options"]

_TYPES = {
    "cluster": str,
    "workers": int,
    "gpu": bool,
    "gpus": str,
    "walltime": str,
    "job-cores": int,
    "job-memory": str,
    "sbatch": str,
    "scheduler": str,
    "scheduler-file": str,
    "tls-ca-file": str,
    "tls-cert": str,
    "tls-key": str,
}
_FILES = ("scheduler-file", "tls-ca-file", "tls-cert", "tls-key")
_WORDS = {str: "text in quotes", int: "a whole number above 0", bool: "true or false"}


def profile(name: str) -> dict[str, Any]:
    r"""Return the arguments of `connect` that a profile stands for.

    Parameters
    ----------
    name : str
        Of a table ``[profiles.NAME]`` in the file that ``CYPOSE_PROFILES`` names, in
        ``./cypose-dask.toml`` or in ``cypose-dask/profiles.toml`` of the user's configuration
        (``XDG_CONFIG_HOME``, else ``~/.config``); the first that has it is taken. Its keys are the
        options of the command line: ``cluster``, ``workers``, ``gpu``, ``gpus``, ``walltime``,
        ``job-cores``, ``job-memory``, ``sbatch``, ``scheduler``, ``scheduler-file``,
        ``tls-ca-file``, ``tls-cert`` and ``tls-key``. Files are named from the file's own folder.

    Raises
    ------
    SettingsError
        If there is no such profile, or something in it is unknown or of the wrong kind.

    Examples
    --------
    >>> file = tmp_path / "clusters.toml"
    >>> _ = file.write_text('[profiles.lab]\nworkers = 2\n')
    >>> os.environ["CYPOSE_PROFILES"] = str(file)
    >>> profile("lab")
    {'kind': 'local', 'workers': 2, 'tls': None}
    >>> del os.environ["CYPOSE_PROFILES"]
    """
    return connect_arguments(profile_options(name))


def profile_options(name: str) -> dict[str, Any]:
    """Return what a profile says, by the long name on the command line, with underscores.

    Raises
    ------
    SettingsError
        As `profile`.
    """
    found: dict[str, Path] = {}
    for path in profile_files():
        profiles = _read(path)
        if name in profiles:
            return _checked(profiles[name], path, name)
        found = dict.fromkeys(profiles, path) | found
    raise SettingsError(
        f"There is no cluster profile {name!r}; {_listed(found)}. Correct the name, or add a table "
        f"[profiles.{name}] to one of {', '.join(map(str, _places()))}."
    )


def profile_files() -> list[Path]:
    """Return the files that may hold profiles and are there, the first to be asked first.

    Raises
    ------
    SettingsError
        If the file that ``CYPOSE_PROFILES`` names is not there.
    """
    named = os.environ.get("CYPOSE_PROFILES")
    if named and not Path(named).expanduser().is_file():
        raise SettingsError(
            f"CYPOSE_PROFILES names {named}, which is not there. Correct it, or unset it."
        )
    return [path for path in _places() if path.is_file()]


def _listed(found: dict[str, Path]) -> str:
    if not found:
        return "there are none"
    return "there are " + ", ".join(f"{name} (in {path})" for name, path in found.items())


def _places() -> Iterator[Path]:
    if named := os.environ.get("CYPOSE_PROFILES"):
        yield Path(named).expanduser()
    yield Path("cypose-dask.toml")
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    yield Path(home).expanduser() / "cypose-dask" / "profiles.toml"


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            profiles = tomllib.load(file).get("profiles", {})
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path} cannot be read ({error}). Correct it; it is a TOML file with tables "
            "[profiles.NAME]."
        ) from error
    if not isinstance(profiles, dict):
        raise SettingsError(f"{path}: profiles is {profiles!r}; expected tables [profiles.NAME].")
    return profiles


def _checked(table: Any, path: Path, name: str) -> dict[str, Any]:
    where = f"{path}, profile {name!r}"
    if not isinstance(table, dict):
        raise SettingsError(f"{where} is {table!r}; expected a table [profiles.{name}].")
    for key, value in table.items():
        _check(key, value, where)
    files = {key: str(_from(path, table[key])) for key in _FILES if key in table}
    return {key.replace("-", "_"): value for key, value in (table | files).items()}


def _check(key: str, value: Any, where: str) -> None:
    if key not in _TYPES:
        raise SettingsError(f"{where}: {key!r} is unknown. Known are {', '.join(_TYPES)}.")
    kind = _TYPES[key]
    if type(value) is not kind or (type(value) is int and value < 1):
        raise SettingsError(f"{where}: {key} is {value!r}; expected {_WORDS[kind]}.")
    if key == "cluster" and value not in KINDS:
        raise SettingsError(f"{where}: cluster is {value!r}; expected one of {', '.join(KINDS)}.")


def _from(path: Path, file: str) -> Path:
    """Return a file's path, which is told from the folder of the file that names it."""
    return path.absolute().parent / Path(file).expanduser()
