"""A frame in overlapping tiles and back, and frames in other sizes, as Cellpose does it.

Source: cellpose 3.1.1.3 `core.run_net`, `transforms.get_pad_yx`, `make_tiles`, `average_tiles`,
`_taper_mask` and `resize_image`; equal to them bit by bit, without importing torch.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from cypose_dask.errors import SettingsError

__all__ = ["TILE_PX", "Mosaic", "Tiling", "resize", "resized_shape", "tiling_of"]

# Cellpose's defaults: side of a tile, and the share of it that overlaps its neighbour.
TILE_PX, _OVERLAP = 224, 0.1
# The network halves a tile three times; at least 8 px of zeros surround a frame.
_MULTIPLE_PX, _BORDER_PX = 16, 8
# A tile counts half, 20 px from its edge, and fades over a width of 7.5 px.
_TAPER_PX, _TAPER_WIDTH_PX = 20, 7.5


@dataclass(frozen=True, slots=True)
class Tiling:
    """How frames of one shape are cut; from `tiling_of`.

    Attributes
    ----------
    shape : tuple of int
        (Y, X) of the frames, px.
    padded : tuple of int
        (Y', X') with the zeros around, px.
    before : tuple of int
        Rows and columns of zeros above and to the left, px.
    tile : tuple of int
        (H, W) of a tile, px.
    starts : tuple of tuple of int
        First row and column of every tile in the padded frame, by rows.
    taper : (H, W) ndarray of float64
        How much each pixel of a tile counts, dimensionless.
    """

    shape: tuple[int, int]
    padded: tuple[int, int]
    before: tuple[int, int]
    tile: tuple[int, int]
    starts: tuple[tuple[int, int], ...]
    taper: np.ndarray = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.starts)

    def windows(self) -> list[tuple[int, int, int, int]]:
        """Return each tile's (y0, y1, x0, x1) in the frame, px; may reach beyond it."""
        (top, left), (height, width) = self.before, self.tile
        return [(y - top, y - top + height, x - left, x - left + width) for y, x in self.starts]

    def pad(self, image: np.ndarray) -> np.ndarray:
        """Surround a frame (Y, X, C) of float32 with zeros: (C, Y', X')."""
        padded = np.zeros((image.shape[2], *self.padded), np.float32)
        padded[:, *self.inside()] = np.moveaxis(image, -1, 0)
        return padded

    def cut(self, padded: np.ndarray, number: int) -> np.ndarray:
        """Return one tile (C, H, W) of a padded frame, as a view."""
        return padded[:, *self.window(number)]

    def window(self, number: int) -> tuple[slice, slice]:
        """Return the rows and columns of a tile in the padded frame."""
        (y, x), (height, width) = self.starts[number], self.tile
        return slice(y, y + height), slice(x, x + width)

    def inside(self) -> tuple[slice, slice]:
        """Return the rows and columns of the frame in the padded frame."""
        rows, columns = (
            slice(before, before + length)
            for before, length in zip(self.before, self.shape, strict=True)
        )
        return rows, columns


class Mosaic:
    """The network's output for a frame, averaged where tiles overlap; filled as tiles arrive.

    Parameters
    ----------
    tiling : Tiling
    channels : int
        Of the output.
    """

    def __init__(self, tiling: Tiling, channels: int = 3) -> None:
        self._tiling = tiling
        self._sum = np.zeros((channels, *tiling.padded), np.float32)
        self._weight = np.zeros(tiling.padded)

    def add(self, number: int, output: np.ndarray) -> None:
        """Add one tile's output (K, H, W); tiles come in their order, as sums are rounded."""
        window = self._tiling.window(number)
        self._sum[:, *window] += output * self._tiling.taper
        self._weight[window] += self._tiling.taper

    def finish(self, elsewhere: tuple[float, ...]) -> np.ndarray:
        """Return the mean; pixels that no tile covered become `elsewhere`.

        Parameters
        ----------
        elsewhere : tuple of float
            K numbers.

        Returns
        -------
        (Y, X, K) ndarray of float32
            A view whose channels lie apart in memory.
        """
        bare = self._weight == 0
        if bare.any():
            self._weight[bare] = 1.0
            self._sum[:, bare] = np.array(elsewhere, np.float32)[:, np.newaxis]
        self._sum /= self._weight
        return np.moveaxis(self._sum[:, *self._tiling.inside()], 0, -1)


@functools.lru_cache(maxsize=4)  # a movie has one shape; a directory of movies a few
def tiling_of(shape: tuple[int, int]) -> Tiling:
    """Return how frames of a shape (Y, X), px, are cut."""
    padded, before = zip(*map(_pad, shape), strict=True)
    tile = tuple(min(TILE_PX, length) for length in padded)
    rows, columns = (_starts(length) for length in padded)
    starts = tuple((y, x) for y in rows for x in columns)
    return Tiling(shape, padded, before, tile, starts, _taper(tile))


def _pad(length: int) -> tuple[int, int]:
    """Return the padded length and the zeros before the frame, px."""
    missing = -length % _MULTIPLE_PX
    return length + missing + 2 * _BORDER_PX, _BORDER_PX + missing // 2


def _starts(length: int) -> list[int]:
    if length <= TILE_PX:
        return [0]
    count = math.ceil((1.0 + 2 * _OVERLAP) * length / TILE_PX)
    return np.linspace(0, length - TILE_PX, count).astype(int).tolist()


def _taper(tile: tuple[int, ...]) -> np.ndarray:
    from_middle = np.arange(TILE_PX)
    from_middle = np.abs(from_middle - from_middle.mean())
    fading = 1 / (1 + np.exp((from_middle - (TILE_PX / 2 - _TAPER_PX)) / _TAPER_WIDTH_PX))
    rows, columns = (
        slice(TILE_PX // 2 - side // 2, TILE_PX // 2 + side // 2 + side % 2) for side in tile
    )
    return (fading * fading[:, np.newaxis])[rows, columns]


def resized_shape(shape: tuple[int, ...], rescale: float) -> tuple[int, int]:
    """Return the size (Y', X'), px, of frames that are resized for the network.

    Raises
    ------
    SettingsError
        If nothing is left.
    """
    rows, columns = int(shape[0] * rescale), int(shape[1] * rescale)
    if not (rows and columns):
        raise SettingsError(
            f"Of a frame of {shape[0]} x {shape[1]} px nothing is left when it is resized by "
            f"{rescale:g}. Choose a smaller diameter."
        )
    return rows, columns


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Interpolate an image linearly, without smoothing.

    Parameters
    ----------
    image : (Y, X, C) ndarray of float32
    shape : tuple of int
        (Y', X'), px.

    Returns
    -------
    (Y', X', C) ndarray of float32
    """
    resized = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return resized.reshape(*shape, image.shape[2])  # OpenCV drops a single channel's axis
