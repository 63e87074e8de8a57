"""The structure of a file as a list of fields that can be damaged one by one."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

__all__ = ["Field", "Kind"]

# number: an integer. text: words and numbers in ASCII or UTF-8. bytes: anything else.
Kind = Literal["number", "text", "bytes"]
CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True, kw_only=True)
class Field:
    """Some bytes of a file that are not pixels.

    Attributes
    ----------
    at, size
        Where they are, in bytes.
    what
        Words for the reader of a failure.
    group
        Fields of one group can be swapped with each other.
    declares
        Whether they say what the movie is (sizes, type, names, which pages follow), rather than
        where its bytes lie.
    encodes
        Whether they say how pixels are encoded: other values make other pixels.
    free
        Offsets with which the same number of pixels lies in bytes that belong to nothing else
        (padding before or after): no structure shows that they are wrong.
    """

    at: int
    size: int
    what: str
    kind: Kind = "number"
    group: str = ""
    declares: bool = False
    encodes: bool = False
    byteorder: str = "<"
    free: range = range(0)

    def value(self, data: bytes) -> int:
        """Return the integer that is stored."""
        code = self.byteorder + CODES[self.size]
        return int(struct.unpack_from(code, data, self.at)[0])

    def packed(self, value: int) -> bytes:
        """Return the bytes of an integer, wrapped around if it is too large."""
        return struct.pack(self.byteorder + CODES[self.size], value % 256**self.size)
