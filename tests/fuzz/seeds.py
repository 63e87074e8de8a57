"""Intact files that are damaged: one of each kind, and small files of real microscopes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from helpers.nd2_writer import write_nd2
from helpers.stamps import stored_as
from helpers.tiff_writer import write_ome_positions, write_tiff

__all__ = ["full_of_data", "make_seeds", "write_smallest"]

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL_FILES = (
    "nd2_real/cluster.nd2", "nd2_real/example.nd2",
    "tif_variants/seq-1c-8b-multipage-adeefdcc.tiff",
    "tif_variants/seq-1c-16b-tiled-68f373a0.tiff", "tif_variants/ome_CYX_tile_0_0.tif",
    "tif_variants/seq-1c-16b-lzw-68f373a0.tiff", "tif_variants/random-fp16.tiff",
)  # fmt: skip
TIFFS = {
    "imagej": "TZYX", "imagej-one-page": "TCYX", "imagej-big-endian": "TCYX",
    "imagej-compressed": "TZYX", "ome": "TCYX", "ome-big": "TZYX", "ome-big-endian": "TYX",
    "ome-tiled": "TYX", "ome-tiled-compressed": "TCYX", "ome-single-row-strips": "TYX",
    "ome-lzw-predictor": "TYX", "shaped": "TYX", "shaped-one-page": "TYX",
    "shaped-compressed": "TYX",
}  # fmt: skip


def full_of_data(seed: int, dtype: Any = np.uint16, **sizes: int) -> npt.NDArray[Any]:
    """Return a movie (T, P, Z, C, Y, X) without a zero byte: a zero that is read was made up."""
    shape = [sizes.get(axis, {"Y": 18, "X": 20}.get(axis, 1)) for axis in "TPZCYX"]
    width = np.dtype(dtype).itemsize
    rng = np.random.default_rng(seed)
    flat = rng.integers(1, 127, size=(*shape[:-1], shape[-1] * width), dtype=np.uint8)
    return flat.view(dtype)


def make_seeds(folder: Path) -> list[Path]:
    """Write one file of each kind into a folder, and copy the real ones that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [*_nd2_seeds(folder), *_tiff_seeds(folder)]
    for name in REAL_FILES:
        if (REAL / name).is_file():
            copy = folder / f"real-{Path(name).name}"
            copy.write_bytes((REAL / name).read_bytes())
            made.append(copy)
    return made


def _nd2_seeds(folder: Path) -> list[Path]:
    kinds: dict[str, tuple[str, dict[str, int], dict[str, Any]]] = {
        "tc": ("TCYX", {"T": 4, "C": 2}, {"channels": ["BF", "Chl"]}),
        "tp": ("TPYX", {"T": 2, "P": 3}, {}),
        "tz-compressed": ("TZYX", {"T": 2, "Z": 2}, {"compressed": True}),
        "phases-padded": ("TCYX", {"T": 3, "C": 2}, {"phases": True, "row_padding": 2}),
    }
    made = []
    for i, (name, (axes, sizes, options)) in enumerate(kinds.items()):
        pixels = stored_as(full_of_data(i, **sizes), axes)
        made.append(Path(write_nd2(folder / f"{name}.nd2", pixels, axes, **options)))
    return made


def _tiff_seeds(folder: Path) -> list[Path]:
    made = []
    for i, (kind, axes) in enumerate(TIFFS.items()):
        movie = full_of_data(100 + i, **{axis: 3 if axis == "T" else 2 for axis in axes[:-2]})
        made.append(Path(write_tiff(folder / f"{kind}.tif", movie, kind, axes)))
    movie = full_of_data(200, T=2, P=2)
    made.append(Path(write_ome_positions(folder / "ome-positions.tif", movie, "TYX")))
    for name, options in {"plain": {}, "plain-zlib": {"compression": "zlib"}}.items():
        pages = full_of_data(300, T=4)[:, 0, 0, 0]
        tifffile.imwrite(folder / f"{name}.tif", pages, photometric="minisblack", metadata=None,
                         **options)  # fmt: skip
        made.append(folder / f"{name}.tif")
    return made


def write_smallest(folder: Path) -> list[Path]:
    """Write one tiny ND2 and one compressed TIFF."""
    pixels = full_of_data(0, T=2, Y=8, X=8)[:, 0, 0, 0]
    nd2 = Path(write_nd2(folder / "a.nd2", pixels, "TYX"))
    tifffile.imwrite(folder / "a.tif", pixels, photometric="minisblack", compression="zlib")
    return [nd2, folder / "a.tif"]
