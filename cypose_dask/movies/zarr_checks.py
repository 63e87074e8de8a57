"""What the metadata of a zarr array may ask for, examined before a chunk is read."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cypose_dask.errors import MovieError
from cypose_dask.movies.files import MAX_FRAME_PIXELS

__all__ = ["require_chunks", "require_frames", "require_harmless"]

# Five weeks at three frames a second. A zarr may say that it has frames without storing any.
MAX_FRAMES = 10_000_000
# A frame of 20,000 x 20,000 px in chunks of 64 x 64 has 98,000.
MAX_CHUNKS_A_FRAME = 2**17
METADATA_FILES = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


def require_frames(path: str, sizes: Mapping[str, int]) -> None:
    """Raise MovieError if the metadata count no frames, or more than any acquisition has."""
    frames = sizes["T"] * sizes["P"] * sizes["Z"]
    if not 0 < frames <= MAX_FRAMES:
        raise MovieError(
            f"{path}: found {frames} frames (T {sizes['T']}, P {sizes['P']}, Z {sizes['Z']}); "
            f"expected 1 to {MAX_FRAMES}. The metadata are damaged, or nothing was acquired."
        )


def require_harmless(path: str, array: Any, letters: str) -> None:
    """Raise MovieError if reading one frame would take absurd memory or time.

    `letters` are the axes of the array. A chunk must not be larger than the largest frame, since
    it is decoded whole, and a frame must not lie in very many of them.
    """
    chunk, shard = (math.prod(shape) for shape in (array.chunks, array.shards or array.chunks))
    a_frame = math.prod(
        -(-n // max(of_chunk, 1))
        for letter, n, of_chunk in zip(letters, array.shape, array.chunks, strict=True)
        if letter in "YX"
    )
    if 0 < chunk <= MAX_FRAME_PIXELS >= shard // chunk and a_frame <= MAX_CHUNKS_A_FRAME:
        return
    raise MovieError(
        f"{path}: found chunks of {tuple(array.chunks)} px, {a_frame} for each frame; expected "
        f"1 to {MAX_FRAME_PIXELS} px in a chunk and at most {MAX_CHUNKS_A_FRAME} chunks a frame. "
        "Store the array again with one chunk a frame."
    )


def require_chunks(root: str, array: Any) -> None:
    """Raise MovieError if an array has metadata alone: every pixel would be the fill value."""
    folder = Path(root) / array.path
    with os.scandir(folder) as entries:  # stops at the first of maybe a million
        empty = all(entry.name in METADATA_FILES for entry in entries)
    if empty:
        raise MovieError(
            f"{folder}: found sizes {tuple(array.shape)} but not one chunk; expected pixels. The "
            "copy is not complete: copy it again, or pass allow_damaged=True (--allow-damaged) "
            f"to read every pixel as {array.fill_value}."
        )
