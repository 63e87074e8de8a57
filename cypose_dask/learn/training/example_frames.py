"""Labels and the frames that they belong to, read together: one channel choice, one size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cypose_dask.errors import MovieError, SettingsError
from cypose_dask.learn.scoring.label_files import LabelFrames
from cypose_dask.learn.training.example_names import Origin, movie_of_file, place_key

if TYPE_CHECKING:
    from cypose_dask.movies import Movie, MovieInfo

__all__ = [
    "Finds",
    "Found",
    "Reading",
    "count_frames",
    "read_frames",
    "with_chosen",
]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files become examples.

    Attributes
    ----------
    channels : sequence of int or str, or None
        Channels of the images, by 0-based index or name, in the order of the network's inputs.
        None takes the only channel there is, those that a result was segmented by, or `choose`.
    choose : callable or None
        Chooses channels of an image that has several, where nothing else says which.
    frames : sequence of int or None
        Times to take of results and of stacks, 0-based as in the movie; None takes all.
    movies : sequence of path
        Where movies of results lie now; the right one is found by its content.
    axes : str or None
        Meaning of the stored axes of images that do not say it, as in `open_movie`.
    rgb : {"mean"} or None
        What becomes of colours, as in `open_movie`.
    """

    channels: Sequence[int | str] | None = None
    choose: Callable[[MovieInfo], Sequence[int | str]] | None = None
    frames: Sequence[int] | None = None
    movies: Sequence[str | Path] = ()
    axes: str | None = None
    rgb: Literal["mean"] | None = None


Found = tuple[Origin, np.ndarray, np.ndarray]


@dataclass
class Finds:
    """What was found so far: origin, frame (C, Y, X) and labels (Y, X), and sentences about it."""

    frames: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Finds) -> None:
        """Take over what another place gave."""
        self.frames += other.frames
        self.notes += other.notes


def _places(movie: Movie, labels: LabelFrames) -> tuple[tuple[int, int, int], ...]:
    """Return the frame (t, p, z) of the movie that each label image belongs to."""
    sizes = movie.info.sizes
    grid = (sizes["P"], sizes["T"], sizes["Z"])
    if labels.from_result:
        outside = [at for at in labels.places if any(i >= n for i, n in _over(at, grid))]
        if outside:
            raise MovieError(
                f"{labels.path} has labels for (t, p, z) = {outside[0]}, but {movie.info.path} has "
                f"{sizes['T']} times, {sizes['P']} positions and {sizes['Z']} planes."
            )
        return labels.places
    # A label TIF does not know whether its frames are times, positions or planes.
    if [n for n in grid if n > 1] != [n for n in labels.grid if n > 1]:
        raise MovieError(
            f"{movie.info.path} has {sizes['T']} times, {sizes['P']} positions and {sizes['Z']} "
            f"planes, and {labels.path} has {len(labels)} label images. Expected one for each."
        )
    return tuple((t, p, z) for p, t, z in np.ndindex(grid))


def _over(place: tuple[int, int, int], grid: tuple[int, int, int]) -> Iterator[tuple[int, int]]:
    t, p, z = place
    return zip((p, t, z), grid, strict=True)


# ---- frames --------------------------------------------------------------------------------


def read_frames(movie: Movie, labels: LabelFrames, reading: Reading) -> Finds:
    """Read the frames of a movie that have labels and were asked for.

    Raises
    ------
    MovieError
        If there are not as many labels as frames, or they have another size.
    """
    name = movie_of_file(movie.info.path, movie.info.fingerprint.content_sha256)
    places, damaged, finds = _places(movie, labels), set(movie.info.damaged), Finds()
    wanted = [i for i, (t, _, _) in enumerate(places) if _is_wanted(t, reading.frames)]
    for index in wanted:
        taken = None if places[index] in damaged else labels.read(index)
        if taken is None:
            continue
        frame = movie.read_frame(*places[index])
        _require_same_size(frame, taken, labels.path)
        origin = Origin(name, place_key(places[index]), movie.info.channel_names)
        finds.frames.append((origin, frame, taken))
    if len(finds.frames) < len(wanted):
        missing = count_frames(len(wanted) - len(finds.frames))
        finds.notes.append(f"{labels.path}: {missing} not segmented, or damaged; left out.")
    if reading.frames is not None:
        finds.notes += _not_there(labels.path, places, reading.frames)
    return finds


def _is_wanted(t: int, frames: Sequence[int] | None) -> bool:
    return frames is None or t in frames


def _not_there(
    path: Path, places: Sequence[tuple[int, int, int]], frames: Sequence[int]
) -> list[str]:
    times = {t for t, _, _ in places}
    missing = [t for t in frames if t not in times]
    if not missing:
        return []
    return [
        f"{path}: holds frames {min(times)} to {max(times)}; {count_frames(len(missing))} asked "
        f"for are not among them, the first is {missing[0]}."
    ]


def with_chosen(movie: Movie, reading: Reading) -> Movie:
    """Return a movie with the channels for the network; see `Reading`.

    Raises
    ------
    SettingsError
        If there is no such channel, or there are several and none was chosen.
    """
    info, channels = movie.info, reading.channels
    if channels is None and info.sizes["C"] == 1:
        return movie
    if channels is None and reading.choose:
        channels = reading.choose(info)
    listed = ", ".join(f"{i} {name!r}" for i, name in enumerate(info.channel_names))
    if channels is None:
        raise SettingsError(
            f"{info.path} has {info.sizes['C']} channels ({listed}). Choose those for the network, "
            "in the order of its inputs, with --channels NAME_OR_INDEX[,NAME_OR_INDEX]."
        )
    return movie.with_channels([_index(channel, info, listed) for channel in channels])


def _index(channel: int | str, info: MovieInfo, listed: str) -> int:
    names = [name.casefold() for name in info.channel_names]
    if isinstance(channel, str) and names.count(channel.casefold()) == 1:
        return names.index(channel.casefold())
    if not isinstance(channel, str) and 0 <= channel < len(names):
        return int(channel)
    raise SettingsError(
        f"{info.path} has no one channel {channel!r}; its channels, counted from 0, are {listed}."
    )


def _require_same_size(frame: np.ndarray, labels: np.ndarray, path: Path) -> None:
    if frame.shape[1:] != labels.shape:
        raise MovieError(
            f"{path}: the labels are {labels.shape[0]} x {labels.shape[1]} px (Y x X), the image "
            f"is {frame.shape[1]} x {frame.shape[2]} px. Both must show the same frame."
        )


def count_frames(count: int) -> str:
    """Say how many frames: ``"1 frame"``, ``"2 frames"``."""
    return f"{count} frame{'' if count == 1 else 's'}"
