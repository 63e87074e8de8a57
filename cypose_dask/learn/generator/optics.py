"""What a microscope makes of a frame: phase contrast, brightfield, fluorescence, and a camera.

Each model is a few lines of real optics with random parameters. A cell is a map of its thickness;
phase contrast subtracts a low-pass of it (that is what the annulus does: the halo outside a cell
and the shade-off inside a colony are the same term), brightfield out of focus adds its Laplacian,
fluorescence is the thickness times a concentration, blurred.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter, shift

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cypose_dask.learn.generator.raster import Geometry

    Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Stage:
    """A frame before the optics.

    Attributes
    ----------
    geometry : Geometry
        Where every pixel lies.
    tone : ndarray of float32, shape (Y, X)
        Optical strength of the cell that owns the pixel, dimensionless; 0 outside.
    width : float
        Typical width of a body, pixels: the unit of every length below.
    """

    geometry: Geometry
    tone: Plane
    width: float

    @property
    def cover(self) -> Plane:
        """Share of each pixel that a body covers, 0 to 1."""
        return np.clip(self.geometry.depth + 0.5, 0, 1)


def smooth_noise(shape: tuple[int, ...], sigma: float, *, rng: np.random.Generator) -> Plane:
    """Gaussian noise (Y, X) with correlation length `sigma` pixels, mean 0, deviation 1."""
    step = max(1, int(sigma / 3))  # coarse noise is made coarse: a wide kernel costs much
    coarse = rng.standard_normal([n // step + 8 for n in shape]).astype(np.float32)
    coarse = gaussian_filter(coarse, sigma / step)
    fine = np.kron(coarse, np.ones((step, step), np.float32))[: shape[0], : shape[1]]
    fine = gaussian_filter(fine, step / 2) if step > 1 else fine
    return (fine - fine.mean()) / (fine.std() + 1e-6)


def speck(shape: tuple[int, ...], size_px: float, *, rng: np.random.Generator) -> Plane:
    """One irregular blob (Y, X) of height 1 and radius `size_px`, somewhere."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    dy, dx = rows - rng.uniform(0, shape[0]), columns - rng.uniform(0, shape[1])
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(0.5, 1)
    u, v = dy * np.sin(turn) + dx * np.cos(turn), dy * np.cos(turn) - dx * np.sin(turn)
    return np.exp(-((u * stretch) ** 2 + (v / stretch) ** 2) / (2 * size_px**2)).astype(np.float32)


def contrast(image: Plane) -> float:
    """Span of an image's intensities, also where cells cover less than a hundredth of it."""
    bulk, whole = (float(np.ptp(np.percentile(image, [q, 100 - q]))) for q in (1, 0.05))
    return max(bulk, 0.4 * whole)


def thickness(stage: Stage, *, roundness: float) -> Plane:
    """Thickness of the cells (Y, X), 0 to 1: a slab at roundness 0, a cylinder at 1."""
    across = np.clip(stage.geometry.across, 0, 1)
    return stage.cover * (1 - across**2 + 1e-4) ** np.float32(0.5 * roundness)


def content(stage: Stage, *, strength: float, rng: np.random.Generator) -> Plane:
    """Uneven content of cells (Y, X) around 1: mottle, granules and paler or darker poles."""
    shape = stage.tone.shape
    mottle = smooth_noise(shape, rng.uniform(0.08, 0.25) * stage.width, rng=rng)
    spots = smooth_noise(shape, 0.12 * stage.width, rng=rng) > rng.uniform(2.2, 3.2)
    granules = gaussian_filter(spots.astype(np.float32), 0.08 * stage.width)
    poles = np.abs(stage.geometry.along) ** 3 * rng.normal(0, 0.4)
    uneven = 0.25 * mottle + rng.normal(0, 1.5) * granules + poles
    return np.clip(1 + strength * uneven, 0.05, 3).astype(np.float32)


def phase_contrast(stage: Stage, *, rng: np.random.Generator) -> Plane:
    """Render dark cells, bright halo, grey interior of colonies (Y, X); background 1.

    Source: Yin, Li, Kanade, Chen, MICCAI 2010: the image is the phase minus its low-pass.
    """
    width = stage.width
    body = thickness(stage, roundness=rng.uniform(0, 0.9)) * stage.tone
    body *= content(stage, strength=rng.uniform(0, 0.5), rng=rng)
    near = gaussian_filter(body, rng.uniform(0.3, 0.9) * width)
    wide = gaussian_filter(body, rng.uniform(1.0, 2.6) * width)
    mix = rng.uniform(0, 0.8)
    halo = rng.uniform(0.3, 1.2) * (mix * wide + (1 - mix) * near)
    image = 1 - rng.uniform(0.3, 0.95) * (body - halo)
    if rng.random() < 0.3:
        image += _ringing(body, width, rng=rng)
    return np.maximum(image, 0.03)


def _ringing(body: Plane, width: float, *, rng: np.random.Generator) -> Plane:
    """Add a second, weaker fringe a little outside the cells."""
    inner = gaussian_filter(body, rng.uniform(0.15, 0.35) * width)
    outer = gaussian_filter(body, rng.uniform(0.4, 0.7) * width)
    return rng.uniform(-0.25, 0.35) * (inner - outer)


