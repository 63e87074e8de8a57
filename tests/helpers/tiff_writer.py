"""Every kind of TIFF that a microscope, ImageJ or a script leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from helpers.stamps import stored_as

__all__ = ["KINDS", "write_ome_positions", "write_tiff"]

# Options of tifffile.imwrite for each kind; the axes are given in the metadata.
KINDS: dict[str, dict[str, Any]] = {
    "imagej": {"imagej": True},
    "imagej-one-page": {"imagej": True, "truncate": True},  # as ImageJ writes beyond 4 GB
    "imagej-big-endian": {"imagej": True, "byteorder": ">"},
    "imagej-compressed": {"imagej": True, "compression": "zlib"},
    "ome": {"ome": True},
    "ome-big": {"ome": True, "bigtiff": True},
    "ome-big-endian": {"ome": True, "byteorder": ">", "bigtiff": True},
    "ome-zstd": {"ome": True, "compression": "zstd"},
    "ome-lzw-predictor": {"ome": True, "compression": "lzw", "predictor": True},
    "ome-tiled": {"ome": True, "tile": (16, 16)},
    "ome-tiled-compressed": {"ome": True, "tile": (16, 16), "compression": "zlib"},
    "ome-single-row-strips": {"ome": True, "rowsperstrip": 1, "compression": "packbits"},
    "shaped": {"ome": False},
    "shaped-one-page": {"ome": False, "truncate": True},
    "shaped-compressed": {"ome": False, "compression": "zlib"},
}


def write_tiff(path: Path, movie: npt.NDArray[Any], kind: str, axes: str, **metadata: Any) -> str:
    """Write a movie (T, P, Z, C, Y, X) as one kind of TIFF, with the axes in this order."""
    pixels = stored_as(movie, axes)
    options = dict(KINDS[kind])
    if options.get("imagej"):
        assert axes == "".join(a for a in "TZCYX" if a in axes), "ImageJ knows one order"
    options["metadata"] = {"axes": axes, **metadata}
    tifffile.imwrite(path, pixels, photometric="minisblack", **options)
    return str(path)


def write_ome_positions(path: Path, movie: npt.NDArray[Any], axes: str) -> str:
    """Write each position as an Image of one OME-TIFF."""
    with tifffile.TiffWriter(path, ome=True) as writer:
        for p in range(movie.shape[1]):
            writer.write(
                stored_as(movie[:, p : p + 1], axes),
                photometric="minisblack",
                metadata={"axes": axes, "Name": f"field {p}"},
            )
    return str(path)


def damage(path: str | Path, keep: float | Callable[[int], int]) -> None:
    """Cut a file, to a share of its size or to a number of bytes."""
    file = Path(path)
    size = file.stat().st_size
    data = file.read_bytes()[: keep(size) if callable(keep) else int(size * keep)]
    file.write_bytes(data)


def pages_of(path: str | Path) -> np.ndarray[Any, Any]:
    """Read a TIFF with tifffile alone, for comparison."""
    return np.asarray(tifffile.imread(path))
