"""What the numbers in file names mean: one image a file, ordered by T, P, Z and C.

    img2.tif, img10.tif                  the one number that varies is T
    exp_t001xy02c1.tif                   letters before a number say what it counts
    exp_w1GFP_s3_t12.TIF                 text that follows a channel number names the channel

Order is by number, never by the alphabet, and numbering may start anywhere. Nothing is
skipped in silence: a number that is missing is reported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from cypose_dask.errors import MovieError

__all__ = ["Numbering", "number_names"]

AXES = "TPZC"
WORDS = {
    "t": "T", "tp": "T", "time": "T", "timepoint": "T", "frame": "T", "p": "P", "pos": "P",
    "position": "P", "xy": "P", "s": "P", "stage": "P", "series": "P", "fov": "P", "z": "Z",
    "slice": "Z", "c": "C", "ch": "C", "channel": "C", "w": "C", "wave": "C",
}  # fmt: skip
# The letters right before a number: a whole word, maybe a sign between the two.
TOKEN = re.compile(r"(?:^|[^A-Za-z])([A-Za-z]+)[-_= ]?$")
# Numbers that are mostly missing are no numbering but dates or identities.
MAX_SPREAD = 10

Place = tuple[int, int, int, int]


@dataclass(frozen=True)
class Numbering:
    """Where each file of a sequence belongs.

    Attributes
    ----------
    letters
        The axis of each number that varies, in the order of the name; ``?`` for a number
        that nothing names.
    names
        The file name at each (t, p, z, c), counted from 0.
    sizes
        Sizes of T, P, Z, C as the names tell them.
    missing
        Places for which there is no file.
    labels
        For P and C the texts of the names, such as ``xy02`` or ``GFP``.
    """

    letters: str
    names: dict[Place, str]
    sizes: dict[str, int]
    missing: tuple[Place, ...]
    labels: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class _Number:
    """A number that varies among the names: its column, and the word before it."""

    column: int
    word: str | None

    @property
    def letter(self) -> str:
        return WORDS.get(self.word or "", "?")


def number_names(names: Sequence[str], letters: str | None = None) -> Numbering:
    """Order file names by the numbers in them.

    Parameters
    ----------
    names
        File names, in any order.
    letters
        The axis of each number that varies, if it is known already.

    Raises
    ------
    MovieError
        If the names differ in more than numbers, two have the same numbers, or numbers are
        too sparse to be a numbering.
    """
    table = [re.split(r"(\d+)", name) for name in names]
    _require_same_form(names, table)
    numbers = _varying(table)
    found = letters or "".join(number.letter for number in numbers)
    _require_once(found, names)
    _require_texts_follow(table, names, numbers, found)
    if "?" in found:
        return Numbering(found, {}, {}, (), {})
    return _placed(names, table, dict(zip(found, numbers, strict=True)))


def _require_same_form(names: Sequence[str], table: list[list[str]]) -> None:
    for name, row in zip(names, table, strict=True):
        if len(row) != len(table[0]):
            raise MovieError(
                f"The names {names[0]!r} and {name!r} hold a different count of numbers; expected "
                "one form. Give a narrower pattern."
            )


def _varying(table: list[list[str]]) -> list[_Number]:
    columns = range(1, len(table[0]), 2)
    return [
        _Number(i, _word_before(table, i))
        for i in columns
        if len({int(row[i]) for row in table}) > 1
    ]


def _word_before(table: list[list[str]], column: int) -> str | None:
    matches = {TOKEN.search(row[column - 1]) for row in table}
    words = {match[1].lower() if match else None for match in matches}
    return words.pop() if len(words) == 1 else None


def _require_once(letters: str, names: Sequence[str]) -> None:
    twice = {c for c in letters if letters.count(c) > 1 and c != "?"}
    if twice:
        raise MovieError(
            f"Two numbers in names such as {names[0]!r} both count {', '.join(sorted(twice))}; "
            "expected one. Give a narrower pattern."
        )


def _require_texts_follow(
    table: list[list[str]], names: Sequence[str], numbers: list[_Number], letters: str
) -> None:
    """Text may vary only with the channel number: it is then the channel's name."""
    channel = [n.column for n, letter in zip(numbers, letters, strict=True) if letter == "C"]
    for i in range(0, len(table[0]), 2):
        seen: dict[int | None, str] = {}
        for name, row in zip(names, table, strict=True):
            key = int(row[channel[0]]) if channel else None
            if seen.setdefault(key, row[i]) != row[i]:
                raise MovieError(
                    f"The names {names[0]!r} and {name!r} differ in more than their numbers; "
                    "expected one numbered series. Give a narrower pattern."
                )


def _placed(names: Sequence[str], table: list[list[str]], columns: dict[str, _Number]) -> Numbering:
    values = {c: sorted({int(row[n.column]) for row in table}) for c, n in columns.items()}
    first = {c: values[c][0] if c in values else 0 for c in AXES}
    sizes = {c: values[c][-1] - values[c][0] + 1 if c in values else 1 for c in AXES}
    _require_dense(names, values, sizes)
    placed: dict[Place, str] = {}
    for name, row in zip(names, table, strict=True):
        at = tuple(int(row[columns[c].column]) - first[c] if c in columns else 0 for c in AXES)
        other = placed.setdefault(at, name)  # type: ignore[arg-type]
        if other != name:
            raise MovieError(f"The names {other!r} and {name!r} have the same numbers.")
    grid = product(*(range(sizes[c]) for c in AXES))
    missing = tuple((t, p, z, c) for t, p, z, c in grid if (t, p, z, c) not in placed)
    labels = {c: _labels(table, columns, c, sizes[c]) for c in "PC" if c in columns}
    letters = "".join(sorted(columns, key=lambda c: columns[c].column))
    return Numbering(letters, placed, sizes, missing, labels)


def _require_dense(
    names: Sequence[str], values: dict[str, list[int]], sizes: dict[str, int]
) -> None:
    if math.prod(sizes.values()) <= MAX_SPREAD * len(names):
        return
    spread = ", ".join(f"{c} from {v[0]} to {v[-1]}" for c, v in values.items())
    raise MovieError(
        f"Found {len(names)} files numbered {spread}, so most numbers are missing; expected a "
        f"series without gaps, as in {names[0]!r}. Give a narrower pattern."
    )


def _labels(
    table: list[list[str]], columns: dict[str, _Number], letter: str, size: int
) -> tuple[str, ...]:
    """Name each value: the text after it if that varies (a channel), else word and number."""
    number = columns[letter]
    column, start = number.column, min(int(row[number.column]) for row in table)
    varies = letter == "C" and len({row[column + 1] for row in table}) > 1
    labels = [str(i) for i in range(size)]
    for row in table:
        text = re.split(r"[-_. ]", row[column + 1])[0] if varies else ""
        labels[int(row[column]) - start] = text or f"{number.word or ''}{row[column]}"
    return tuple(labels)
