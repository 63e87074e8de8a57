"""One thing that a check of a result found."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding", "block_name", "frame_name"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What was found where, what was expected, and what to do.

    Attributes
    ----------
    where : str
        File, position or frame; t counts frames of the movie.
    found, expected, advice : str
    is_fault : bool
        False for what is worth knowing but does not make the result wrong.
    is_of_movie : bool
        Whether it is about one movie, so that others may do without.
    """

    where: str
    found: str
    expected: str
    advice: str
    is_fault: bool = True
    is_of_movie: bool = False

    def __str__(self) -> str:
        return f"{self.where}: found {self.found}; expected {self.expected}. {self.advice}"


def frame_name(t: int, position: int, z: int) -> str:
    """Name a frame; t counts frames of the movie."""
    return f"frame t={t} position={position} z={z}"


def block_name(start: int, length: int, position: int) -> str:
    """Name a block; `start` counts frames of the movie."""
    return f"block t={start}-{start + length - 1} position={position}"
