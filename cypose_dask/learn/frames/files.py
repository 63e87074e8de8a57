"""Frames to annotate on disk: one TIF each, and ``frames.json``, which says where they come from.

A person annotates what lies here, so nothing that exists is ever overwritten or removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cypose_dask.errors import ResultError, SettingsError
from cypose_dask.learn.frames.selection import ChosenFrame, FrameRequest, select_frames
from cypose_dask.movies import Movie
from cypose_dask.results.atomic import whole_file, write_json

__all__ = ["RECORD_NAME", "SavedFrames", "save_frames"]

RECORD_NAME = "frames.json"
_SOFTWARE = "cypose_dask frames"
# Types that ImageJ's own kind of TIF can hold; others become plain TIFs.
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
_CHOSEN_BEFORE = "This choice was made before; files that are there stay as they are."
_IMAGES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".npy")
_SUFFIX = re.compile(r"(\.ome)?\.(zarr|nd2|tiff?|btf|tf2|tf8|lsm|stk|png)$", re.IGNORECASE)
_WILDCARD = re.compile(r"\[[^\]]*\]|[*?]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedFrames:
    """What lies in the folder now.

    Attributes
    ----------
    folder : Path
    written : tuple of Path
        TIFs of this call that are new.
    kept : tuple of Path
        TIFs of this call that were there already and were left alone.
    entries : tuple of dict
        The lines of ``frames.json`` about this call's frames.
    looked_at : int
        Frames that were read to choose from; 0 when the choice was made by an earlier call.
    notes : tuple of str
        Sentences about what was passed over.
    """

    folder: Path
    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    entries: tuple[dict[str, Any], ...]
    looked_at: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Record:
    """Content of ``frames.json``: calls that chose frames, and every frame."""

    calls: list[dict[str, Any]]
    frames: list[dict[str, Any]]


def save_frames(
    movies: Sequence[Movie],
    folder: str | Path,
    request: FrameRequest | None = None,
    *,
    add: bool = False,
) -> SavedFrames:
    """Choose frames to annotate and write them as TIFs of their own.

    The same call again chooses nothing anew: it leaves every file alone and writes those that are
    missing, so that a call that was killed can be finished.

    Parameters
    ----------
    movies : sequence of Movie
        All their channels are written.
    folder : str or Path
        Made if it is not there. Files are ``MOVIE_p000_t0123.tif``, with ``_z00`` where there are
        planes and ``_y0512_x0256`` for a crop; P, T, Z, Y, X are counted from 0 in the movie. Axes
        are (Y, X) or (C, Y, X), in the movie's dtype, with its pixel size.
    request : FrameRequest
    add : bool, optional
        Choose further frames, which are not in the folder yet.

    Returns
    -------
    SavedFrames

    Raises
    ------
    SettingsError
        If the folder holds frames of another choice and `add` is False, a file of the same name
        and other content is there, two movies are one, or as in `select_frames`.
    MovieError
        If a movie can no longer be read.
    ResultError
        If a file cannot be written.

    Examples
    --------
    >>> saved = save_frames([movie], tmp_path / "frames", FrameRequest(n=2))
    >>> [path.name for path in saved.written]
    ['movie_p000_t0000.tif', 'movie_p000_t0004.tif']
    """
    folder, request = Path(folder), request or FrameRequest()
    _refuse_twins(movies)
    record = _read_record(folder)
    call = _describe_call(movies, request)
    number = next((i for i, known in enumerate(record.calls) if not _differences(known, call)), -1)
    if number >= 0 and not add:
        choice = _Choice([e for e in record.frames if e["call"] == number], 0, (_CHOSEN_BEFORE,))
    else:
        if not add:
            _refuse_others(folder, record, call)
        selection = select_frames(movies, request, taken=_taken(movies, record))
        entries = _entries(movies, selection.frames, record)
        choice = _Choice(entries, selection.looked_at, selection.notes)
        _refuse_strangers(movies, entries, folder)
        # Written first: it is what lets a call that was killed be finished.
        _write_record(folder, _Record([*record.calls, call], [*record.frames, *entries]))
    return _save(movies, folder, choice)


@dataclass(frozen=True, slots=True)
class _Choice:
    """The lines of the record about one call's frames, and how they were found."""

    entries: list[dict[str, Any]]
    looked_at: int
    notes: tuple[str, ...]


