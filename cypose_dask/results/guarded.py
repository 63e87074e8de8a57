"""Reading a store that anybody may have written: never more memory than its layout needs.

zarr believes what it reads. A shard can be a pipe, or a file of terabytes without any content; a
chunk of some kilobytes can unpack to gigabytes. So files are measured before they are read, and
chunks before they are unpacked.
"""

from __future__ import annotations

import dataclasses
import math
import stat
from pathlib import Path
from typing import Any

from zarr import Array, AsyncArray
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec
from zarr.storage import LocalStore

from cypose_dask.errors import ResultError
from cypose_dask.results.zstd_frame import content_size

__all__ = ["GuardedStore", "guarded", "packed_bytes"]

# What metadata may have, and indexes of shards.
_SMALL_BYTES = 64 * 2**20


class GuardedStore(LocalStore):
    """A folder whose files are read only if they are files, and no larger than allowed.

    Attributes
    ----------
    largest_file, largest_part : int
        Bytes of a file that is read as a whole, and of a part of one.
    """

    def __init__(self, root: Path, *, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        self.largest_file = self.largest_part = _SMALL_BYTES

    def allow(self, largest_file: int, largest_part: int) -> None:
        """Raise the limits to what the layout needs."""
        self.largest_file = max(largest_file, _SMALL_BYTES)
        self.largest_part = max(largest_part, _SMALL_BYTES)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """Read a file or a part of one; see zarr's `LocalStore.get`."""
        self._measure(key, byte_range)
        return await super().get(key, prototype, byte_range)

    def _measure(self, key: str, byte_range: Any) -> None:
        try:
            found = (self.root / key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISDIR(found.st_mode):
            return
        if not stat.S_ISREG(found.st_mode):
            raise ResultError(f"{self.root / key} is no regular file; refused.")
        size, limit = found.st_size, self.largest_file
        if byte_range is not None:
            size, limit = min(_length(byte_range, size), size), self.largest_part
        if size > limit:
            raise ResultError(
                f"{self.root / key}: {size} bytes would be read at once; expected at most {limit} "
                "in a result of this layout. The store was changed or damaged."
            )


def _length(byte_range: Any, size: int) -> int:
    if hasattr(byte_range, "end"):
        return int(byte_range.end - byte_range.start)
    return int(getattr(byte_range, "suffix", size))


class _MeasuredZstd(ZstdCodec):
    """zstd that unpacks a chunk only if it holds as many bytes as the array says."""

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        expected = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        found = content_size(memoryview(chunk_bytes.as_numpy_array()).cast("B"))
        if found != expected:
            raise ValueError(f"a chunk that would unpack to {found} bytes instead of {expected}")
        return await super()._decode_single(chunk_bytes, chunk_spec)


def guarded(array: Any) -> Any:
    """Return the same zarr array with chunks that are measured before they are unpacked.

    Raises
    ------
    ValueError
        If its codecs are others than this package writes.
    """
    sharding, *rest = array.metadata.codecs
    if isinstance(sharding, ShardingCodec) and not rest:
        _require_codecs(sharding.index_codecs, (BytesCodec, Crc32cCodec))
        codecs: tuple[Any, ...] = (
            dataclasses.replace(sharding, codecs=_measured(sharding.codecs)),
        )
    else:
        codecs = _measured(array.metadata.codecs)
    metadata = dataclasses.replace(array.metadata, codecs=codecs)
    async_array = array.async_array
    return Array(AsyncArray(metadata, async_array.store_path, async_array.config))


def _measured(codecs: Any) -> tuple[Any, ...]:
    _require_codecs(codecs, (BytesCodec, ZstdCodec))
    as_bytes, zstd = codecs
    return as_bytes, _MeasuredZstd(level=zstd.level, checksum=zstd.checksum)


def _require_codecs(codecs: Any, expected: tuple[type, ...]) -> None:
    if len(codecs) != len(expected) or not all(map(isinstance, codecs, expected)):
        found = ", ".join(type(codec).__name__ for codec in codecs)
        raise ValueError(f"chunks packed by {found}")


def packed_bytes(size: int) -> int:
    """Return the most bytes that zstd makes of `size` bytes.

    Source: ``ZSTD_COMPRESSBOUND`` in zstd.h, rounded up.
    """
    return size + size // 256 + 1024
