"""Which movie a labelled frame came from: by ``frames.json`` where there is one, else by its name.

Frames of one movie are alike. Where no record says which movie a single image belongs to, images of
one folder whose names differ in their last numbers alone are taken for frames of one movie: that
errs on the side of too few movies, so that no movie is trained on and validated on.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from cypose_dask.errors import SettingsError
from cypose_dask.learn.frames.files import RECORD_NAME

__all__ = ["Origin", "frame_origins", "movie_of_file", "movie_of_name", "place_key", "sortable"]

_SUFFIX = re.compile(r"(\.ome)?\.[^.]+$", re.I)
# A part of a name that only counts: 0012, t0012, p003, xy1, frame12, y0512.
_COUNTER = re.compile(r"(t|p|z|c|xy|s|y|x|f|pos|position|time|frame|img|series)?\d+", re.I)
_LAST_NUMBER = re.compile(r"[_\-. ]*\d+$")
_PARTS = re.compile(r"([_\-. ]+)")


@dataclass(frozen=True)
class Origin:
    """Where a frame came from.

    Attributes
    ----------
    movie : str
        The same for all frames of one movie, whatever folder they lie in.
    key : str
        Sorts the frames of a movie: by position, time, plane and place of the crop.
    channels : tuple of str
        Names of the frame's channels; empty where they are not known.
    """

    movie: str
    key: str
    channels: tuple[str, ...] = ()


def movie_of_name(path: str | Path) -> str:
    """Name the movie of a single image: its folder, and its name without its last numbers.

    Examples
    --------
    >>> names = ("a/img_t0001.tif", "a/img_t0002.tif", "a/exp1_007.tif", "a/cells12.png", "a/3.tif")
    >>> [movie_of_name(name) for name in names]
    ['a/img', 'a/img', 'a/exp1', 'a/cells', 'a']
    """
    path = Path(path)
    parts = _PARTS.split(_SUFFIX.sub("", path.name))
    if len(parts) == 1:  # such as img012, 00012 or t0012
        stem = "" if _COUNTER.fullmatch(parts[0]) else _LAST_NUMBER.sub("", parts[0])
    else:
        while len(parts) > 1 and _COUNTER.fullmatch(parts[-1]):
            parts = parts[:-2]
        stem = "" if _COUNTER.fullmatch(parts[0]) and len(parts) == 1 else "".join(parts)
    folder = path.absolute().parent.name
    return f"{folder}/{stem}" if stem else folder


def movie_of_file(path: str | Path, content_sha256: str) -> str:
    """Name a movie by its file and its content, wherever it lies."""
    return f"{_file_name(str(path))} ({content_sha256[:8]})"


def place_key(place: tuple[int, int, int], window: tuple[int, ...] = ()) -> str:
    """Return what sorts the frames (t, p, z) of a movie: position first, then time."""
    t, p, z = place
    return " ".join(f"{number:09d}" for number in (p, t, z, *window))


def sortable(name: str) -> str:
    """Return a text that sorts numbers by their value: img2 before img10."""
    return re.sub(r"\d+", lambda number: number[0].zfill(20), name)


def frame_origins(folder: Path) -> dict[str, Origin]:
    """Read ``frames.json``, which `cypose-dask frames` leaves beside its frames, by file name.

    Returns
    -------
    dict of str to Origin
        Empty where there is no such file.

    Raises
    ------
    SettingsError
        If the file is damaged.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["frames"]
        return {str(entry["file"]): _origin(entry) for entry in entries}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SettingsError(
            f"{path} cannot be read ({type(error).__name__}: {error}); it says which movie each "
            "frame came from. Restore it, or remove it to tell movies by the names of the files."
        ) from error


def _origin(entry: dict[str, Any]) -> Origin:
    place = (int(entry["t"]), int(entry["p"]), int(entry["z"]))
    window = tuple(int(number) for number in entry["window"] or ())
    return Origin(
        movie_of_file(str(entry["source"]), str(entry["content_sha256"])),
        place_key(place, window),
        tuple(str(name) for name in entry["channels"]),
    )


def _file_name(path: str) -> str:
    """Return the last part of a path that may have been written on another system."""
    return PureWindowsPath(path).name if "\\" in path else PurePath(path).name
