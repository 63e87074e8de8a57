"""Pictures of frames for a page: the frame as WebP, its outlines as a transparent PNG above it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cypose_dask.results.preview import OUTLINE, enlarged, gray, outlines_of

__all__ = ["Picture", "data_uri", "make_picture"]

_QUALITIES = (80, 55, 30)
_SMALLER, _SMALLEST_PX = 0.7, 48
# Outlines of small frames are drawn finer than the pixels.
_FINEST = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame and its outlines, which lie above it at the same size.

    Attributes
    ----------
    frame : bytes
        WebP.
    outlines : bytes
        PNG, transparent but for the outlines.
    width, height : int
        Of the frame, px.
    """

    frame: bytes
    outlines: bytes
    width: int
    height: int


def make_picture(
    image: np.ndarray, labels: np.ndarray, *, side_px: int, most_bytes: int
) -> Picture:
    """Draw a frame and its outlines, coarser where the bytes would not suffice.

    Parameters
    ----------
    image : (Y, X) ndarray, or (Y, X, 3) ndarray of uint8
        A channel, which is stretched, or colours.
    labels : (Y, X) ndarray of int
    side_px : int
        Longest side of the picture.
    most_bytes : int
        Of both files together; a picture of 48 px is kept even if it is larger.
    """
    shape = labels.shape
    picture = Image.fromarray(image if image.ndim == 3 else gray(image))
    for side in _sides(min(side_px, max(shape)), side_px):
        size = _size(shape, min(side, max(shape)))
        frame = picture if picture.size == size else picture.resize(size, Image.Resampling.BOX)
        outlines = _outlines(labels, side)
        for quality in _QUALITIES:
            written = _webp(frame, quality)
            if len(written) + len(outlines) <= most_bytes:
                return Picture(written, outlines, *size)
    return Picture(written, outlines, *size)


def _sides(first: int, outlines: int) -> Iterator[int]:
    """Yield the longest side of the picture, smaller and smaller."""
    yield outlines
    side = float(first)
    while (side := side * _SMALLER) > _SMALLEST_PX:
        yield int(side)


def _size(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Return width and height of a frame (Y, X) whose longest side is given."""
    height, width = (max(1, round(n * side / max(shape))) for n in shape)
    return width, height


def _outlines(labels: np.ndarray, side: int) -> bytes:
    """Draw the outlines of labels as a palette PNG of one bit a pixel."""
    factor = min(_FINEST, side // max(labels.shape))
    scaled = enlarged(labels, factor) if factor else _thinned(labels, side)
    image = Image.fromarray(outlines_of(scaled).astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, *OUTLINE])
    file = io.BytesIO()
    image.save(file, format="PNG", bits=1, transparency=0, optimize=True)
    return file.getvalue()


def _thinned(labels: np.ndarray, side: int) -> np.ndarray:
    """Return the nearest labels on a coarser grid; a mean of labels would be another cell."""
    width, height = _size(labels.shape, side)
    rows = (np.arange(height) + 0.5) * labels.shape[0] / height
    columns = (np.arange(width) + 0.5) * labels.shape[1] / width
    return labels[np.ix_(rows.astype(int), columns.astype(int))]


def _webp(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, format="WEBP", quality=quality, method=4)
    return file.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """Return a picture as the address that holds it; `kind` is ``webp`` or ``png``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
