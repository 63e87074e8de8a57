"""The frames that models are compared on: pairs in time, or frames whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cypose_dask.errors import DamagedFrameError, MovieError, SettingsError
from cypose_dask.learn.frames.features import cell_maps, look_at
from cypose_dask.learn.frames.files import RECORD_NAME
from cypose_dask.learn.frames.windows import Scene, Window, crop_windows
from cypose_dask.learn.scoring.label_files import LabelFrames, read_labels
from cypose_dask.learn.scoring.label_pairs import find_label_files, folder_of_labels
from cypose_dask.movies import Movie

__all__ = ["Shot", "consecutive_shots", "true_shots"]

# Places tried in one part of the movie before it is passed over.
_TRIES, _TIMES_TRIED = 5, 3
_MARKS = (
    "_seg.npy",
    *(f"{mark}{end}" for mark in ("_cp_masks", "_masks", "_labels") for end in (".tif", ".png")),
)

Key = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Shot:
    """One place of a movie that every model segments.

    Attributes
    ----------
    place : tuple of int
        (t, p, z) of the first frame.
    frames : tuple of ndarray, each (C, Y, X)
        The frame, and the next one in time where there is one and no truth.
    truth : ndarray of int, shape (Y, X), or None
        True labels of the first frame.
    window : tuple of int or None
        First row, first column and side of the part that was cut out, pixels.
    """

    place: Key
    frames: tuple[NDArray[Any], ...]
    truth: NDArray[Any] | None = None
    window: Window | None = None

    @property
    def name(self) -> str:
        """What to call it in tables and pictures."""
        t, p, z = self.place
        return f"t={t} p={p} z={z}"


def consecutive_shots(
    movie: Movie, n: int, *, crop_px: int | None = None, seed: int = 0
) -> Iterator[Shot]:
    """Yield pairs of consecutive frames spread over time, going round the positions.

    Parameters
    ----------
    movie : Movie
        The middle plane is taken. A movie of one T gives single frames of its positions.
    n : int
        Pairs; a short movie gives fewer.
    crop_px : int or None, optional
        Cut the same square with cells in it out of both frames.
    seed : int, optional
        The squares follow from it.

    Raises
    ------
    SettingsError
        If frames are smaller than the crop.
    MovieError
        If no frames can be used.
    """
    _check_crop(movie, crop_px)
    rng = np.random.default_rng(seed)
    found = 0
    for places in _strata(movie, n):
        for place in places[:_TRIES]:
            frames = _read_pair(movie, place)
            if frames:
                found += 1
                yield _cropped(Shot(place, frames), crop_px, rng)
                break
    if not found:
        raise MovieError(
            f"{movie.info.path}: no two consecutive frames that can be used were found; those that "
            "were tried are damaged, blank or hold NaN pixels."
        )


def true_shots(movie: Movie, truth: str | Path, n: int) -> Iterator[Shot]:
    """Yield frames whose truth is known, spread over those that have one.

    Parameters
    ----------
    movie : Movie
    truth : str or Path
        A folder made by `save_frames` in which frames of this movie were annotated, or anything
        that `read_labels` takes, with one label image for every frame of the movie (or a result,
        which knows its frames). A label image without any cell counts as not annotated.
    n : int
        Frames at the most.

    Raises
    ------
    SettingsError
        If truth and movie do not show the same frames.
    MovieError, MovieNotFoundError, ResultError
        If the truth cannot be read, or has no labels.
    """
    known = _annotated(movie, Path(truth)) if _is_frames_folder(truth) else _stack(movie, truth)
    found = 0
    for index in _spread(len(known), n):
        one = known[index]
        labels = one.labels.read(one.index)
        if labels is None or not labels.any():
            continue
        yield _true_shot(movie, one, labels)
        found += 1
        if found == n:
            return
    if not found:
        raise MovieError(f"{truth}: no cell is labelled in any of {len(known)} label images.")


@dataclass(frozen=True, eq=False)
class _Known:
    """A frame of the movie, and where its true labels are."""

    place: Key
    labels: LabelFrames
    index: int = 0
    window: Window | None = None


def _strata(movie: Movie, n: int) -> Iterator[list[Key]]:
    """Yield one list of places for each part of the movie, the part's middle first."""
    sizes = movie.info.sizes
    starts, z = max(sizes["T"] - 1, 1), sizes["Z"] // 2
    if sizes["T"] == 1:
        kept = np.unique(np.linspace(0, sizes["P"] - 1, n).round().astype(int))
        yield from ([(0, int(p), z)] for p in kept)
        return
    parts = min(n, starts)
    edges = np.linspace(0, starts, parts + 1).astype(int)
    for i, (low, high) in enumerate(pairwise(edges)):
        middle = (low + high) // 2
        times = [*range(middle, high), *range(middle - 1, low - 1, -1)][:_TIMES_TRIED]
        p = i % sizes["P"]
        others = [(p + step) % sizes["P"] for step in range(1, sizes["P"])]
        yield [*((int(t), p, z) for t in times), *((int(middle), other, z) for other in others)]


def _read_pair(movie: Movie, place: Key) -> tuple[NDArray[Any], ...]:
    t, p, z = place
    after = [(t + 1, p, z)] if movie.info.sizes["T"] > 1 else []
    frames = tuple(_usable(movie, one) for one in (place, *after))
    return tuple(f for f in frames if f is not None) if all(f is not None for f in frames) else ()


