"""Cellpose's ``.npy`` files of one pickled dictionary, read without running code in them."""

from __future__ import annotations

import io
import pathlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["read_pickled_npy"]

# What unpickling and numpy raise on a damaged or foreign file.
_ERRORS = (
    ValueError, TypeError, LookupError, AttributeError, EOFError, ImportError, MemoryError,
    OverflowError, AssertionError,
)  # fmt: skip
_FOREIGN_PATHS = {"PosixPath": pathlib.PurePosixPath, "WindowsPath": pathlib.PureWindowsPath}


def read_pickled_npy(path: Path) -> Any:
    """Read the object in a ``.npy`` file: numbers, text, arrays, paths, lists and dictionaries.

    Raises
    ------
    pickle.UnpicklingError
        If the file names anything else, or is damaged. Nothing in it has been run then.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            np.lib.format._read_array_header(file, version)  # type: ignore[attr-defined]
            return _NumbersOnly(io.BytesIO(file.read())).load().item()
        except _ERRORS as error:
            raise pickle.UnpicklingError(str(error) or type(error).__name__) from error


class _NumbersOnly(pickle.Unpickler):
    """An unpickler that knows numpy arrays, numbers and paths, and refuses every other name."""

    _allowed = frozenset(
        (module, name)
        for package in ("numpy.core", "numpy._core")
        for module, name in (
            (f"{package}.multiarray", "_reconstruct"),
            (f"{package}.multiarray", "scalar"),
            (f"{package}.numeric", "_frombuffer"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        )
    )

    def find_class(self, module: str, name: str) -> Any:
        # A Windows path cannot be made elsewhere; a pure one never touches the disk.
        if module.split(".")[0] == "pathlib" and name in _FOREIGN_PATHS:
            return _FOREIGN_PATHS[name]
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)
