"""One microscope with steady optics, for movies: what stays the same from frame to frame.

`optics` draws other optics for every frame, so that a network learns to live with all of them;
here they are fixed, and only light, dirt and noise vary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from cypose_dask.learn.generator.optics import Stage, smooth_noise, speck, thickness
from cypose_dask.learn.generator.raster import rasterise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cypose_dask.learn.generator.colony import Cells

    Plane = NDArray[np.float32]

Look = Literal["brightfield", "phase"]

EMPTY_COUNTS = {"brightfield": 25_000.0, "phase": 25_000.0, "chlorophyll": 250.0}
CHLOROPHYLL_COUNTS = 2600.0  # of an average cell
PSF_UM = 0.1  # standard deviation of the blur: an objective of NA 1.4 in green light


@dataclass(frozen=True)
class Backdrop:
    """What lies still while cells grow.

    Attributes
    ----------
    light : ndarray of float32, shape (Y, X)
        Uneven illumination around 1, dimensionless.
    agar : ndarray of float32, shape (Y, X)
        Structure and grains of the agar, in units of the empty brightness.
    haze : ndarray of float32, shape (Y, X)
        Cells far out of focus, 0 to about 1; not labelled.
    """

    light: Plane
    agar: Plane
    haze: Plane


def draw_backdrop(
    shape: tuple[int, int], floaters: Cells, *, width: float, rng: np.random.Generator
) -> Backdrop:
    """Draw uneven light, agar with debris, and the haze of `floaters`, cells out of focus."""
    rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    light = 1 + 0.03 * rows[:, None] - 0.05 * columns - 0.04 * (rows[:, None] ** 2 + columns**2)
    agar = 0.012 * smooth_noise(shape, 0.65 * width, rng=rng)
    agar += 0.006 * smooth_noise(shape, 0.16 * width, rng=rng)
    for _ in range(3):  # debris, smaller than a cell
        size_px = rng.uniform(0.1, 0.2) * width
        agar -= rng.uniform(0.05, 0.15) * speck(shape, size_px, rng=rng)
    cover = Stage(rasterise(floaters, shape), np.ones(shape, np.float32), width).cover
    return Backdrop(light, agar, gaussian_filter(cover, 0.6 * width))


def transmit(stage: Stage, backdrop: Backdrop, *, look: Look, blur_px: float) -> Plane:
    """Mean counts (Y, X) of brightfield or phase contrast: dark cells on a bright field."""
    body = thickness(stage, roundness=0.6) * stage.tone
    if look == "phase":
        halo = gaussian_filter(body, 0.5 * stage.width) + gaussian_filter(body, 1.6 * stage.width)
        image = 1 - 0.6 * body + 0.22 * halo
    else:
        rim = gaussian_filter(body, 0.28 * stage.width) - gaussian_filter(body, 0.11 * stage.width)
        image = 1 - 0.3 * body + 0.8 * rim
    image = gaussian_filter(image + backdrop.agar - 0.12 * backdrop.haze, blur_px)
    return image * backdrop.light * np.float32(EMPTY_COUNTS[look])


def fluoresce(stage: Stage, backdrop: Backdrop, *, blur_px: float) -> Plane:
    """Mean counts (Y, X) of chlorophyll: thylakoids near the wall glow, empty pixels near 250."""
    across = np.clip(stage.geometry.across, 0, 1)
    shell = stage.cover * np.exp(-(((across - 0.6) / 0.45) ** 2))
    body = (0.6 * thickness(stage, roundness=1.0) + 0.5 * shell) * stage.tone
    glow = gaussian_filter(body, 1.4 * blur_px) + 0.06 * gaussian_filter(body, stage.width)
    glow += 0.08 * backdrop.haze
    return np.float32(EMPTY_COUNTS["chlorophyll"]) + CHLOROPHYLL_COUNTS * glow * backdrop.light


def photograph(mean: Plane, *, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Add shot noise at 1.2 counts an electron, and read noise of 12 counts."""
    electrons = rng.poisson(np.maximum(mean, 0) / 1.2)
    counts = 1.2 * electrons + rng.normal(0, 12, mean.shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