def brightfield(stage: Stage, *, rng: np.random.Generator) -> Plane:
    """Render absorbing cells near focus, with rims of either sign (Y, X); background 1.

    Source: Teague, J. Opt. Soc. Am. 73 (1983): defocus adds the Laplacian of the phase.
    """
    width = stage.width
    body = thickness(stage, roundness=rng.uniform(0.2, 1.2)) * stage.tone
    body *= content(stage, strength=rng.uniform(0, 0.6), rng=rng)
    fine, coarse = rng.uniform(0.05, 0.15) * width, rng.uniform(0.2, 0.5) * width
    rim = gaussian_filter(body, coarse) - gaussian_filter(body, fine)
    image = 1 - rng.uniform(0.02, 0.45) * body + rng.uniform(-0.7, 0.9) * rim
    if rng.random() < 0.3:  # oblique light: one side bright, the other dark
        offset = rng.normal(0, 0.12 * width, 2)
        image += rng.uniform(0.1, 0.5) * (shift(body, offset, order=1) - body)
    if rng.random() < 0.3:
        image += _ringing(body, width, rng=rng)
    return np.maximum(image, 0.03)


def dic(stage: Stage, *, rng: np.random.Generator) -> Plane:
    """Render differential interference contrast: a relief lit from one side (Y, X); background 1.

    Source: Preza, Snyder, Conchello, J. Opt. Soc. Am. A 16 (1999): the image is the derivative of
    the phase along the shear.
    """
    body = thickness(stage, roundness=rng.uniform(0.8, 1.4)) * stage.tone
    body *= content(stage, strength=rng.uniform(0, 0.4), rng=rng)
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.06, 0.12) * stage.width
    step = np.array([np.sin(angle), np.cos(angle)]) * reach
    relief = shift(body, step, order=1) - shift(body, -step, order=1)
    return np.maximum(1 + rng.uniform(0.3, 0.6) * relief, 0.03)


def fluorescence(stage: Stage, *, rng: np.random.Generator) -> Plane:
    """Bright cells on a dark background; 0 background, about 1 in cells, dimensionless."""
    across = np.clip(stage.geometry.across, 0, 1)
    shell = np.exp(-(((across - rng.uniform(0.55, 0.85)) / rng.uniform(0.2, 0.5)) ** 2))
    ring = rng.uniform(0, 1) if rng.random() < 0.5 else 0.0  # thylakoids or a membrane dye
    body = thickness(stage, roundness=rng.uniform(0.2, 1.4))
    body = (1 - ring) * body + ring * stage.cover * shell
    body = body * stage.tone ** rng.uniform(1, 3)
    body *= content(stage, strength=rng.uniform(0, 0.7), rng=rng)
    glow = gaussian_filter(body, rng.uniform(0.5, 2.0) * stage.width)
    return body + rng.uniform(0, 0.5) * glow + rng.uniform(0.02, 0.3)


def expose(
    image: Plane, *, blur_px: float, rng: np.random.Generator, clipped: bool = False
) -> NDArray[np.uint16]:
    """Blur, light unevenly, add camera noise and digitise.

    Parameters
    ----------
    image : ndarray of float32, shape (Y, X)
        Intensity, dimensionless.
    blur_px : float
        Standard deviation of the point spread, pixels.
    rng : numpy.random.Generator
        Source of every random number.
    clipped : bool, optional
        Whether the brightest part of the frame saturates the camera.

    Returns
    -------
    ndarray of uint16, shape (Y, X)
        Counts of a camera of 8 to 16 bits.
    """
    image = gaussian_filter(image, blur_px)
    image = image * (1 + rng.uniform(0, 0.12) * _gradient(image.shape, rng=rng))
    noise = contrast(image) * np.exp(rng.uniform(np.log(0.004), np.log(0.12)))
    shot = np.sqrt(np.maximum(image, 0) / (image.mean() + 1e-6))
    grain = rng.standard_normal(image.shape).astype(np.float32)
    if rng.random() < 0.25:  # a resampled or compressed image has correlated noise
        grain = gaussian_filter(grain, 0.7) * 2
    image = image + noise * shot * grain
    if clipped:
        image = np.minimum(image, np.percentile(image, rng.uniform(40, 99)))
    return digitise(image, rng=rng)


def _gradient(shape: tuple[int, ...], *, rng: np.random.Generator) -> Plane:
    """Uneven light (Y, X): a plane and a slow wave, about -1 to 1."""
    rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    angle = rng.uniform(0, 2 * np.pi)
    plane = np.sin(angle) * rows[:, None] + np.cos(angle) * columns[None, :]
    wave = np.sin(rng.uniform(1, 3) * rows + rng.uniform(0, 6))[:, None] * np.cos(columns)
    return (0.6 * plane + 0.4 * wave).astype(np.float32)


def digitise(image: Plane, *, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Scale (Y, X) to counts; few grey levels sometimes, as in 8-bit copies of dim images."""
    low, high = float(image.min()), float(image.max())
    levels = 2.0 ** rng.uniform(4.3, 8) if rng.random() < 0.2 else 2.0 ** rng.uniform(10, 15.5)
    offset = rng.uniform(0, 0.1) * levels
    counts = (image - low) / (high - low + 1e-9) * (levels - 1) + offset
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
