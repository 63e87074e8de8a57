"""Labelled frames in files, to train on: folders of images and labels, and corrected results."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cypose_dask.errors import MovieNotFoundError, SettingsError
from cypose_dask.learn.scoring.label_files import LabelFrames, read_labels
from cypose_dask.learn.scoring.label_pairs import find_label_files, folder_of_labels, label_stem
from cypose_dask.learn.training.example_frames import (
    Finds,
    Reading,
    count_frames,
    read_frames,
    with_chosen,
)
from cypose_dask.learn.training.example_names import Origin, frame_origins, movie_of_name, sortable
from cypose_dask.learn.training.example_results import read_result
from cypose_dask.learn.training.examples import Examples
from cypose_dask.models.pickled import read_pickled_npy

if TYPE_CHECKING:
    from cypose_dask.movies import Movie

__all__ = ["FoundExamples", "Reading", "find_examples", "read_examples"]

log = logging.getLogger(__name__)

_IMAGES = (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".lsm", ".stk", ".png", ".nd2", ".zarr")
_SUFFIX = re.compile(r"(\.ome)?\.[^.]+$", re.I)
_LISTED = 8


@dataclass(frozen=True)
class FoundExamples:
    """Examples, and what there is to say about how they were found.

    Attributes
    ----------
    examples : Examples
        Sorted by movie, position, time and plane, whatever the order of the files.
    channel_names : tuple of tuple of str
        Names that occur for each channel, sorted; numbers that stand for a missing name left out.
    notes : tuple of str
        Sentences about what was left out.
    """

    examples: Examples
    channel_names: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def read_examples(
    sources: Iterable[str | Path], *, channels: Sequence[int | str] | None = None
) -> Examples:
    """Read labelled frames to train on, and log what was left out.

    Parameters
    ----------
    sources : iterable of path
        As in `find_examples`, which raises the same errors.
    channels : sequence of int or str, or None
        As in `Reading`.

    Returns
    -------
    labelled : Examples
        Sorted by movie, position, time and plane.
    """
    found = find_examples(sources, Reading(channels=channels))
    for note in found.notes:
        log.warning("%s", note)
    return found.examples


def find_examples(sources: Iterable[str | Path], reading: Reading | None = None) -> FoundExamples:
    """Read labelled frames to train on.

    Parameters
    ----------
    sources : iterable of path
        Folders in which images lie beside their labels (``NAME_seg.npy``, ``NAME_cp_masks.tif``,
        ``NAME_masks.tif``, ``NAME_labels.tif`` or ``.png``, or in a folder ``masks`` or ``labels``
        beside them, where the mark may be missing), single images with labels beside them, or
        results (``.zarr``) whose labels were corrected; only frames that are done are
        taken from these. Images without labels are left out, with a note.
    reading : Reading, optional

    Returns
    -------
    FoundExamples

    Raises
    ------
    MovieNotFoundError
        If there is nothing at a path, a folder holds no labelled image, or the movie of a result
        is gone.
    MovieError
        If a file cannot be read, its axes are ambiguous, or labels do not fit their image.
    SettingsError
        If channels must be chosen, or ``frames.json`` is damaged.
    ResultError
        If a result is damaged.

    Notes
    -----
    Frames of stacks, of results and of `cypose-dask frames` know their movie; two images alone
    belong to one movie if they lie in one folder and their names differ in the last numbers alone
    (`cypose_dask.learn.training.example_names`).
    """
    reading, finds = reading or Reading(), Finds()
    for source in map(Path, sources):
        _read_source(source, reading, finds)
    if not finds.frames:
        raise SettingsError(" ".join(["There is no labelled frame to train on.", *finds.notes]))
    ordered = sorted(finds.frames, key=lambda one: (one[0].movie, one[0].key))
    empty = [origin.movie for origin, _, labels in ordered if not labels.any()]
    if empty:
        finds.notes.append(
            f"{count_frames(len(empty))} of {_listed(sorted(set(empty)))} labelled, but without a "
            "cell: taken as frames in which there is nothing. Remove label files that are "
            "unfinished."
        )
    examples = Examples(
        tuple(frame for _, frame, _ in ordered),
        tuple(labels for _, _, labels in ordered),
        tuple(origin.movie for origin, _, _ in ordered),
    )
    return FoundExamples(examples, _names_of(ordered), tuple(finds.notes))


def _names_of(found: Iterable[tuple[Origin, Any, Any]]) -> tuple[tuple[str, ...], ...]:
    names: list[set[str]] = []
    for origin, _, _ in found:
        names += [set() for _ in range(len(origin.channels) - len(names))]
        for known, name in zip(names, origin.channels, strict=False):
            known |= set() if name.isdigit() else {name}
    return tuple(tuple(sorted(known)) for known in names)


def _read_source(source: Path, reading: Reading, finds: Finds) -> None:
    from cypose_dask.results import is_own_output

    if not source.exists():
        raise MovieNotFoundError(
            f"{source}: there is no such folder or file. Expected a folder of images with their "
            "labels, an image with its labels beside it, or a result (.zarr)."
        )
    if source.suffix.lower() == ".zarr" and is_own_output(source):
        finds.add(read_result(read_labels(source), reading))
    elif source.is_dir() and not _is_zarr(source):
        _read_folder(source, None, reading, finds)
    else:
        _read_folder(source.parent, source, reading, finds)


# ---- folders -------------------------------------------------------------------------------


def _read_folder(folder: Path, only: Path | None, reading: Reading, finds: Finds) -> None:
    """Read the labelled images of a folder, or one of them."""
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    marked = [path for path in files if _is_labels(path)]
    images = [path for path in files if _is_image(path) and path not in marked]
    labels = find_label_files(folder) if marked or folder_of_labels(folder) != folder else {}
    pairs = _pairs(labels, images, only)
    if not pairs:
        raise MovieNotFoundError(_nothing_labelled(only or folder, files))
    if only is None:
        _note_left_out(finds, (folder, images, labels), pairs)
    origins = frame_origins(folder)
    for image, found in pairs:
        finds.add(_read_pair(image, found, (origins.get(image.name), reading)))


def _pairs(
    labels: dict[str, LabelFrames], images: Sequence[Path], only: Path | None
) -> list[tuple[Path, LabelFrames]]:
    by_stem: dict[str, list[Path]] = {}
    for image in images:
        by_stem.setdefault(_SUFFIX.sub("", image.name), []).append(image)
    pairs = []
    for stem, found in labels.items():
        candidates = by_stem.get(stem) or _named_inside(found.path, images)
        if only is not None:
            candidates = [image for image in candidates if image.name == only.name]
        if len(candidates) > 1:
            raise SettingsError(
                f"{_listed([str(path) for path in candidates])} could all be the image of "
                f"{found.path}. Keep one of them in this folder."
            )
        pairs += [(image, found) for image in candidates]
    return pairs


def _named_inside(labels: Path, images: Sequence[Path]) -> list[Path]:
    """Find the image that a ``_seg.npy`` names, in this folder: its path may be of elsewhere."""
    if labels.suffix.lower() != ".npy":
        return []
    try:
        named = str(read_pickled_npy(labels)["filename"])
    except (pickle.UnpicklingError, OSError, LookupError, TypeError):
        return []
    last = named.replace("\\", "/").rsplit("/", 1)[-1]
    return [image for image in images if image.name == last]


def _note_left_out(
    finds: Finds,
    there: tuple[Path, Sequence[Path], dict[str, LabelFrames]],
    pairs: Sequence[tuple[Path, LabelFrames]],
) -> None:
    folder, images, labels = there
    used = {path for image, found in pairs for path in (image, found.path)}
    bare = [image.name for image in images if image not in used]
    alone = [found.path.name for found in labels.values() if found.path not in used]
    if bare:
        finds.notes.append(
            f"{folder}: {len(bare)} image{'' if len(bare) == 1 else 's'} without labels, left out: "
            f"{_listed(bare)}."
        )
    if alone:
        finds.notes.append(
            f"{folder}: {len(alone)} label file{'' if len(alone) == 1 else 's'} without an image, "
            f"left out: {_listed(alone)}."
        )


def _nothing_labelled(path: Path, files: Sequence[Path]) -> str:
    inside = _listed([file.name for file in files]) or "nothing"
    return (
        f"{path}: found no image with labels beside it. The folder holds {inside}. Expected "
        "NAME.tif or NAME.png with NAME_seg.npy (Cellpose's GUI), NAME_cp_masks.tif, "
        "NAME_masks.tif or NAME_labels.tif, beside it or in a folder masks/ or labels/."
    )


def _read_pair(image: Path, labels: LabelFrames, how: tuple[Origin | None, Reading]) -> Finds:
    from cypose_dask.movies import open_movie

    origin, reading = how
    movie = open_movie(image, axes=reading.axes, rgb=reading.rgb, allow_damaged=True)
    movie = with_chosen(_renamed(movie, origin), reading)
    if origin is None and any(movie.info.sizes[axis] > 1 for axis in "TPZ"):
        return read_frames(movie, labels, reading)
    # An image alone is told by its name, and is no part of a choice of frames.
    found = read_frames(movie, labels, replace(reading, frames=None))
    known = origin or Origin(movie_of_name(image), sortable(image.name))
    found.frames = [
        (replace(known, channels=one.channels), frame, taken) for one, frame, taken in found.frames
    ]
    return found


def _renamed(movie: Movie, origin: Origin | None) -> Movie:
    """Take the names of channels from the record; a TIF of one channel cannot keep its name."""
    from cypose_dask.movies import Movie

    if origin is None or len(origin.channels) != movie.info.sizes["C"]:
        return movie
    return Movie(replace(movie.info, channel_names=origin.channels), movie.source)


# ---- what a file is, by its name -----------------------------------------------------------


def _is_labels(path: Path) -> bool:
    from cypose_dask.results import is_own_output

    if path.suffix.lower() == ".zarr":
        return is_own_output(path)
    is_file = path.name.lower().endswith("_seg.npy") or _is_image(path)
    stem = _SUFFIX.sub("", path.name)
    return is_file and label_stem(f"{stem}.tif") != stem


def _is_image(path: Path) -> bool:
    if path.suffix.lower() not in _IMAGES:
        return False
    return _is_zarr(path) if path.is_dir() else path.suffix.lower() != ".zarr"


def _is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup", ".zattrs"))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
