"""What a TIFF file is made of: header, directories, their entries and the values elsewhere."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from fuzz.fields import Field

__all__ = ["tiff_fields"]

TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8,
              13: 4, 16: 8, 17: 8, 18: 8}  # fmt: skip
TEXTS = (270, 305, 306)
PLACES = {273: "StripOffsets", 279: "StripByteCounts", 324: "TileOffsets", 325: "TileByteCounts"}
ENCODINGS = (258, 259, 262, 266, 277, 284, 317, 320, 322, 323, 338, 339)
MAX_ITEMS = 12


@dataclass(frozen=True)
class _Form:
    """Byte order and the sizes of classic TIFF or BigTIFF."""

    order: str
    big: bool

    @property
    def word(self) -> int:
        return 8 if self.big else 4

    @property
    def entry(self) -> int:
        return 20 if self.big else 12

    @property
    def counter(self) -> int:
        return 8 if self.big else 2

    def number(self, data: bytes, at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little" if self.order == "<" else "big")


def tiff_fields(data: bytes) -> list[Field]:
    """Find the fields of a TIFF file."""
    order = "<" if data[:2] == b"II" else ">"
    form = _Form(order, struct.unpack_from(order + "H", data, 2)[0] == 43)
    first = 8 if form.big else 4
    # Byte order and version say how everything else is to be read.
    found = [
        Field(at=0, size=2, what="byte order", kind="bytes", declares=True, encodes=True),
        Field(at=2, size=2, what="version", byteorder=order),
        _link(form, first, "offset of the first directory"),
    ]
    at, seen = form.number(data, first, form.word), 0
    while at and seen < 100:
        at = _directory(data, at, form, f"page {seen}", found)
        seen += 1
    return _with_free(data, found)


def _with_free(data: bytes, found: list[Field]) -> list[Field]:
    """Find the padding around each strip and tile, into which its offset can move unseen."""
    offsets = [f for f in found if f.group in ("StripOffsets", "TileOffsets")]
    counts = [f for f in found if f.group in ("StripByteCounts", "TileByteCounts")]
    parts = {
        f: (f.value(data), f.value(data) + c.value(data))
        for f, c in zip(offsets, counts, strict=False)
    }
    taken = sorted([*parts.values(), *((f.at, f.at + f.size) for f in found)])
    return [replace(f, free=_free(parts[f], taken, len(data))) if f in parts else f for f in found]


def _free(part: tuple[int, int], taken: list[tuple[int, int]], end: int) -> range:
    start, stop = part
    before = max((b for _, b in taken if b <= start), default=0)
    after = min((a for a, _ in taken if a >= stop), default=end)
    return range(before, after - (stop - start) + 1)


def _link(form: _Form, at: int, what: str) -> Field:
    # Which directory comes next is all that counts the pages of a file without metadata.
    return Field(
        at=at, size=form.word, what=what, group="link", declares=True, byteorder=form.order
    )


def _directory(data: bytes, at: int, form: _Form, page: str, found: list[Field]) -> int:
    """Find the fields of one directory and return the offset of the next."""
    count = form.number(data, at, form.counter)
    found.append(
        Field(at=at, size=form.counter, what=f"{page}: number of entries", declares=True,
              encodes=True, byteorder=form.order)
    )  # fmt: skip
    for i in range(count):
        _entry(data, at + form.counter + i * form.entry, form, page, found)
    end = at + form.counter + count * form.entry
    found.append(_link(form, end, f"{page}: offset of the next directory"))
    return form.number(data, end, form.word)


def _entry(data: bytes, at: int, form: _Form, page: str, found: list[Field]) -> None:
    code, kind = form.number(data, at, 2), form.number(data, at + 2, 2)
    items = form.number(data, at + 4, form.word)
    name = f"{page}: tag {code}" + (f" ({PLACES[code]})" if code in PLACES else "")
    says = {"declares": code not in PLACES, "encodes": code in ENCODINGS, "byteorder": form.order}
    # An entry under another code is a tag that is gone, and one that was not there.
    found.append(Field(at=at, size=2, what=f"{name}: code", declares=True, encodes=True,
                       byteorder=form.order))  # fmt: skip
    found.append(Field(at=at + 2, size=2, what=f"{name}: type", **says))  # type: ignore[arg-type]
    found.append(Field(at=at + 4, size=form.word, what=f"{name}: count", **says))  # type: ignore[arg-type]
    value, size = at + 4 + form.word, TYPE_SIZES.get(kind, 1) * items
    if size > form.word:
        found.append(Field(at=value, size=form.word, what=f"{name}: where its value is",
                           group="pointer", **says))  # type: ignore[arg-type] # fmt: skip
        value = form.number(data, value, form.word)
    _values(value, (code, kind, items), name, says, found)


def _values(
    at: int, tag: tuple[int, int, int], name: str, says: dict[str, object], found: list[Field]
) -> None:
    code, kind, items = tag
    size = TYPE_SIZES.get(kind, 1)
    if code in TEXTS or kind in (2, 7):
        found.append(Field(at=at, size=items, what=name, kind="text", **says))  # type: ignore[arg-type]
        return
    size, items = (4, 2 * items) if kind in (5, 10) else (size, items)
    for i in range(min(items, MAX_ITEMS)):
        group = PLACES.get(code, "")
        found.append(Field(at=at + i * size, size=size, what=f"{name}[{i}]", group=group, **says))  # type: ignore[arg-type]
