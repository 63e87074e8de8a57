"""PNG images, the members of a sequence."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cypose_dask.errors import MovieError
from cypose_dask.movies import files, handles
from cypose_dask.movies.axes import full_sizes, settle_axes
from cypose_dask.movies.fingerprint import fingerprint_of_files
from cypose_dask.movies.source import Description, Signature, Stamp

__all__ = ["PngLayout", "describe_png", "lease_png"]

MAGIC = b"\x89PNG\r\n\x1a\n"
HEADER = struct.Struct(">8s4x4sIIBB")
END = b"IEND\xaeB`\x82"
# Source: PNG specification, 11.2.2: colour type (gray, RGB, palette, RGBA) to samples a pixel.
SAMPLES = {0: 0, 2: 3, 3: 3, 6: 4}
# A deflate stream cannot expand more than this.
MAX_EXPANSION = 1032


class PngHandle:
    """One PNG: its header is read at once, its pixels when they are asked for.

    Attributes
    ----------
    shape
        Sizes of Y, X and, for colours, S.
    dtype
        Type of a decoded sample.
    members
        This file: a PNG stands alone.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.members = (path,)
        head, size = _ends(path)
        _, chunk, width, height, bits, colour = HEADER.unpack(head)
        if chunk != b"IHDR" or colour not in SAMPLES:
            raise MovieError(
                f"{path}: found a PNG of colour type {colour}; expected gray, RGB or RGBA. Save it "
                "without transparency."
            )
        samples = SAMPLES[colour]
        self.shape = (height, width) + ((samples,) if samples else ())
        self.dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
        files.require_sane_frame(path, self.shape)
        if height * width * bits // 8 > MAX_EXPANSION * size:
            raise MovieError(
                f"{path}: the header claims {width} x {height} pixels, which {size} bytes cannot "
                "hold. The file is damaged."
            )

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def signature(self) -> Signature:
        """Return axes, sizes and type, which all members of a sequence share."""
        return "YXS"[: len(self.shape)], self.shape, str(self.dtype)

    def require_whole(self) -> None:
        """Do nothing: an incomplete PNG was refused when it was opened."""

    def read(self) -> npt.NDArray[Any]:
        """Decode the image: (Y, X), or (Y, X, S)."""
        import imagecodecs

        image = np.asarray(imagecodecs.png_decode(Path(self.path).read_bytes()))
        if image.shape == self.shape:
            return image
        # Transparency of a palette or of one gray value is decoded as one sample more.
        samples = self.shape[2] if len(self.shape) > 2 else 1
        return image[..., :samples].reshape(self.shape)


def _ends(path: str) -> tuple[bytes, int]:
    """Return the header of a complete PNG and the size of the file in bytes."""
    with Path(path).open("rb") as file:
        head = file.read(HEADER.size)
        size = file.seek(0, 2)
        file.seek(max(0, size - len(END)))
        end = file.read()
    if len(head) < HEADER.size or not head.startswith(MAGIC) or end != END:
        raise MovieError(
            f"{path}: found {size} bytes that are no complete PNG; expected its first and last "
            "chunk. Copy it again."
        )
    return head, size


def lease_png(path: str, stamp: Stamp) -> AbstractContextManager[PngHandle]:
    """Borrow this process's handle of a file, opening it at the first call."""
    return handles.lease((PngHandle, path, stamp), lambda: PngHandle(path))


@dataclass(frozen=True, slots=True)
class PngLayout:
    """One frame a file: ``YX``, ``YXS`` with colours, ``YXC`` with colours taken as channels."""

    letters: str

    def lease(self, path: str, stamp: Stamp) -> AbstractContextManager[PngHandle]:
        """Borrow this process's handle of the file; it is opened at the first call."""
        return lease_png(path, stamp)

    def check(self, path: str, stamp: Stamp) -> None:
        """Raise MovieError if the file is no longer the one that was opened."""
        files.check_file(path, stamp)

    def read(
        self, handle: PngHandle, at: tuple[int, int, int], channels: Sequence[int]
    ) -> npt.NDArray[Any]:
        """Decode the frame as (C, Y, X), or (C, Y, X, S) if it has colours."""
        with files.reading_errors(handle.path, at, RuntimeError, ValueError):
            image = handle.read()
            if "C" in self.letters:
                return np.moveaxis(image, -1, 0)[list(channels)]
            return image[np.newaxis]


def describe_png(path: str, *, axes: str | None) -> Description:
    """Find out what one PNG holds.

    Raises
    ------
    MovieError
        If it is no complete PNG, or `axes` does not fit it.
    """
    stamp = files.stamp_of_file(path)
    with lease_png(path, stamp) as handle:
        stored, shape, dtype = handle.signature()
    settled = settle_axes(stored, shape, axes)
    if settled.letters not in (stored, "YXC"):
        raise MovieError(f"{path}: found axes={axes!r}; a PNG is stored as {stored!r}.")
    sizes = settled.sizes(shape)
    return Description(
        format="sequence",
        path=path,
        layout=PngLayout(settled.letters),
        stamp=stamp,
        fingerprint=fingerprint_of_files([path]),
        sizes=full_sizes(sizes),
        samples=sizes.get("S", 0),
        dtype=np.dtype(dtype),
        notes=settled.notes,
    )
