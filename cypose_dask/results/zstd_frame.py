"""How much a zstd frame says that it holds, and where it ends, without unpacking it."""

from __future__ import annotations

import struct

__all__ = ["content_size"]

_MAGIC = b"\x28\xb5\x2f\xfd"
_WINDOW_BYTES = (1, 0)  # by the flag "single segment"
_DICTIONARY_BYTES = (0, 1, 2, 4)
_SIZE_FORMATS = (None, "<H", "<I", "<Q")
_RLE, _RESERVED = 1, 3


def content_size(data: memoryview) -> int:
    """Return the number of bytes that one whole zstd frame unpacks to, as its header says.

    A decoder that is given this frame alone allocates that much and no more.

    Raises
    ------
    ValueError
        If `data` is not exactly one frame whose header says its size.

    Source: RFC 8878, sections 3.1.1.1 (frame header) and 3.1.1.2 (blocks).
    """
    try:
        size, begin, checksum = _header(data)
        end = _end_of_blocks(data, begin) + (4 if checksum else 0)
    except (IndexError, struct.error) as error:
        raise ValueError("a zstd frame that ends early") from error
    if end != len(data):
        raise ValueError(f"{len(data)} bytes, of which one zstd frame has {end}")
    return size


def _header(data: memoryview) -> tuple[int, int, bool]:
    """Return the size of the content, where the blocks begin, and whether a checksum follows."""
    if data[:4] != _MAGIC:
        raise ValueError("no zstd frame")
    descriptor = data[4]
    kind, single = descriptor >> 6, descriptor >> 5 & 1
    at = 5 + _WINDOW_BYTES[single] + _DICTIONARY_BYTES[descriptor & 3]
    form = _SIZE_FORMATS[kind]
    if form:
        (size,) = struct.unpack_from(form, data, at)
        # Two bytes count from 256, since smaller sizes have one.
        size += 256 if kind == 1 else 0
        at += struct.calcsize(form)
    elif single:
        size, at = data[at], at + 1
    else:
        raise ValueError("a zstd frame that does not say its size")
    return size, at, bool(descriptor >> 2 & 1)


def _end_of_blocks(data: memoryview, at: int) -> int:
    last = False
    while not last:
        header = int.from_bytes((data[at], data[at + 1], data[at + 2]), "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        if kind == _RESERVED:
            raise ValueError("a damaged zstd frame")
        at += 3 + (1 if kind == _RLE else size)
    return at
