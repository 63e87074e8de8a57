"""Mutants: files whose structure is damaged, each named by its seed file and a number."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzz.fields import Field
from fuzz.nd2_fields import nd2_fields
from fuzz.tiff_fields import tiff_fields

__all__ = ["Change", "Mutant", "Parent", "make_mutant"]


@dataclass(frozen=True)
class Change:
    """What was done to a file, and what it touched."""

    words: str
    declares: bool = False
    encodes: bool = False

    def __add__(self, other: Change) -> Change:
        words = f"{self.words}; {other.words}" if self.words else other.words
        return Change(words, self.declares or other.declares, self.encodes or other.encodes)


@dataclass(frozen=True)
class Parent:
    """An intact file and its fields."""

    name: str
    data: bytes
    fields: tuple[Field, ...]

    @classmethod
    def read(cls, path: Path) -> Parent:
        data = path.read_bytes()
        fields = nd2_fields(data) if path.suffix == ".nd2" else tiff_fields(data)
        return cls(path.name, data, tuple(f for f in fields if f.size))


@dataclass(frozen=True)
class Mutant:
    """A damaged file."""

    name: str
    number: int
    data: bytes
    change: Change

    @property
    def words(self) -> str:
        """What it is and how to make it again."""
        return f"python -m fuzz {self.name} {self.number}: {self.change.words}"


def make_mutant(parent: Parent, number: int) -> Mutant:
    """Make the mutant of a number; the same one for ever."""
    rng = random.Random(f"{parent.name}:{number}")
    data, change = bytearray(parent.data), Change("")
    chosen = rng.choices(*zip(*OPERATIONS, strict=True), k=1 if rng.random() < 0.75 else 2)
    # The length changes last: the fields of a file that was cut are not all there.
    for operation in sorted(chosen, key=lambda one: one in (_truncate, _append)):
        if len(data) == len(parent.data):
            change += operation(rng, parent, data)
    return Mutant(parent.name, number, bytes(data), change)


def _change_field(rng: random.Random, parent: Parent, data: bytearray) -> Change:
    """Give a field another value."""
    field = rng.choice(parent.fields)
    change = {"number": _change_number, "text": _change_text, "bytes": _change_byte}[field.kind]
    words = change(rng, field, parent.data, data)
    moved = field.kind == "number" and field.value(data) in field.free
    return Change(words, field.declares or moved, field.encodes)


def _change_number(rng: random.Random, field: Field, old: bytes, data: bytearray) -> str:
    value, top = field.value(old), 256**field.size - 1
    choices = (
        0, 1, 2, 3, top, top // 2, value + 1, value - 1, value * 2, value // 2, value + 256,
        value ^ (1 << rng.randrange(field.size * 8)), rng.randint(0, top), field.at, len(old),
        rng.randrange(len(old)),
    )  # fmt: skip
    new = rng.choice([c for c in choices if c != value])
    data[field.at : field.at + field.size] = field.packed(new)
    return f"{field.what} at {field.at} is {new}, was {value}"


def _change_text(rng: random.Random, field: Field, old: bytes, data: bytearray) -> str:
    """Change a number, an attribute or a letter inside of a text of the same length."""
    text = old[field.at : field.at + field.size]
    numbers = list(re.finditer(rb"\d+", text))
    if numbers and rng.random() < 0.7:
        found = rng.choice(numbers)
        start, stop = found.span()
        new = "".join(rng.choice("0123456789") for _ in range(stop - start)).encode()
    elif rng.random() < 0.3:
        start = rng.randrange(len(text))
        stop = min(len(text), start + rng.choice((1, 4, 30)))
        new = b" " * (stop - start)
    else:
        start = rng.randrange(len(text))
        stop, new = start + 1, bytes([rng.choice(b'\0!<>="|0ATZx\xff')])
    data[field.at + start : field.at + stop] = new
    near = text[max(0, start - 25) : start].decode("latin-1")
    return f"{field.what} at {field.at + start}: after {near!r} {text[start:stop]!r} is {new!r}"


def _change_byte(rng: random.Random, field: Field, old: bytes, data: bytearray) -> str:
    at = field.at + rng.randrange(field.size)
    new = rng.choice([c for c in (0, 1, 0xFF, old[at] ^ (1 << rng.randrange(8))) if c != old[at]])
    data[at] = new
    return f"{field.what}: byte at {at} is {new}, was {old[at]}"


def _swap(rng: random.Random, parent: Parent, data: bytearray) -> Change:
    """Exchange two fields of one group, or copy one over the other."""
    first = rng.choice([f for f in parent.fields if f.group])
    mates = [f for f in parent.fields if f.group == first.group and f.size == first.size]
    second = rng.choice(mates)
    if second == first:
        return _change_field(rng, parent, data)
    spans = [slice(f.at, f.at + f.size) for f in (first, second)]
    one, two = (parent.data[span] for span in spans)
    data[spans[0]] = two
    copied = rng.random() < 0.4
    if not copied:
        data[spans[1]] = one
    how = "is a copy of" if copied else "is swapped with"
    words = f"{first.what} at {first.at} {how} {second.what} at {second.at}"
    # Two places in a TIFF exchanged are a whole TIFF of another order: nothing in it says which
    # was meant. The chunks of an ND2 have names, so there it shows.
    reordered = not copied and all("Offsets" in one.what for one in (first, second))
    return Change(words, first.declares or reordered, first.encodes or reordered)


def _blank(rng: random.Random, parent: Parent, data: bytearray) -> Change:
    """Fill a run of the structure with zeros or ones, over one field or a few."""
    chosen = rng.randrange(len(parent.fields))
    near = sorted(parent.fields, key=lambda f: f.at)[chosen : chosen + rng.choice((1, 1, 2, 4, 8))]
    fill = rng.choice((0, 0, 0xFF))
    for field in near:
        data[field.at : field.at + field.size] = bytes([fill]) * field.size
    words = f"{', '.join(f.what for f in near)} filled with {fill} from {near[0].at}"
    return Change(words, any(f.declares for f in near), any(f.encodes for f in near))


def _truncate(rng: random.Random, parent: Parent, data: bytearray) -> Change:
    """Cut the file, at a field or anywhere."""
    near, end = rng.choice(parent.fields), len(parent.data)
    ends = near.at, near.at + near.size, near.at + near.size // 2
    at = rng.choice((*ends, rng.randrange(end), end - rng.choice((1, 8, 40))))
    del data[max(at, 1) :]
    return Change(f"cut at {max(at, 1)} of {len(parent.data)} bytes")


def _append(rng: random.Random, parent: Parent, data: bytearray) -> Change:
    added = rng.choice((1, 8, 40, 4096))
    data += bytes(added)
    return Change(f"{added} zeros appended")


Operation = Callable[[random.Random, Parent, bytearray], Change]
OPERATIONS: list[tuple[Operation, int]] = [
    (_change_field, 60), (_swap, 15), (_blank, 12), (_truncate, 10), (_append, 2),
]  # fmt: skip
