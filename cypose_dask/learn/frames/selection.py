"""Which frames to annotate: a few that differ, out of movies that are too long to look through.

A bounded number of candidates is read, spread over time and positions; cheap numbers are taken of
each (`frame_features`), and every next frame is the one that differs most from those chosen so far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cypose_dask.errors import DamagedFrameError, SettingsError
from cypose_dask.learn.frames.choice import most_different
from cypose_dask.learn.frames.features import Look, cell_maps, look_at
from cypose_dask.learn.frames.windows import Scene, Window, crop_windows
from cypose_dask.movies import Movie

__all__ = ["ChosenFrame", "FrameRequest", "FrameSelection", "select_frames"]

# Frames that are read for each one that is chosen, and how many more than twice at the most.
_CANDIDATES_PER_FRAME = 4
_MOST_EXTRA_CANDIDATES = 40
_FEWEST_CANDIDATES = 12
Key = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameRequest:
    """What to choose. Positions and channels are chosen when the movies are opened.

    Parameters
    ----------
    n : int
        Frames (or crops) in all.
    crop_px : int or None
        Side of square crops, pixels; None takes whole frames.
    z : int or None
        Plane, 0-based; None is the middle one of each movie.
    start_frame, end_frame : int, int or None
        Only frames ``start_frame <= t < end_frame``, 0-based; None is the movie's end.
    seed : int
        Everything random follows from it.

    Raises
    ------
    SettingsError
        If a number is out of range.
    """

    n: int = 20
    crop_px: int | None = None
    z: int | None = None
    start_frame: int = 0
    end_frame: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"n": 1, "crop_px": 16, "z": 0, "start_frame": 0, "end_frame": 1, "seed": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise SettingsError(f"{name} is {value}; give a whole number of at least {low}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenFrame:
    """One frame to annotate.

    Attributes
    ----------
    movie : int
        Index of the movie in the call.
    t, p, z : int
        Its place in the movie as it was opened, 0-based.
    window : tuple of int or None
        First row, first column and side of the crop, pixels; None is the whole frame.
    features : dict of str to float
        ``density``: share of the area where there are cells, 0 to 1, roughly. ``focus``:
        logarithm of fine over coarse detail. ``brightness``: logarithm of the median intensity.
        ``time``: 0 at the first frame of the movie, 1 at the last.
    """

    movie: int
    t: int
    p: int
    z: int
    window: Window | None
    features: dict[str, float]

    @property
    def key(self) -> Key:
        """Its frame within the movie: (t, p, z)."""
        return self.t, self.p, self.z

    def numbers(self) -> dict[str, float]:
        """Everything that frames are compared by: the features, and the position."""
        return {**self.features, "position": self.p}


@dataclass(frozen=True, slots=True)
class FrameSelection:
    """What was chosen, and what had to be passed over.

    Attributes
    ----------
    frames : tuple of ChosenFrame
        Ordered by movie, position, time, plane and window.
    looked_at : int
        Frames that were read.
    notes : tuple of str
        Sentences about frames that were skipped, and about too few frames.
    """

    frames: tuple[ChosenFrame, ...]
    looked_at: int
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Pool:
    """The candidates of one movie."""

    candidates: list[ChosenFrame] = field(default_factory=list)
    looked_at: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


def select_frames(
    movies: Sequence[Movie],
    request: FrameRequest | None = None,
    *,
    taken: Sequence[ChosenFrame] = (),
) -> FrameSelection:
    """Choose frames that differ in density, time, position, focus and brightness.

    Parameters
    ----------
    movies : sequence of Movie
        Each gives as many as the others, where it has as many.
    request : FrameRequest
    taken : sequence of ChosenFrame, optional
        Frames of these movies that are not chosen again; new ones differ from them.

    Returns
    -------
    FrameSelection
        The densest and the sparsest candidate of each movie are among its frames, except for
        candidates without cells, which come last. Damaged, blank and NaN frames never do.

    Raises
    ------
    SettingsError
        If no usable frame is left, or a movie has no such plane, frames or room for the crop.
    MovieError
        If a movie can no longer be read.

    Examples
    --------
    >>> chosen = select_frames([movie], FrameRequest(n=2)).frames
    >>> [frame.t for frame in chosen]
    [0, 4]
    """
    request = request or FrameRequest()
    for movie in movies:
        _check(movie, request)
    asked = _shares_of(request.n, [request.n] * len(movies))
    pools = [
        _candidates(movie, request, _Wanted(i, asked[i], _of_movie(taken, i)))
        for i, movie in enumerate(movies)
    ]
    quotas = _shares_of(request.n, [len(pool.candidates) for pool in pools])
    chosen = [
        frame
        for i, pool in enumerate(pools)
        for frame in _chosen_of(pool.candidates, quotas[i], _of_movie(taken, i))
    ]
    notes = tuple(_notes(movies, pools, request.n - len(chosen)))
    if not chosen:
        raise SettingsError(" ".join(["No frame is left to choose.", *notes]))
    order = sorted(chosen, key=lambda f: (f.movie, f.p, f.t, f.z, f.window or (0, 0, 0)))
    return FrameSelection(tuple(order), sum(pool.looked_at for pool in pools), notes)


def _check(movie: Movie, request: FrameRequest) -> None:
    sizes, path = movie.info.sizes, movie.info.path
    end = sizes["T"] if request.end_frame is None else request.end_frame
    if not request.start_frame < end <= sizes["T"]:
        raise SettingsError(
            f"{path} has {sizes['T']} frames along T, counted from 0; frames {request.start_frame} "
            f"to {end} (exclusive) were asked for."
        )
    if request.z is not None and request.z >= sizes["Z"]:
        raise SettingsError(
            f"{path} has {sizes['Z']} planes, counted from 0; plane {request.z} was asked for."
        )
    if request.crop_px and request.crop_px > min(sizes["Y"], sizes["X"]):
        raise SettingsError(
            f"Frames of {path} are {sizes['Y']} x {sizes['X']} px, too small for crops of "
            f"{request.crop_px} px. Give a smaller --crop, or none for whole frames."
        )


def _of_movie(taken: Sequence[ChosenFrame], movie: int) -> list[ChosenFrame]:
    return [frame for frame in taken if frame.movie == movie]


def _shares_of(n: int, most: Sequence[int]) -> list[int]:
    """Deal n out as evenly as the limits allow; with fewer than one each, spread over all."""
    shares = [0] * len(most)
    for _ in range(min(n, sum(most))):
        open_ = [i for i, limit in enumerate(most) if shares[i] < limit]
        least = min(shares[i] for i in open_)
        equal = [i for i in open_ if shares[i] == least]
        # From both ends, so that two of five movies are the first and the last.
        given = sum(shares) % 2
        shares[equal[-1 if given else 0]] += 1
    return shares


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One movie's part: its index, how many frames it should give, which are given already."""

    movie: int
    n: int
    taken: list[ChosenFrame]


