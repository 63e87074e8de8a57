"""What an ND2 file is made of: signature, chunk headers, metadata and the map of chunks."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from fuzz.fields import Field

__all__ = ["nd2_fields"]

MAP_SIGNATURE = b"ND2 CHUNK MAP SIGNATURE 0000001!"
HEADER = struct.Struct("<IIQ")
# Bytes of a value by its type in "CLX lite"; strings, byte arrays and levels are of any length.
LITE_SIZES = {1: 1, 2: 4, 3: 4, 4: 8, 5: 8, 6: 8, 7: 8}
# Metadata that no reader of pixels, names or units looks at.
UNREAD = (b"CustomData", b"ImageCalibration", b"ND2 FILE")


def nd2_fields(data: bytes) -> list[Field]:
    """Find the fields of an ND2 file of version 3."""
    (where,) = struct.unpack_from("<Q", data, len(data) - 8)
    found = [*_head(), *_header(data, where, "map")]
    start = where + 16 + HEADER.unpack_from(data, where)[1]
    for name, at in _entries(data, start, found):
        found += _header(data, at, name.decode())
        if not name.startswith((b"ImageDataSeq", *UNREAD)):
            _, name_bytes, data_bytes = HEADER.unpack_from(data, at)
            begin = at + 16 + name_bytes
            found += _lites(data, begin, begin + data_bytes, name.decode())
    end = len(data)
    found.append(Field(at=end - 40, size=32, what="signature of the map", kind="bytes"))
    found.append(Field(at=end - 8, size=8, what="offset of the map", group="offset"))
    return found


def _head() -> list[Field]:
    return [
        Field(at=0, size=4, what="magic of the file"),
        Field(at=4, size=4, what="name length of the signature"),
        Field(at=8, size=8, what="data length of the signature"),
        Field(at=16, size=32, what="signature of the file", kind="text"),
        Field(at=48, size=6, what="version", kind="text", declares=True, encodes=True),
    ]


def _header(data: bytes, at: int, name: str) -> list[Field]:
    stored = data[at + 16 : at + 80].split(b"\0")[0]
    return [
        Field(at=at, size=4, what=f"magic of chunk {name}"),
        Field(at=at + 4, size=4, what=f"name length of chunk {name}", group="name length"),
        Field(at=at + 8, size=8, what=f"data length of chunk {name}", group="data length"),
        Field(at=at + 16, size=len(stored), what=f"name of chunk {name}", kind="text"),
    ]


def _entries(data: bytes, at: int, found: list[Field]) -> Iterator[tuple[bytes, int]]:
    """Yield name and offset of every chunk of the map, and put the fields of its entries."""
    while True:
        stop = data.index(b"!", at) + 1
        name = data[at:stop]
        if name == MAP_SIGNATURE:
            return
        offset, _ = struct.unpack_from("<QQ", data, stop)
        words = name.decode()
        found.append(Field(at=at, size=stop - at, what=f"map: name of {words}", kind="text",
                           group=f"map name {stop - at}"))  # fmt: skip
        found.append(Field(at=stop, size=8, what=f"map: offset of {words}", group="offset"))
        found.append(Field(at=stop + 8, size=8, what=f"map: size of {words}", group="data length"))
        if not name.startswith(b"ND2 FILE"):
            yield name, offset
        at = stop + 16


def _lites(data: bytes, at: int, end: int, path: str) -> list[Field]:
    """Find type, name and value of every metadata entry, one inside the other."""
    found: list[Field] = []
    while at + 2 < end and data[at] in (*LITE_SIZES, 8, 9, 11):
        kind, letters = data[at], data[at + 1]
        name = data[at + 2 : at + 2 * letters].decode("utf-16-le", "replace")
        path_here, value = f"{path}/{name}", at + 2 + 2 * letters
        found.append(_said(at, 1, f"type of {path_here}"))
        found.append(_said(at + 1, 1, f"name length of {path_here}"))
        found.append(_said(at + 2, 2 * letters, f"name of {path_here}", kind="bytes"))
        if kind == 11:
            count, length = struct.unpack_from("<IQ", data, value)
            found.append(_said(value, 4, f"number of entries of {path_here}"))
            found.append(_said(value + 4, 8, f"length of {path_here}"))
            found += _lites(data, value + 12, at + length, path_here)
            at += length + 8 * count
            continue
        size = LITE_SIZES.get(kind) or _length(data, kind, value)
        found.append(_said(value, size, path_here, kind="bytes" if kind > 6 else "number"))
        at = value + size
    return found


def _length(data: bytes, kind: int, value: int) -> int:
    if kind == 9:
        return 8 + int(struct.unpack_from("<Q", data, value)[0])
    end = value
    while data[end : end + 2] != b"\0\0":
        end += 2
    return end + 2 - value


def _said(at: int, size: int, what: str, kind: str = "number") -> Field:
    """Make a field of metadata; the attributes of the image say how pixels are encoded."""
    encodes = "ImageAttributes" in what or "PicturePlanes" in what
    return Field(
        at=at,
        size=size,
        what=what,
        kind=kind,
        declares=True,
        encodes=encodes,  # type: ignore[arg-type]
    )
