"""What every reader asks of a path before it opens it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cypose_dask.errors import CyposeError, DamagedFrameError, MovieError, MovieNotFoundError
from cypose_dask.movies.source import Stamp

__all__ = [
    "check_file",
    "reading_errors",
    "require_nonempty",
    "require_plausible_count",
    "require_sane_frame",
    "stamp_of_file",
    "summary_of_damage",
]

# 2 giga-pixels: twice a 32,768 x 32,768 camera mosaic. A header that says more is damaged.
MAX_FRAME_PIXELS = 2**31
# A frame costs its file at least this, in an entry of a table of contents or a TIFF directory.
LEAST_BYTES_A_FRAME = 100
# Frames that an acquisition which was stopped may lack; each is looked for one by one.
MAX_MISSING = 100_000


def stamp_of_file(path: str) -> Stamp:
    """Return size and modification time of a file.

    Raises
    ------
    MovieNotFoundError
        If there is no such file.
    """
    try:
        stat = os.stat(path)  # noqa: PTH116 - asked once a frame; Path costs ten times as much
    except OSError as error:
        raise MovieNotFoundError(f"{path}: {error.strerror}. Give an existing file.") from error
    return Stamp(stat.st_size, stat.st_mtime_ns)


def check_file(path: str, stamp: Stamp) -> None:
    """Raise MovieError if the file is not the one that was opened.

    A file that was truncated while it is mapped into memory would kill the process, and one
    that was replaced would mix two movies.
    """
    now = stamp_of_file(path)
    if now != stamp:
        raise MovieError(
            f"{path} has changed since it was opened: found {now.size_bytes} bytes, expected "
            f"{stamp.size_bytes} (modified {now.mtime_ns} ns, was {stamp.mtime_ns}). "
            "Wait until it is completely written, then open it again."
        )


def require_nonempty(path: str) -> None:
    """Raise MovieError if the file holds nothing at all."""
    if not Path(path).stat().st_size:
        raise MovieError(f"{path}: found an empty file (0 bytes), expected a movie. Copy it again.")


def require_sane_frame(path: str, frame_shape: Iterable[int]) -> None:
    """Raise MovieError if a header claims no pixels or more than any camera delivers."""
    shape = tuple(frame_shape)
    pixels = 1
    for n in shape:
        pixels *= n
    if not 0 < pixels <= MAX_FRAME_PIXELS:
        raise MovieError(
            f"{path}: the header claims frames of {shape} pixels (C, Y, X); expected 1 to "
            f"{MAX_FRAME_PIXELS}. The file is damaged or not a movie."
        )


def require_plausible_count(path: str, frames: float, size_bytes: int) -> None:
    """Raise MovieError if a header counts far more frames than its bytes can hold."""
    most = size_bytes // LEAST_BYTES_A_FRAME + MAX_MISSING
    if not frames <= most:
        raise MovieError(
            f"{path}: the header counts {frames:.4g} frames, which {size_bytes} bytes cannot "
            f"hold; expected fewer than {most}. The file is damaged or not a movie."
        )


def summary_of_damage(path: str, damaged: tuple[tuple[int, int, int], ...], total: int) -> str:
    """Say how many frames are missing, which ones, and what to do."""
    shown = ", ".join(str(at) for at in damaged[:3]) + (", ..." if len(damaged) > 3 else "")
    return (
        f"{path}: {len(damaged)} of {total} frames are missing or cut off, (t, p, z) = {shown}; "
        "expected all. Copy the file again, or pass allow_damaged=True (--allow-damaged) to go "
        "on without these frames."
    )


@contextmanager
def reading_errors(path: str, at: object, *kinds: type[Exception]) -> Iterator[None]:
    """Turn what a decoder raises into DamagedFrameError, and a failing disk into MovieError."""
    try:
        yield
    except CyposeError:
        raise
    except OSError as error:
        raise MovieError(f"{path}: reading frame (t, p, z) = {at} failed: {error}.") from error
    except kinds as error:
        raise DamagedFrameError(
            f"{path}: the frame (t, p, z) = {at} cannot be decoded "
            f"({type(error).__name__}: {error}). Copy the file again or leave the frame out."
        ) from error