def _save(movies: Sequence[Movie], folder: Path, choice: _Choice) -> SavedFrames:
    paths = {folder / entry["file"]: entry for entry in choice.entries}
    kept = tuple(path for path in paths if path.exists())
    new = tuple(path for path in paths if path not in kept)
    for path in new:
        _write(path, movies[paths[path]["movie"]], paths[path])
    return SavedFrames(
        folder=folder,
        written=new,
        kept=kept,
        entries=tuple(choice.entries),
        looked_at=choice.looked_at,
        notes=choice.notes,
    )


def _refuse_twins(movies: Sequence[Movie]) -> None:
    seen: dict[str, str] = {}
    for movie in movies:
        other = seen.setdefault(_identity(movie), movie.info.path)
        if other != movie.info.path:
            raise SettingsError(
                f"{other} and {movie.info.path} have the same content. Give one of them."
            )


def _identity(movie: Movie) -> str:
    return movie.info.fingerprint.content_sha256


def _read_record(folder: Path) -> _Record:
    path = folder / RECORD_NAME
    if not path.exists():
        return _Record([], [])
    try:
        content = json.loads(path.read_text())
        return _Record(list(content["calls"]), list(content["frames"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SettingsError(
            f"{path} cannot be read ({error}); expected what an earlier call wrote. Restore it, or "
            "choose another folder."
        ) from error


def _write_record(folder: Path, record: _Record) -> None:
    content = {"software": _SOFTWARE, "calls": record.calls, "frames": record.frames}
    with _explained(folder / RECORD_NAME):
        write_json(folder / RECORD_NAME, content)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultError(
            f"{path}: could not be written ({error.strerror or error}). Make room, or choose "
            "another folder; the same command goes on where it stopped."
        ) from error


def _describe_call(movies: Sequence[Movie], request: FrameRequest) -> dict[str, Any]:
    described = [
        {
            "path": movie.info.path,
            "content_sha256": _identity(movie),
            "channels": list(movie.info.channel_names),
            "reading": movie.info.reading,
        }
        for movie in movies
    ]
    # Through JSON, so that it compares with one that was read from the file.
    call: dict[str, Any] = json.loads(json.dumps({"movies": described, **asdict(request)}))
    return call


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Name the arguments that differ; a movie may lie at another path."""
    numbers = [
        f"{name} was {one.get(name)}, is {other[name]}"
        for name in other
        if name != "movies" and one.get(name) != other[name]
    ]
    pairs = [
        [{k: v for k, v in movie.items() if k != "path"} for movie in call["movies"]]
        for call in (one, other)
    ]
    return ["the movies or how they are read", *numbers] if pairs[0] != pairs[1] else numbers


def _refuse_others(folder: Path, record: _Record, call: dict[str, Any]) -> None:
    what_to_do = "Choose another folder, or add further frames with --add; nothing is overwritten."
    if record.calls:
        differences = "; ".join(_differences(record.calls[-1], call))
        raise SettingsError(
            f"{folder} holds frames of another choice ({differences}). {what_to_do}"
        )
    if folder.is_dir():
        others = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in _IMAGES)
        if others:
            raise SettingsError(
                f"{folder} holds {len(others)} other images ({', '.join(others[:3])}"
                f"{', ...' if len(others) > 3 else ''}). {what_to_do}"
            )


def _taken(movies: Sequence[Movie], record: _Record) -> list[ChosenFrame]:
    """Return what earlier calls chose of these movies."""
    return [
        ChosenFrame(
            movie=i,
            t=entry["t"],
            p=entry["p"] if movie.source.position is None else 0,
            z=entry["z"],
            window=tuple(entry["window"]) if entry["window"] else None,
            features=entry["features"],
        )
        for i, movie in enumerate(movies)
        for entry in record.frames
        if entry["content_sha256"] == _identity(movie)
        and movie.source.position in (None, entry["p"])
    ]


def _entries(
    movies: Sequence[Movie], frames: Sequence[ChosenFrame], record: _Record
) -> list[dict[str, Any]]:
    stems = _stems(movies, record)
    return [_entry(movies[f.movie], f, (stems[f.movie], len(record.calls))) for f in frames]


def _entry(movie: Movie, frame: ChosenFrame, names: tuple[str, int]) -> dict[str, Any]:
    stem, call = names
    info = movie.info
    # The file's own number also when only this position was opened.
    position = frame.p if movie.source.position is None else movie.source.position
    frame = replace(frame, p=position)
    plane = f"_z{frame.z:02d}" if info.sizes["Z"] > 1 else ""
    crop = f"_y{frame.window[0]:04d}_x{frame.window[1]:04d}" if frame.window else ""
    return {
        "file": f"{stem}_p{position:03d}_t{frame.t:04d}{plane}{crop}.tif",
        "call": call,
        "source": info.path,
        "content_sha256": _identity(movie),
        "stem": stem,
        **asdict(frame),
        "channels": list(info.channel_names),
        "pixel_size_um": info.pixel_size_um,
    }


def _stems(movies: Sequence[Movie], record: _Record) -> list[str]:
    """Name every movie, differently from all others that this folder knows."""
    known = {entry["content_sha256"]: entry["stem"] for entry in record.frames}
    for movie in movies:
        if _identity(movie) not in known:
            used = {stem.casefold() for stem in known.values()}
            known[_identity(movie)] = _free_stem(Path(movie.info.path), used)
    return [known[_identity(movie)] for movie in movies]


def _free_stem(path: Path, used: set[str]) -> str:
    bare = _WILDCARD.sub("", _SUFFIX.sub("", path.name)).strip("_-. ")
    folder = _WILDCARD.sub("", path.parent.name).strip("_-. ")
    plain = bare or folder or "movie"
    wishes = [plain, f"{folder}_{plain}", *(f"{plain}_{i}" for i in range(2, len(used) + 3))]
    return next(wish for wish in wishes if wish.casefold() not in used)


def _refuse_strangers(
    movies: Sequence[Movie], entries: Sequence[dict[str, Any]], folder: Path
) -> None:
    """Refuse, before any work, a file of the right name that holds another frame."""
    for entry in entries:
        path = folder / entry["file"]
        if path.exists() and not _holds(path, _pixels(movies[entry["movie"]], entry)):
            raise SettingsError(
                f"{path} is there and holds other pixels than this frame of {entry['source']}; it "
                "is left as it is. Move it away, or choose another folder."
            )


def _holds(path: Path, pixels: NDArray[Any]) -> bool:
    import tifffile

    try:
        return bool(
            np.array_equal(tifffile.imread(path), pixels, equal_nan=pixels.dtype.kind == "f")
        )
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _pixels(movie: Movie, entry: Mapping[str, Any]) -> NDArray[Any]:
    position = entry["p"] if movie.source.position is None else 0
    frame = movie.read_frame(entry["t"], position, entry["z"])
    if entry["window"]:
        y, x, side = entry["window"]
        frame = frame[:, y : y + side, x : x + side]
    return frame[0] if len(frame) == 1 else frame


def _write(path: Path, movie: Movie, entry: Mapping[str, Any]) -> None:
    import tifffile

    pixels = np.ascontiguousarray(_pixels(movie, entry))
    imagej = pixels.dtype.name in _IMAGEJ_TYPES
    with _explained(path), whole_file(path) as partial:
        tifffile.imwrite(
            partial,
            pixels,
            imagej=imagej,
            photometric="minisblack",
            software=_SOFTWARE,
            metadata=_metadata(entry, pixels.ndim, imagej=imagej),
            **_resolution(entry["pixel_size_um"], imagej=imagej),
        )


def _metadata(entry: Mapping[str, Any], axes: int, *, imagej: bool) -> dict[str, Any]:
    letters = "CYX"[-axes:]
    if not imagej:
        return {"axes": letters}
    place = f"t={entry['t']} p={entry['p']} z={entry['z']} window={entry['window']}"
    about: dict[str, Any] = {"axes": letters, "Info": f"{entry['source']} {place}"}
    if axes == 3:
        about |= {"mode": "grayscale", "Labels": entry["channels"]}
    return about | ({"unit": "um"} if entry["pixel_size_um"] else {})


def _resolution(pixel_size_um: float | None, *, imagej: bool) -> dict[str, Any]:
    """ImageJ takes its own unit, all others know cm and inch."""
    if not pixel_size_um:
        return {}
    density = (1.0 if imagej else 1e4) / pixel_size_um
    return {"resolution": (density, density)} | ({} if imagej else {"resolutionunit": "CENTIMETER"})
