"""One thing that a check of a result found."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


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
    """

    where: str
    found: str
    expected: str
    advice: str
    is_fault: bool = True

    def __str__(self) -> str:
        return f"{self.where}: found {self.found}; expected {self.expected}. {self.advice}"
