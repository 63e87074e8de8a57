"""Which movies a call means: folders are expanded, outputs left out, each movie taken once."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cypose_dask.errors import MovieError, MovieNotFoundError
from cypose_dask.movies import other_members
from cypose_dask.results import is_own_output

__all__ = ["Source", "find_movies"]

logger = logging.getLogger(__name__)

_SUFFIXES = (".nd2", ".tif", ".tiff", ".btf", ".tf8", ".png", ".zarr")
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Source:
    """One movie to segment, and its folder below the one that was searched for movies."""

    path: str
    below: Path = Path()


def find_movies(sources: Iterable[str | Path], *, recursive: bool = False) -> list[Source]:
    """Expand folders into the movies in them; files and patterns are kept as they are.

    Parameters
    ----------
    sources : iterable of str or Path
        Files, zarr folders, folders, or patterns such as ``dir/img*.tif`` (one sequence).
    recursive : bool
        Also look into folders of folders. Links are followed, each folder once.

    Returns
    -------
    list of Source
        In natural order, without this package's own outputs, each file once, and each set of
        OME-TIFF files once.

    Raises
    ------
    MovieNotFoundError
        If a path does not exist, or a folder holds no movie.
    """
    found: dict[str, Source] = {}
    for given in map(Path, sources):
        for path in _expand(given, recursive):
            below = path.parent.relative_to(given) if path != given else Path()
            found.setdefault(os.path.realpath(path), Source(str(path), below))
    return _each_set_once(found)


def _each_set_once(found: dict[str, Source]) -> list[Source]:
    """Leave out files that another one opens as parts of its movie (an OME-TIFF set)."""
    part_of: dict[str, str] = {}
    for path, source in found.items():
        if path not in part_of:
            others = {os.path.realpath(other) for other in other_members(path)}
            part_of |= dict.fromkeys(others & found.keys(), source.path)
    for path, whole in part_of.items():
        logger.warning("%s is a part of %s and is not segmented twice.", found[path].path, whole)
    return [source for path, source in found.items() if path not in part_of]


def _expand(source: Path, recursive: bool) -> Iterator[Path]:
    if _GLOB.search(source.name) and not source.exists():
        yield source
    elif not source.exists():
        raise MovieNotFoundError(f"There is no file, folder or pattern {source}.")
    elif source.is_dir() and not _is_movie(source):
        movies = sorted(_walk(source, recursive, set()), key=_natural)
        if not movies:
            raise MovieNotFoundError(
                f"{source} holds no movie ({', '.join(_SUFFIXES)}). Results of earlier runs are "
                "not counted; --recursive looks into folders inside."
            )
        yield from movies
    else:
        yield source


def _walk(folder: Path, recursive: bool, visited: set[Path]) -> Iterator[Path]:
    # A link can lead back to a folder above it.
    if folder.resolve() in visited:
        return
    visited.add(folder.resolve())
    for entry in _entries(folder):
        if entry.name.startswith(".") or is_own_output(entry):
            continue
        if _is_movie(entry):
            yield entry
        elif recursive and entry.is_dir() and entry.resolve() not in folder.resolve().parents:
            yield from _walk(entry, recursive, visited)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise MovieError(
            f"{folder}: {error.strerror}, so the movies in it are unknown. Ask for the right to "
            "read it, or name the movies one by one."
        ) from error


def _is_movie(path: Path) -> bool:
    if path.suffix.lower() not in _SUFFIXES:
        return False
    return path.is_dir() == (path.suffix.lower() == ".zarr")


def _natural(path: Path) -> list[Any]:
    """Order img2 before img10."""
    parts = re.split(r"(\d+)", os.fspath(path).casefold())
    return [(int(p), "") if p.isdigit() else (0, p) for p in parts]
