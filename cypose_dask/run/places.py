"""Whether outputs can be written, asked before any work."""

from __future__ import annotations

import os

from cypose_dask.errors import SettingsError
from cypose_dask.results import OutputNames

__all__ = ["require_place"]

# What a position and a temporary name add to an output's name.
_LONGEST_ENDING = "_p000.12345678.partial"


def require_place(names: OutputNames) -> None:
    """Make the folder of a movie's outputs and write an empty file into it, which is removed.

    Raises
    ------
    SettingsError
        If the folder cannot be made, nothing can be written there, or a name is too long for it.
    """
    paths = (names.tif, names.zarr, names.run_json, names.journal)
    longest = max((path.name for path in paths), key=lambda name: len(os.fsencode(name)))
    folder = names.tif.parent
    trial = folder / f"{longest}{_LONGEST_ENDING}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise SettingsError(
            f"{folder}: the result {names.tif.name} cannot be written there ({error.strerror}). "
            "Give another folder, or a shorter name, with -o."
        ) from error