def _candidates(movie: Movie, request: FrameRequest, wanted: _Wanted) -> _Pool:
    pool = _Pool()
    if not wanted.n:
        return pool
    # Mixed with how many are taken, or the next call would look at the same frames again.
    rng = np.random.default_rng([request.seed, wanted.movie, len(wanted.taken)])
    count = max(
        _FEWEST_CANDIDATES,
        min(_CANDIDATES_PER_FRAME * wanted.n, 2 * wanted.n + _MOST_EXTRA_CANDIDATES),
    )
    places = _places(movie, request, (count, rng))
    seen = dict(_looks(movie, _free(places, request, wanted.taken), pool))
    if not seen:
        return pool
    per_frame = -(-count // len(places))
    shape = movie.info.sizes["Y"], movie.info.sizes["X"]
    maps = cell_maps(list(seen.values()))
    for place, cells in zip(seen, maps, strict=True):
        scene = Scene(cells, seen[place].bin_px, shape)
        windows: Iterable[tuple[Window | None, float]] = [(None, float(cells.mean()))]
        if request.crop_px:
            blocked = [f.window for f in wanted.taken if f.key == place and f.window]
            windows = crop_windows(scene, request.crop_px, rng, count=per_frame, blocked=blocked)
        for window, density in windows:
            features = _features(seen[place], density, place[0] / max(movie.info.sizes["T"] - 1, 1))
            t, p, z = place
            pool.candidates.append(
                ChosenFrame(movie=wanted.movie, t=t, p=p, z=z, window=window, features=features)
            )
    return pool


def _places(movie: Movie, request: FrameRequest, how: tuple[int, np.random.Generator]) -> list[Key]:
    """Spread places over time and positions: one random time a stratum, positions in turn."""
    count, rng = how
    sizes = movie.info.sizes
    z = sizes["Z"] // 2 if request.z is None else request.z
    start, stop = request.start_frame, request.end_frame or sizes["T"]
    if (stop - start) * sizes["P"] <= count:
        return [(t, p, z) for p in range(sizes["P"]) for t in range(start, stop)]
    turn = rng.permutation(sizes["P"])
    times = start + ((np.arange(count) + rng.random(count)) * (stop - start) / count).astype(int)
    return sorted({(int(t), int(turn[i % len(turn)]), z) for i, t in enumerate(times)})


def _free(places: list[Key], request: FrameRequest, taken: list[ChosenFrame]) -> Iterator[Key]:
    whole = {frame.key for frame in taken if frame.window is None or not request.crop_px}
    return (place for place in places if place not in whole)


def _looks(movie: Movie, places: Iterator[Key], pool: _Pool) -> Iterator[tuple[Key, Look]]:
    known_damaged = set(movie.info.damaged)
    for place in places:
        if place in known_damaged:
            pool.skipped["damaged"] += 1
            continue
        pool.looked_at += 1
        try:
            frame = movie.read_frame(*place)
        except DamagedFrameError:
            pool.skipped["damaged"] += 1
            continue
        problem = _problem(frame)
        if problem:
            pool.skipped[problem] += 1
        else:
            yield place, look_at(frame)


def _problem(frame: NDArray[Any]) -> str | None:
    if frame.dtype.kind == "f" and not np.isfinite(frame).all():
        return "with NaN or infinite pixels"
    return "blank" if all(channel.min() == channel.max() for channel in frame) else None


def _features(look: Look, density: float, time: float) -> dict[str, float]:
    found = {
        "density": density,
        "focus": look.focus,
        "brightness": look.brightness,
        "time": time,
    }
    return {name: round(value, 5) for name, value in found.items()}


def _chosen_of(
    candidates: list[ChosenFrame], n: int, taken: list[ChosenFrame]
) -> list[ChosenFrame]:
    known, given = ([frame.numbers() for frame in frames] for frames in (candidates, taken))
    return [candidates[i] for i in most_different(known, n, taken=given)]


def _notes(movies: Sequence[Movie], pools: Sequence[_Pool], missing: int) -> Iterator[str]:
    for movie, pool in zip(movies, pools, strict=True):
        for problem, count in sorted(pool.skipped.items()):
            frames = "frame" if count == 1 else "frames"
            yield f"{movie.info.path}: {count} {frames} {problem}, passed over."
        if movie.info.sizes["T"] == 1 < movie.info.sizes["Z"]:
            yield (
                f"{movie.info.path} has one time and {movie.info.sizes['Z']} planes, of which one "
                "is taken. If the planes are times, open it with axes TYX (--axes TYX)."
            )
    if missing > 0:
        yield f"{missing} fewer than asked for: the movies have no more frames that can be used."
