"""OME-TIFF sets: several files that are one movie, each of which opens all."""

from __future__ import annotations

from pathlib import Path

import tifffile

from cypose_dask.movies import files
from cypose_dask.movies.tiff_file import lease_tiff
from cypose_dask.movies.tiff_handle import OPEN_ERRORS, captured_log

__all__ = ["other_members"]


def other_members(path: str) -> tuple[str, ...]:
    """Return the other files of the OME-TIFF set that a file opens; none if it stands alone.

    A file that cannot be opened stands alone here: why it cannot is said when it is its turn.
    """
    try:
        if not _names_files(path):
            return ()
        with lease_tiff(path, files.stamp_of_file(path)) as handle:
            return tuple(name for name in handle.members if name != path)
    except OPEN_ERRORS:
        return ()


def _names_files(path: str) -> bool:
    """Tell from the first page alone whether a file may be one of a set."""
    if not Path(path).is_file():
        return False
    with captured_log(), tifffile.TiffFile(path) as file:
        return "FileName" in (file.ome_metadata or "")
