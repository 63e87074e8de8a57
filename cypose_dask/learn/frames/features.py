"""Cheap numbers about frames, to tell sparse from dense and sharp from blurred without a model.

Cells are where the local contrast is high. What "high" means is settled once a movie and channel,
over all frames that were looked at: a frame on its own cannot tell whether it is full or empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve, gaussian_filter, uniform_filter

__all__ = ["Look", "cell_maps", "look_at", "window_shares"]

# Local contrast is measured on frames binned to this side: a cell is still several pixels wide.
_MAP_PX = 512
# Details between these sigmas (binned px) count as contrast, which a third one spreads over a cell.
_FINE, _COARSE, _SPREAD = 1.0, 8.0, 3.0
# Contrast below this many standard deviations of the camera's noise is never a cell.
_NOISE_FACTOR = 3.0
# Second differences along both axes; white noise of sigma 1 has 6 after it.
# Source: J. Immerkaer, Fast noise variance estimation, CVIU 64 (1996).
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_NOISE_GAIN = 6.0
_MAD_OF_SIGMA = 0.6745
# Standard deviation of white noise after a Gaussian of sigma s is 1 / (2 sqrt(pi) s).
_FINE_GAIN = 1 / (2 * np.sqrt(np.pi) * _FINE)
_BINS = 128


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a frame leaves behind, small enough to keep for every candidate.

    Attributes
    ----------
    contrast : ndarray of float32, shape (C, Y', X')
        Natural logarithm of the local contrast in intensities, on the binned frame.
    floor : ndarray of float64, shape (C,)
        The same logarithm for the noise of the camera.
    bin_px : int
        Pixels of the frame along one side of a binned one.
    brightness : float
        Logarithm of one plus the median intensity, mean over channels.
    focus : float
        Logarithm of fine over coarse detail of the sharpest channel, dimensionless.
    """

    contrast: NDArray[np.float32]
    floor: NDArray[np.float64]
    bin_px: int
    brightness: float
    focus: float


def look_at(frame: NDArray[Any]) -> Look:
    """Measure a frame (C, Y, X) of finite intensities."""
    bin_px = max(1, -(-max(frame.shape[1:]) // _MAP_PX))
    channels = [np.asarray(channel, np.float32) for channel in frame]
    medians = [float(np.median(channel)) for channel in channels]
    return Look(
        contrast=np.stack([_log_contrast(_binned(channel, bin_px)) for channel in channels]),
        floor=np.array([_log_floor(channel, bin_px) for channel in channels]),
        bin_px=bin_px,
        brightness=float(np.mean([np.log1p(max(median, 0)) for median in medians])),
        focus=max(_focus(channel) for channel in channels),
    )


def cell_maps(looks: Sequence[Look]) -> list[NDArray[np.float32]]:
    """Tell cells from background, by one limit a channel for all the looks at one movie.

    Returns
    -------
    list of ndarray of float32, each (Y', X')
        Share of the channels, 0 to 1, that see something at a binned pixel.
    """
    limits = np.array([_limit(looks, c) for c in range(len(looks[0].contrast))])
    return [
        (look.contrast > limits[:, None, None]).mean(axis=0, dtype=np.float32) for look in looks
    ]


def window_shares(cells: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Share of cells, 0 to 1, in every whole square window of a map (Y', X').

    Returns
    -------
    ndarray of float32, shape (Y' - side + 1, X' - side + 1)
        At the window's first row and column.
    """
    means = uniform_filter(cells, side, mode="constant")
    first = side // 2
    rows, columns = (n - side + 1 for n in cells.shape)
    return np.clip(means[first : first + rows, first : first + columns], 0, 1)


def _binned(channel: NDArray[np.float32], bin_px: int) -> NDArray[np.float32]:
    rows, columns = (n // bin_px for n in channel.shape)
    whole = channel[: rows * bin_px, : columns * bin_px]
    return whole.reshape(rows, bin_px, columns, bin_px).mean(axis=(1, 3))


def _log_contrast(channel: NDArray[np.float32]) -> NDArray[np.float32]:
    detail = gaussian_filter(channel, _FINE) - gaussian_filter(channel, _COARSE)
    power = gaussian_filter(detail * detail, _SPREAD)
    return 0.5 * np.log(np.maximum(power, np.float32(1e-12)))


def _log_floor(channel: NDArray[np.float32], bin_px: int) -> float:
    noise = np.median(np.abs(convolve(channel, _NOISE_KERNEL))) / _MAD_OF_SIGMA / _NOISE_GAIN
    return float(np.log(max(_NOISE_FACTOR * noise / bin_px * _FINE_GAIN, 1e-6)))


def _focus(channel: NDArray[np.float32]) -> float:
    fine, middle, coarse = (gaussian_filter(channel, sigma) for sigma in (1.0, 2.0, 8.0))
    return float(np.log(max((fine - middle).std(), 1e-6) / max((middle - coarse).std(), 1e-6)))


def _limit(looks: Sequence[Look], channel: int) -> float:
    values = np.concatenate([look.contrast[channel].ravel()[::4] for look in looks])
    # Cells make their own frame look noisy, so the quietest frame knows the noise best.
    floor = min(look.floor[channel] for look in looks)
    return max(_otsu(values), float(floor))


def _otsu(values: NDArray[np.float32]) -> float:
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(values, nbins=_BINS)) if np.ptp(values) > 0 else float(values[0])