def _usable(movie: Movie, place: Key) -> NDArray[Any] | None:
    if place in movie.info.damaged:
        return None
    try:
        frame = movie.read_frame(*place)
    except DamagedFrameError:
        return None
    if frame.dtype.kind == "f" and not np.isfinite(frame).all():
        return None
    return None if all(channel.min() == channel.max() for channel in frame) else frame


def _check_crop(movie: Movie, crop_px: int | None) -> None:
    rows, columns = (movie.info.sizes[axis] for axis in "YX")
    if crop_px and crop_px > min(rows, columns):
        raise SettingsError(
            f"Frames of {movie.info.path} are {rows} x {columns} px, too small for a crop of "
            f"{crop_px} px."
        )


def _cropped(shot: Shot, crop_px: int | None, rng: np.random.Generator) -> Shot:
    if crop_px is None:
        return shot
    look = look_at(shot.frames[0])
    shape = shot.frames[0].shape
    scene = Scene(cell_maps([look])[0], look.bin_px, (shape[1], shape[2]))
    window, _ = next(crop_windows(scene, crop_px, rng))
    return Shot(shot.place, tuple(_cut(frame, window) for frame in shot.frames), window=window)


def _cut(array: NDArray[Any], window: Window | None) -> NDArray[Any]:
    if window is None:
        return array
    y, x, side = window
    return array[..., y : y + side, x : x + side]


def _is_frames_folder(truth: str | Path) -> bool:
    return (Path(truth) / RECORD_NAME).is_file()


def _annotated(movie: Movie, folder: Path) -> list[_Known]:
    try:
        entries = json.loads((folder / RECORD_NAME).read_text())["frames"]
        mine = [e for e in entries if _is_of(movie, e)]
        stems = [Path(entry["file"]).stem for entry in mine]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise MovieError(f"{folder / RECORD_NAME} cannot be read ({error}).") from error
    if not mine:
        raise SettingsError(
            f"{folder} holds no frames of {movie.info.path} as it was opened. Give the movie that "
            "they were chosen from."
        )
    beside = any((folder / f"{stem}{mark}").exists() for stem in stems for mark in _MARKS)
    if not beside and folder_of_labels(folder) == folder:
        raise MovieError(
            f"{folder}: none of its {len(mine)} frames of this movie is annotated. Expected "
            f"{stems[0]}_seg.npy or {stems[0]}_cp_masks.tif, for example."
        )
    found = find_label_files(folder)
    return [
        _Known(_place_of(movie, entry), found[stem], window=_window_of(entry))
        for stem, entry in zip(stems, mine, strict=True)
        if stem in found
    ]


def _is_of(movie: Movie, entry: dict[str, Any]) -> bool:
    same = entry["content_sha256"] == movie.info.fingerprint.content_sha256
    return same and movie.source.position in (None, entry["p"])


def _place_of(movie: Movie, entry: dict[str, Any]) -> Key:
    return entry["t"], entry["p"] if movie.source.position is None else 0, entry["z"]


def _window_of(entry: dict[str, Any]) -> Window | None:
    return tuple(entry["window"]) if entry["window"] else None


def _stack(movie: Movie, truth: str | Path) -> list[_Known]:
    labels = read_labels(truth)
    sizes = movie.info.sizes
    grid = sizes["P"], sizes["T"], sizes["Z"]
    if labels.from_result:
        return _of_result(movie, labels)
    if len(labels) != np.prod(grid):
        raise SettingsError(
            f"{truth} has {len(labels)} label images, {movie.info.path} has {np.prod(grid)} frames "
            f"(T {grid[1]}, P {grid[0]}, Z {grid[2]}). Give one for each (empty where there is no "
            "truth), a result, or a folder made by `cypose-dask frames`."
        )
    return [_Known((t, p, z), labels, i) for i, (p, t, z) in enumerate(np.ndindex(grid))]


def _of_result(movie: Movie, labels: LabelFrames) -> list[_Known]:
    """Meet the frames of a result, either of which may hold one position of the file alone."""
    alone = _position_of_result(labels.path)
    known = []
    for i, (t, p, z) in enumerate(labels.places):
        in_file = p if alone is None else alone
        mine = in_file - (movie.source.position or 0)
        there = all(
            0 <= at < movie.info.sizes[a] for at, a in zip((t, mine, z), "TPZ", strict=True)
        )
        if there and labels.has_labels(i):
            known.append(_Known((t, mine, z), labels, i))
    if not known:
        raise SettingsError(
            f"{labels.path} has no finished labels of the frames of {movie.info.path} as it was "
            "opened. Check --position, and that it is a result of this movie."
        )
    return known


def _position_of_result(path: Path) -> int | None:
    from cypose_dask.results import open_result

    reading = open_result(path).attributes.get("plan", {}).get("movie", {}).get("reading", {})
    position: int | None = reading.get("position")
    return position


def _spread(count: int, n: int) -> Sequence[int]:
    """Return all indices, n evenly spread ones first."""
    first = np.unique(np.linspace(0, count - 1, min(n, count)).round().astype(int)).tolist()
    return [*first, *(i for i in range(count) if i not in set(first))]


def _true_shot(movie: Movie, one: _Known, labels: NDArray[Any]) -> Shot:
    frame = _cut(movie.read_frame(*one.place), one.window)
    if labels.shape != frame.shape[1:]:
        raise SettingsError(
            f"{one.labels.path}: labels are {labels.shape[0]} x {labels.shape[1]} px, the frame "
            f"t={one.place[0]} of {movie.info.path} is {frame.shape[1]} x {frame.shape[2]} px."
        )
    return Shot(one.place, (frame,), labels, one.window)
