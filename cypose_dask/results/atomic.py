"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cypose_dask.errors import ResultError

__all__ = ["fsync_path", "partial_name", "whole_file", "whole_folder", "write_json"]


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it there, synced, if nothing was raised.

    Raises
    ------
    ResultError
        If `path` is a folder.
    """
    if path.is_dir():
        raise ResultError(f"{path} is a folder; name a file.")
    partial = partial_name(path)
    try:
        yield partial
        fsync_path(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it there, synced, if nothing was raised.

    Raises
    ------
    ResultError
        If there is anything at `path`.
    """
    if path.exists():
        raise ResultError(f"{path} exists already. Remove it, or choose another place.")
    partial = partial_name(path)
    try:
        yield partial
        for inside in (*partial.rglob("*"), partial):
            fsync_path(inside)
        partial.replace(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    fsync_path(path.parent)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")


def fsync_path(path: Path) -> None:
    """Bring a file or folder to the disk; does nothing where folders cannot be synced."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder on Windows
        return
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems sync files only.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(handle)


def partial_name(path: Path) -> Path:
    """Make the folder of `path`, and return a new name there that is never taken for a movie."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process number: in containers every process has the same one.
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
