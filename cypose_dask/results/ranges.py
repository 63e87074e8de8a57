"""Numbers as a person writes them: ``3-5, 17``."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["as_ranges"]


def as_ranges(numbers: Iterable[int]) -> str:
    """Write increasing whole numbers as ranges.

    >>> as_ranges([3, 4, 5, 17])
    '3-5, 17'
    >>> as_ranges([0, 1])
    '0-1'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
