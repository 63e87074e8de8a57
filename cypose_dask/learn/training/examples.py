"""Frames with their labels, and from which movie each came."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cypose_dask.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


_DRAWS = 200


@dataclass(frozen=True)
class Examples:
    """Labelled frames; the three sequences are equally long.

    Attributes
    ----------
    frames : tuple of ndarray, each (C, Y, X)
        Any real dtype; C may be less than the network's inputs, and then the others stay zero.
    labels : tuple of ndarray of int, each (Y, X)
        0 background, 1..N cells.
    movies : tuple of str
        Where each frame came from. Frames of one movie are alike, so they are trained on or
        validated on together, never split.
    """

    frames: tuple[NDArray[Any], ...]
    labels: tuple[NDArray[Any], ...]
    movies: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = (len(self.frames), len(self.labels), len(self.movies))
        if len(set(counts)) > 1:
            raise SettingsError(
                "Examples need as many labels and movies as frames; there are {} frames, {} labels "
                "and {} movies.".format(*counts)
            )
        for frame, labels, movie in zip(self.frames, self.labels, self.movies, strict=True):
            if frame.ndim != 3 or frame.shape[1:] != labels.shape:
                raise SettingsError(
                    f"A frame of {movie} is {frame.shape} and its labels are {labels.shape}; "
                    "expected (C, Y, X) and the same (Y, X)."
                )

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, which: Sequence[int] | NDArray[np.intp]) -> Examples:
        """Return the examples at the given indices."""
        return Examples(
            tuple(self.frames[i] for i in which),
            tuple(self.labels[i] for i in which),
            tuple(self.movies[i] for i in which),
        )

    def describe(self) -> list[str]:
        """Return one line a movie: its name, frames and cells."""
        cells: Counter[str] = Counter()
        for movie, labels in zip(self.movies, self.labels, strict=True):
            cells[movie] += len(np.unique(labels[labels > 0]))
        frames = Counter(self.movies)
        return [
            f"{movie}: {frames[movie]} frame{'' if frames[movie] == 1 else 's'}, "
            f"{cells[movie]} cells"
            for movie in sorted(frames)
        ]

    def __add__(self, other: Examples) -> Examples:
        return Examples(
            self.frames + other.frames, self.labels + other.labels, self.movies + other.movies
        )


def split_by_movie(examples: Examples, *, share: float, seed: int) -> tuple[Examples, Examples]:
    """Set whole movies aside for validation.

    Of some random choices of movies, the one whose share of the frames is closest to `share` is
    taken; at least one movie is left to train on, and at least one set aside.

    Parameters
    ----------
    examples : Examples
        Frames of at least two movies.
    share : float
        Share of the frames to set aside, above 0 and below 1, dimensionless.
    seed : int
        Of the draw.

    Returns
    -------
    (training, validation) : Examples

    Raises
    ------
    SettingsError
        All frames come from one movie, or `share` is out of range.
    """
    _check_share(share)
    names = sorted(set(examples.movies))
    if len(names) < 2:
        raise SettingsError(
            f"All {len(examples)} labelled frames come from one movie ({', '.join(names)}); "
            "validation needs frames of another one. Add a movie, or name frames for validation."
        )
    frames = np.array([examples.movies.count(name) for name in names])
    rng = np.random.default_rng(seed)
    drawn = [_draw_movies(frames, share, rng) for _ in range(_DRAWS)]
    aside = min(drawn, key=lambda chosen: abs(frames[chosen].sum() - share * len(examples)))
    held = np.isin(np.array(examples.movies), [names[index] for index in aside])
    return examples.take(np.flatnonzero(~held)), examples.take(np.flatnonzero(held))


def split_in_time(examples: Examples, *, share: float) -> tuple[Examples, Examples]:
    """Set the frames in the middle aside for validation, in one block.

    For frames of one movie, where `split_by_movie` is impossible. Neighbouring frames of a movie
    are alike, so a score on these frames is better than on another movie.

    Parameters
    ----------
    examples : Examples
        At least two frames, in the order of time.
    share : float
        Share of the frames to set aside, above 0 and below 1, dimensionless.

    Returns
    -------
    (training, validation) : Examples

    Raises
    ------
    SettingsError
        There are fewer than two frames, or `share` is out of range.
    """
    _check_share(share)
    count = len(examples)
    if count < 2:
        raise SettingsError(
            f"There is {count} labelled frame; expected two or more, of which some are set aside "
            "for validation. Label another one, or name frames for validation (--validation)."
        )
    held = min(max(1, round(share * count)), count - 1)
    first = (count - held + 1) // 2
    aside = np.arange(first, first + held)
    return examples.take(np.setdiff1d(np.arange(count), aside)), examples.take(aside)


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise SettingsError(f"The share for validation is {share}; expected above 0 and below 1.")


def _draw_movies(
    frames: NDArray[np.intp], share: float, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Draw movies, of so many frames each, until they hold the share; never all of them."""
    order = rng.permutation(len(frames))
    held = np.cumsum(frames[order])
    count = 1 + int(np.searchsorted(held, share * frames.sum()))
    return order[: min(count, len(frames) - 1)]
