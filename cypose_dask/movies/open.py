"""The one door: a path, pattern or store becomes a `Movie`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from cypose_dask.errors import MovieError, MovieNotFoundError
from cypose_dask.movies import files
from cypose_dask.movies.movie import Movie, MovieInfo
from cypose_dask.movies.source import Description, FrameSource

__all__ = ["open_movie"]

RGB_SAMPLES = (3, 4)
ND2_SUFFIXES = (".nd2",)
TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".lsm", ".stk")
PNG_SUFFIXES = (".png",)
ZARR_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs")


def open_movie(
    path: str | os.PathLike[str],
    *,
    axes: str | None = None,
    position: int | str | None = None,
    channels: Sequence[int | str] | None = None,
    rgb: Literal["mean"] | None = None,
    allow_damaged: bool = False,
) -> Movie:
    """Open a movie without reading its frames.

    Parameters
    ----------
    path
        An ND2, TIFF, OME-TIFF or PNG file, a zarr directory, or a pattern such as
        ``"dir/img*.tif"`` for one file a frame.
    axes
        One letter of T, P, Z, C, Y, X (and S for RGB samples) for each axis of the stored
        array, in its order, such as ``"TYX"``; axes of size 1 may be left out. None takes the
        file's own metadata.
    position
        Index or name of the one position to take. None takes all.
    channels
        Indices (from 0) or names of the channels to take, in this order. None takes all.
    rgb
        ``"mean"`` averages the red, green and blue samples, rounded back to the type of the
        file. None refuses colour images.
    allow_damaged
        Open a movie with missing or truncated frames: `MovieInfo.damaged` lists them, and
        reading one raises DamagedFrameError.

    Returns
    -------
    Movie
        Its `frames` are a lazy dask array (T, P, Z, C, Y, X).

    Raises
    ------
    MovieNotFoundError
        If there is nothing at `path`.
    MovieError
        If it cannot be read, is damaged, its axes are ambiguous, or a channel or position is
        not there.
    """
    if rgb not in (None, "mean"):
        raise MovieError(f'Found rgb={rgb!r}; expected None or "mean".')
    found = _describe(os.fspath(path), axes, allow_damaged)
    movie = _selected(_named(found), position, channels, rgb)
    reading = {"axes": axes.upper() if axes else None, **movie.info.reading}
    return replace(movie, info=replace(movie.info, reading=reading))


def _describe(path: str, axes: str | None, allow_damaged: bool) -> Description:
    absolute = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - keeps patterns
    reader = _reader_for(absolute)
    return reader(absolute, axes=axes, allow_damaged=allow_damaged)


def _reader_for(path: str) -> Callable[..., Description]:
    """Pick the reader: by what is there, then by the first bytes, never by the name alone."""
    here = Path(path)
    if here.is_dir():
        return _reader_for_directory(here)
    if not here.exists():
        return _reader_for_pattern(path)
    files.require_nonempty(path)
    return _reader_for_bytes(here)


def _reader_for_directory(here: Path) -> Callable[..., Description]:
    if any((here / name).is_file() for name in ZARR_FILES):
        from cypose_dask.movies.zarr_store import describe_zarr

        return describe_zarr
    raise MovieError(
        f"{here} is a directory; expected a movie. For one image a frame give a pattern in "
        f"quotes, such as '{here}/img*.tif'; for a zarr give the directory with its metadata."
    )


def _reader_for_pattern(path: str) -> Callable[..., Description]:
    if any(sign in path for sign in "*?["):
        from cypose_dask.movies.sequence import describe_sequence

        return describe_sequence
    raise MovieNotFoundError(f"{path}: there is no such file. Check the path.")


def _reader_for_bytes(here: Path) -> Callable[..., Description]:
    head = _first_bytes(here)
    if head.startswith((b"\xda\xce\xbe\x0a", b"\x00\x00\x00\x0c")):
        from cypose_dask.movies.nd2_file import describe_nd2

        return describe_nd2
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        from cypose_dask.movies.tiff_file import describe_tiff

        return describe_tiff
    if head == b"\x89PNG\r\n\x1a\n":
        from cypose_dask.movies.sequence import describe_sequence

        return describe_sequence
    raise MovieError(
        f"{here}: found a file that begins with {head!r}; expected ND2, TIFF, PNG or a zarr "
        "directory. It is another kind of file, or damaged from its first byte."
    )


def _first_bytes(here: Path) -> bytes:
    try:
        with here.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise MovieError(
            f"{here}: cannot be read ({error.strerror}). Ask for the right to read it, or copy it."
        ) from error


def _named(found: Description) -> Description:
    """Fill names that the file does not give with numbers."""
    names = {}
    for letter, field in (("C", "channel_names"), ("P", "position_names")):
        given: tuple[str, ...] = getattr(found, field)
        if len(given) != found.sizes[letter]:
            names[field] = tuple(str(i) for i in range(found.sizes[letter]))
    return replace(found, **names) if names else found  # type: ignore[arg-type]


def _selected(
    found: Description,
    position: int | str | None,
    channels: Sequence[int | str] | None,
    rgb: Literal["mean"] | None,
) -> Movie:
    samples_notes = _settled_samples(found, rgb)
    p = None if position is None else _index_of(found, "position", position)
    chosen = _chosen_channels(found, channels)
    sizes = {**found.sizes, "C": len(chosen), "P": found.sizes["P"] if p is None else 1}
    source = FrameSource(
        path=found.path,
        layout=found.layout,
        stamp=found.stamp,
        shape=tuple(sizes.values()),  # type: ignore[arg-type]
        dtype=found.dtype,
        channels=chosen,
        position=p,
        mean_of_samples=bool(found.samples),
    )
    info = MovieInfo(
        path=found.path,
        format=found.format,
        sizes=sizes,
        dtype=found.dtype,
        channel_names=tuple(found.channel_names[c] for c in chosen),
        position_names=found.position_names if p is None else (found.position_names[p],),
        pixel_size_um=found.pixel_size_um,
        z_step_um=found.z_step_um,
        interval_s=found.interval_s,
        fingerprint=found.fingerprint,
        notes=found.notes + samples_notes,
        damaged=_damaged_in(found, p),
        reading={"position": p, "channels": list(chosen), "rgb": rgb},
    )
    return Movie(info, source)


def _settled_samples(found: Description, rgb: str | None) -> tuple[str, ...]:
    if not found.samples:
        return () if rgb is None else ("The movie has no colours: rgb='mean' changes nothing.",)
    if rgb is None or found.samples not in RGB_SAMPLES:
        raise MovieError(
            f"{found.path}: found an RGB image with {found.samples} samples a pixel; expected "
            'gray channels. Pass rgb="mean" (--rgb mean) to average red, green and blue, '
            "or axes= (--axes) if the samples are channels or frames."
        )
    return ("Red, green and blue are averaged into one channel; alpha is left out.",)


def _chosen_channels(found: Description, channels: Sequence[int | str] | None) -> tuple[int, ...]:
    if channels is None:
        return tuple(range(found.sizes["C"]))
    if isinstance(channels, str) or not channels:
        raise MovieError(f"Found channels={channels!r}; expected a list of indices or names.")
    return tuple(_index_of(found, "channel", wanted) for wanted in channels)


def _index_of(found: Description, what: Literal["channel", "position"], wanted: int | str) -> int:
    """Return the index of a channel or position that is named or numbered."""
    names = found.channel_names if what == "channel" else found.position_names
    if isinstance(wanted, str) and names.count(wanted) == 1:
        return names.index(wanted)
    if not isinstance(wanted, str) and 0 <= wanted < len(names):
        return int(wanted)
    listed = ", ".join(f"{i}: {name}" for i, name in enumerate(names[:20]))
    trouble = "several with this name" if names.count(str(wanted)) > 1 else "no such one"
    raise MovieError(
        f"{found.path}: {what} {wanted!r} was asked for, there is {trouble}; expected one of "
        f"{{{listed}}}."
    )


def _damaged_in(found: Description, position: int | None) -> tuple[tuple[int, int, int], ...]:
    if position is None:
        return found.damaged
    return tuple((t, 0, z) for t, p, z in found.damaged if p == position)
