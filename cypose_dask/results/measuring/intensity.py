"""Intensities of the cells of one frame in one channel, above the background."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["background_of", "measure_channel"]


def background_of(labels: np.ndarray, image: np.ndarray, distance_px: int = 3) -> float:
    """Return the median of the pixels that are far from every cell.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
    image : (Y, X) ndarray
    distance_px : int
        Pixels this near to a cell (in steps to the four neighbours) are left out, px.

    Returns
    -------
    float
        In the unit of the image; NaN where cells leave no pixel.
    """
    from scipy.ndimage import binary_dilation

    cells = labels > 0
    near = binary_dilation(cells, iterations=distance_px) if distance_px > 0 else cells
    outside = image[~near]
    return float(np.median(outside)) if outside.size else math.nan


def measure_channel(
    labels: np.ndarray, image: np.ndarray, background: float = 0.0
) -> dict[str, np.ndarray]:
    """Measure the intensities of the cells of one frame.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
        0 is background; numbers may be left out.
    image : (Y, X) ndarray
    background : float
        Subtracted from every pixel, in the unit of the image.

    Returns
    -------
    dict of str to (N,) ndarray of float64
        `intensity_mean`, `intensity_min`, `intensity_max` and `intensity_sum`, in the order of
        the labels.
    """
    names, place = np.unique(labels[labels > 0], return_inverse=True)
    values = image[labels > 0].astype(np.float64) - background
    sums = np.bincount(place, weights=values, minlength=len(names)).astype(np.float64)
    least, most = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    with np.errstate(invalid="ignore"):  # all are NaN where the background is
        np.minimum.at(least, place, values)
        np.maximum.at(most, place, values)
    return {
        "intensity_mean": sums / np.bincount(place, minlength=len(names)),
        "intensity_min": least,
        "intensity_max": most,
        "intensity_sum": sums,
    }
