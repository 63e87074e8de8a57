"""One open ND2 file: where its chunks lie, and the bytes of its frames.

`nd2` reads the metadata; frames are read here. It would map the file into memory, where a file
that is cut while it is read kills the process with SIGBUS, and it returns zeros for a frame that
is missing or lies beyond the end. So every frame's place is checked when the file is opened and
again when the frame is read, and its bytes come through an ordinary read.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cypose_dask.errors import DamagedFrameError, MovieError

__all__ = ["PARSE_ERRORS", "Nd2Handle"]

# Source: nd2 0.12, `_parse/_chunk_decode` and `_readers/_modern`: a chunk has a header (magic,
# bytes of name, bytes of data), its name, its data. The name of a frame is padded to 4072 bytes
# and its data begins with a time stamp of 8 bytes.
HEADER = struct.Struct("<IIQ")
CHUNK_MAGIC = 0x0ABECEDA
FRAME_NAME_BYTES = 4072
STAMP_BYTES = 8
# A name may be padded to the end of its page; entries of the map are a name, an offset and a size.
MAX_NAME_BYTES = 8192
ENTRY_BYTES = 16
MAP_SIGNATURE = b"ND2 CHUNK MAP SIGNATURE 0000001!"
FRAME_PREFIX = b"ImageDataSeq|"
# Chunks of which there is one a frame: they are checked when they are read.
PER_FRAME = (FRAME_PREFIX, b"CustomDataSeq|")
PIXEL_TYPES = (("u", 8), ("u", 16), ("u", 32), ("f", 32))
# What nd2 raises on damaged metadata; it parses vendor bytes, so nearly anything.
PARSE_ERRORS = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error, OSError,
    RuntimeError, zlib.error, NameError, AssertionError, ImportError,
)  # fmt: skip

Place = tuple[int, int]


class _PlainFile:
    """A file that nd2 cannot map, and that never allocates more than it can give.

    A damaged length asks for exabytes; Python allocates before it reads.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        self._file = open(path, "rb")  # noqa: PTH123, SIM115 - closed by the handle
        self.size_bytes = os.fstat(self._file.fileno()).st_size

    @property
    def closed(self) -> bool:
        return self._file.closed

    def read(self, count: int = -1) -> bytes:
        left = max(0, self.size_bytes - self._file.tell())
        return self._file.read(left if count < 0 else min(count, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()


class Nd2Handle:
    """One open ND2 file.

    Attributes
    ----------
    file
        nd2's view of it, for metadata.
    attributes
        What the header says about a frame.
    shape, dtype
        (C, Y, X, components of a channel) of a frame, and the type of a pixel.
    starts
        {sequence index: (offset, bytes of data) of its chunk}; None for the old format.
    """

    def __init__(self, path: str) -> None:
        import nd2

        self.path = path
        self._plain = _PlainFile(path)
        try:
            self.file = nd2.ND2File(self._plain)
            # First, so that nothing of a damaged map is parsed.
            self.starts = self._find_frames()
            self.attributes = self.file.attributes
            self._frame = _Frame.of(path, self.attributes)
        except MovieError:
            self._plain.close()
            raise
        except PARSE_ERRORS as error:
            self._plain.close()
            raise _unreadable(path, error) from error
        self.shape, self.dtype = self._frame.shape, self._frame.dtype

    def close(self) -> None:
        """Release the file."""
        self.file.close()
        self._plain.close()

    def size_bytes(self) -> int:
        """Return how long the file is now."""
        return os.fstat(self._plain.fileno()).st_size

    def is_whole(self, index: int, size_bytes: int) -> bool:
        """Say whether the chunk map has this frame, within a file of this size."""
        if self.starts is None:
            return index < int(self.attributes.sequenceCount)
        if index not in self.starts:
            return False
        offset, size = self.starts[index]
        end = offset + HEADER.size + FRAME_NAME_BYTES + size
        return offset > 0 and size >= self._frame.least_bytes and end <= size_bytes

    def read(self, index: int) -> npt.NDArray[Any]:
        """Read the frame of a sequence index: (C, Y, X, S).

        Raises
        ------
        DamagedFrameError
            If the chunk map points to something else, or the file ends before the frame does.
        """
        if self.starts is None:
            # nd2 squeezes; putting the axes back is exact because it does not reorder them.
            return np.asarray(self.file.read_frame(index)).reshape(self.shape)
        offset, size = self.starts[index]
        begin = self._begin_of_frame(index, offset, size) + STAMP_BYTES
        if self._frame.compressed:
            return self._frame.view(self._decompressed(index, begin, size - STAMP_BYTES))
        return self._frame.view(self._bytes(index, begin, self._frame.needed_bytes))

    def _begin_of_frame(self, index: int, offset: int, size: int) -> int:
        """Return where the data of a frame begins, having checked that it is this frame."""
        name = FRAME_PREFIX + b"%d!" % index
        head = self._header(offset, name)
        padded = HEADER.pack(CHUNK_MAGIC, FRAME_NAME_BYTES, size) + name
        # A compressed frame says itself where it begins; a raw one is believed to.
        if head != padded and not (self._frame.compressed and _names(head, name, size)):
            raise DamagedFrameError(
                f"{self.path}: the chunk map points to {offset} for frame {index} but found "
                f"{head[: HEADER.size]!r} there; expected a chunk named {name.decode()!r} of "
                f"{size} bytes."
            )
        return offset + HEADER.size + HEADER.unpack_from(head)[1]

    def _header(self, offset: int, name: bytes) -> bytes:
        return os.pread(self._plain.fileno(), HEADER.size + len(name), offset)

    def _decompressed(self, index: int, begin: int, size: int) -> npt.NDArray[np.uint8]:
        data = self._bytes(index, begin, size)
        needed = self._frame.needed_bytes
        pixels = zlib.decompressobj().decompress(data.data, needed)
        if len(pixels) < needed:
            raise DamagedFrameError(
                f"{self.path}: frame {index} has {len(pixels)} bytes when decompressed, expected "
                f"{needed}. Copy the file again."
            )
        return np.frombuffer(pixels, np.uint8)

    def _bytes(self, index: int, begin: int, size: int) -> npt.NDArray[np.uint8]:
        out = np.empty(size, np.uint8)
        done = 0
        while done < size:
            # One call hands over 2 GB at most.
            got = os.preadv(self._plain.fileno(), [out[done:].data], begin + done)
            if not got:
                raise DamagedFrameError(
                    f"{self.path}: ends at {begin + done} bytes within frame {index}, expected "
                    f"{size - done} more. It was cut while it was read: copy it again."
                )
            done += got
        return out

    def _find_frames(self) -> dict[int, Place] | None:
        """Return the places of the frames, having checked the map of chunks; see `starts`."""
        if self.file.is_legacy:
            return None
        chunks = {name: self._place(name, at) for name, at in self.file._rdr.chunkmap.items()}
        self._require_each_once(chunks)
        for name, (offset, size) in chunks.items():
            if not name.startswith(PER_FRAME):
                self._require_chunk(name, offset, size)
        places = _apart(chunks)
        cut = len(FRAME_PREFIX)
        return {
            int(name[cut:-1]): at for name, at in places.items() if name.startswith(FRAME_PREFIX)
        }

    def _place(self, name: bytes, at: Place) -> Place:
        """Return offset and size of a chunk; a size that the map leaves open is in its header."""
        offset, size = at
        if size >= 0:
            return offset, size
        head = self._header(offset, name)
        return offset, HEADER.unpack_from(head)[2] if len(head) >= HEADER.size else 0

    def _require_chunk(self, name: bytes, offset: int, size: int) -> None:
        """Check that the chunk map tells the truth about a chunk of metadata."""
        head = os.pread(self._plain.fileno(), HEADER.size + MAX_NAME_BYTES, offset)
        names = head[HEADER.size :][: HEADER.unpack_from(head)[1]]
        if not _names(head[: HEADER.size + len(name)], name, size) or names.rstrip(b"\0") != name:
            raise MovieError(
                f"{self.path}: the chunk map puts {name.decode(errors='replace')!r} of {size} "
                f"bytes at {offset} but found {head[: HEADER.size + 20]!r} there. The file is "
                "damaged: copy it again, or try nd2.rescue_nd2."
            )

    def _require_each_once(self, names: Iterable[bytes]) -> None:
        """Check that the map ends after as many entries as it has names: none is there twice.

        nd2 keeps one of two entries of a name, and the chunk whose name was damaged is lost.
        """
        descriptor, size = self._plain.fileno(), self._plain.size_bytes
        (begin,) = struct.unpack("<Q", os.pread(descriptor, 8, size - 8))
        _, name_bytes, _ = HEADER.unpack(os.pread(descriptor, HEADER.size, begin))
        end = begin + HEADER.size + name_bytes + sum(len(name) + ENTRY_BYTES for name in names)
        if os.pread(descriptor, len(MAP_SIGNATURE), end) != MAP_SIGNATURE:
            raise MovieError(
                f"{self.path}: the chunk map does not end at {end}, where it would with every "
                "chunk in it once. The file is damaged: copy it again, or try nd2.rescue_nd2."
            )


def _names(head: bytes, name: bytes, size: int) -> bool:
    """Say whether these bytes begin a chunk of this name and size."""
    if len(head) < HEADER.size + len(name):
        return False
    magic, name_bytes, data_bytes = HEADER.unpack_from(head)
    fits = magic == CHUNK_MAGIC and name_bytes >= len(name) and data_bytes == size
    return fits and head.endswith(name)


def _apart(chunks: dict[bytes, Place]) -> dict[bytes, Place]:
    """Leave out chunks that run into the next one: one of the two is not there."""
    in_order = sorted(chunks.items(), key=lambda item: item[1])
    last = (b"end", (2**64, 0))
    bad: set[bytes] = set()
    for (name, (offset, size)), (after, (begin, _)) in zip(
        in_order, [*in_order[1:], last], strict=True
    ):
        if offset + HEADER.size + size > begin:
            bad |= {name, after}
    return {name: place for name, place in chunks.items() if name not in bad}


@dataclass(frozen=True)
class _Frame:
    """How the bytes of a frame become pixels: rows of (X, C, S), padded at their end."""

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    row_bytes: int
    compressed: bool

    @classmethod
    def of(cls, path: str, attributes: Any) -> _Frame:
        """Take sizes and type from the attributes of the image, which must agree."""
        if attributes.compressionType == "lossy":
            raise MovieError(
                f"{path}: found lossy compression, expected none or lossless, which nd2 can "
                "decode. Export the movie from NIS-Elements as TIFF or without compression."
            )
        channels = attributes.channelCount or 1
        shape = (channels, attributes.heightPx, attributes.widthPx,
                 attributes.componentCount // channels)  # fmt: skip
        bits, kind = attributes.bitsPerComponentInMemory, (attributes.pixelDataType or "u")[0]
        packed = math.prod(shape[2:]) * channels * bits // 8
        row = attributes.widthBytes or packed
        counts = (*shape, attributes.sequenceCount)
        whole = all(isinstance(n, int) and n >= 0 for n in counts) and row >= packed
        if not whole or (kind, bits) not in PIXEL_TYPES:
            raise MovieError(
                f"{path}: the header claims frames of {shape} (C, Y, X, samples), {bits} bits of "
                f"type {attributes.pixelDataType!r} a pixel and {row} bytes a row, which do not "
                "fit together. The file is damaged."
            )
        dtype = np.dtype(f"<{kind}{bits // 8}").newbyteorder("=")
        return cls(shape, dtype, row, attributes.compressionType == "lossless")

    @property
    def needed_bytes(self) -> int:
        """Bytes of a frame's pixels; the last row may lack its padding."""
        channels, y, x, samples = self.shape
        return max(0, y - 1) * self.row_bytes + x * channels * samples * self.dtype.itemsize

    @property
    def least_bytes(self) -> int:
        """Bytes that the chunk of a frame must hold at least."""
        return STAMP_BYTES + (1 if self.compressed else self.needed_bytes)

    def view(self, data: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Return bytes as (C, Y, X, S)."""
        channels, y, x, samples = self.shape
        item = self.dtype.itemsize
        strides = (self.row_bytes, channels * samples * item, samples * item, item)
        pixels: npt.NDArray[Any] = np.ndarray(
            (y, x, channels, samples), self.dtype.newbyteorder("<"), data, strides=strides
        )
        return pixels.transpose(2, 0, 1, 3)


def _unreadable(path: str, error: Exception) -> MovieError:
    return MovieError(
        f"{path}: not a complete ND2 file ({type(error).__name__}: {error}); expected its chunk "
        "map at the end. It was cut off or is still being written: copy it again, or try "
        "nd2.rescue_nd2."
    )
