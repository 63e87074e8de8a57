"""The directories of a TIFF as they are in the file.

`tifffile` reads a page's values but not, for most pages, where they were; and it follows a chain
of directories for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

__all__ = ["chain_of", "directory_bytes", "directory_end", "first_strip", "number_at", "place_tags"]

# The first page alone has them in full.
TEXTS = (270, 50838, 50839)
STRIP_OFFSETS = 273
# tifffile's own limit for a directory.
MAX_ENTRIES = 4096
# Bytes of the integers that an offset can be: SHORT, LONG, LONG8.
FIELD_BYTES = {3: 2, 4: 4, 16: 8}
PLACE_TAGS = (273, 279, 324, 325)


def directory_bytes(keyframe: Any) -> int:
    """Bytes of a directory like that of `keyframe`, with the values of its tags but not texts."""
    tiff = keyframe.parent.tiff
    values = (tag.valuebytecount for tag in keyframe.tags if tag.code not in TEXTS)
    return int(tiff.tagnosize + len(keyframe.tags) * tiff.tagsize + tiff.offsetsize + sum(values))


def chain_of(page: Any) -> list[int]:
    """Return the offsets of a page's directory and of all that follow.

    Raises
    ------
    ValueError
        If they run in a circle, which tifffile would follow four million times.
    """
    tiff, file = page.parent.tiff, page.parent.filehandle
    offset, chain = page.offset, dict[int, None]()
    while 0 < offset < file.size:
        if offset in chain:
            raise ValueError(f"the directories run in a circle, back to the one at {offset}")
        chain[offset] = None
        next_at = directory_end(file, offset, tiff) - tiff.offsetsize
        offset = number_at(file, next_at, tiff.offsetsize, tiff)
    return list(chain)


def directory_end(file: Any, offset: int, tiff: Any) -> int:
    """Return where the directory at an offset ends, the offset of the next one included."""
    entries = min(number_at(file, offset, tiff.tagnosize, tiff), MAX_ENTRIES)
    return int(offset + tiff.tagnosize + entries * tiff.tagsize + tiff.offsetsize)


def place_tags(page: Any, directory: int) -> Iterator[tuple[int, int, int]]:
    """Yield code, offset and bytes of the values that say where a page's strips or tiles are.

    Of most pages tifffile keeps the values alone, not where they were.
    """
    tiff, file = page.parent.tiff, page.parent.filehandle
    entries = min(number_at(file, directory, tiff.tagnosize, tiff), MAX_ENTRIES)
    begin = directory + tiff.tagnosize
    block = file.read(entries * tiff.tagsize)
    for at in range(0, len(block), tiff.tagsize):
        if _number(block[at : at + 2], tiff) in PLACE_TAGS:
            code, kind, count, value = (
                _number(block[at + start : at + stop], tiff)
                for start, stop in pairwise((0, 2, 4, 4 + tiff.offsetsize, tiff.tagsize))
            )
            size = FIELD_BYTES.get(kind, 0) * count
            inline = begin + at + 4 + tiff.offsetsize
            yield code, inline if size <= tiff.offsetsize else value, size


def first_strip(keyframe: Any, directory: int) -> int | None:
    """Return the offset of the only strip of a page, from its directory alone."""
    tiff, file = keyframe.parent.tiff, keyframe.parent.filehandle
    for code, at, size in place_tags(keyframe, directory):
        if code == STRIP_OFFSETS and size in FIELD_BYTES.values():
            return number_at(file, at, size, tiff)
    return None


def number_at(file: Any, offset: int, size: int, tiff: Any) -> int:
    """Read an integer of some bytes; 0 beyond the end of the file."""
    file.seek(offset)
    return _number(file.read(size), tiff)


def _number(data: bytes, tiff: Any) -> int:
    return int.from_bytes(data, "little" if tiff.byteorder == "<" else "big")
