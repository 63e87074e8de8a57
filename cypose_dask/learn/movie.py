"""A synthetic time-lapse of a growing microcolony, with exact labels.

The film that the demo shows: brightfield and chlorophyll autofluorescence of unicellular
cyanobacteria of about 1.2 x 3 um that double in about two hours, at 0.11 um a pixel and half an
hour a frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from cypose_dask.errors import SettingsError
from cypose_dask.learn.colony import Cells, Habit, divide, elongate, found, relax
from cypose_dask.learn.optics import Stage, smooth_noise, speck, thickness
from cypose_dask.learn.raster import label_cells, rasterise
from cypose_dask.learn.synthetic import RIM

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANNEL_NAMES = ("Brightfield", "Chlorophyll")
PIXEL_SIZE_UM = 0.11
INTERVAL_S = 1800.0
HABIT = Habit(
    radius=4.6, aspect=2.1, gap=1.3, spread=0.08, tone_spread=0.07, bend=0.05, turn=0.09, blunt=2.3
)
STEPS_A_FRAME = 4  # a cell of rate 0.04 a step doubles in about 4.3 frames
BACKGROUND = (25_000.0, 250.0)  # counts of an empty pixel in each channel


@dataclass(frozen=True)
class SyntheticMovie:
    """A time-lapse and its truth.

    Attributes
    ----------
    frames : ndarray of uint16, shape (T, C, Y, X)
        Camera counts.
    labels : ndarray of uint16, shape (T, Y, X)
        0 background, 1..N cells of each frame without gaps; no identity over time.
    channel_names : tuple of str
        One name a channel.
    pixel_size_um : float
        Side of a pixel, micrometres.
    interval_s : float
        Time between frames, seconds.
    """

    frames: NDArray[np.uint16]
    labels: NDArray[np.uint16]
    channel_names: tuple[str, ...]
    pixel_size_um: float
    interval_s: float


@dataclass(frozen=True)
class _Backdrop:
    """What stays the same in every frame: uneven light and dirt on the agar, both (Y, X)."""

    light: NDArray[np.float32]
    agar: NDArray[np.float32]


def synthetic_movie(
    *,
    n_frames: int = 12,
    shape: tuple[int, int] = (256, 256),
    seed: int = 0,
    n_channels: int = 2,
    start_cells: int = 6,
) -> SyntheticMovie:
    """Film a growing microcolony; the same seed gives the same movie.

    Parameters
    ----------
    n_frames : int, optional
        Length, frames.
    shape : tuple of int, optional
        (Y, X), pixels.
    seed : int, optional
        Everything random follows from it.
    n_channels : int, optional
        1: brightfield alone; 2: chlorophyll too.
    start_cells : int, optional
        Cells in the first frame, around the centre.

    Returns
    -------
    SyntheticMovie

    Raises
    ------
    SettingsError
        `n_channels` is neither 1 nor 2, or a count is below 1.

    Examples
    --------
    >>> movie = synthetic_movie(n_frames=2, shape=(96, 96), start_cells=2)
    >>> movie.frames.shape, movie.labels.shape, movie.channel_names
    ((2, 2, 96, 96), (2, 96, 96), ('Brightfield', 'Chlorophyll'))
    """
    if n_channels not in (1, 2) or n_frames < 1 or start_cells < 1:
        raise SettingsError(
            f"a synthetic movie has 1 or 2 channels and at least 1 frame and 1 cell; asked for "
            f"{n_channels} channels, {n_frames} frames, {start_cells} cells"
        )
    rng = np.random.default_rng(seed)
    backdrop = _backdrop(shape, rng=rng)
    drift = np.cumsum(rng.normal(0, 0.6, (n_frames, 2)), axis=0)
    frames = np.empty((n_frames, n_channels, *shape), np.uint16)
    labels = np.empty((n_frames, *shape), np.uint16)
    cells = _founders(shape, start_cells, rng=rng)
    for t in range(n_frames):
        moved = replace(cells, y=cells.y + drift[t, 0], x=cells.x + drift[t, 1])
        frames[t], labels[t] = _shoot(moved, backdrop, n_channels=n_channels, rng=rng)
        cells = _next(_in_sight(cells, shape), rng=rng)
    return SyntheticMovie(frames, labels, CHANNEL_NAMES[:n_channels], PIXEL_SIZE_UM, INTERVAL_S)


def _founders(shape: tuple[int, int], n: int, *, rng: np.random.Generator) -> Cells:
    """Cells in a loose group around the centre."""
    reach = 0.09 * min(shape) * np.sqrt(rng.random(n)) + 2 * HABIT.radius
    angle = rng.uniform(0, 2 * np.pi) + np.arange(n) * 2.4  # the golden angle spreads them
    y = shape[0] / 2 + reach * np.sin(angle)
    x = shape[1] / 2 + reach * np.cos(angle)
    return relax(found(y, x, habit=HABIT, rng=rng), gap=HABIT.gap, n_sweeps=100)


def _in_sight(cells: Cells, shape: tuple[int, int]) -> Cells:
    """Forget cells that were pushed so far out of the frame that they cannot come back."""
    far = 8 * HABIT.radius
    seen = (np.abs(cells.y - shape[0] / 2) < shape[0] / 2 + far) & (
        np.abs(cells.x - shape[1] / 2) < shape[1] / 2 + far
    )
    return cells.take(seen)


def _next(cells: Cells, *, rng: np.random.Generator) -> Cells:
    """One frame interval later: grown, divided, pushed, slightly wriggled."""
    for _ in range(STEPS_A_FRAME):
        cells = divide(elongate(cells, habit=HABIT), habit=HABIT, rng=rng)
        cells = relax(cells, gap=HABIT.gap, n_sweeps=15)
    wriggle = [rng.normal(0, 0.15, len(cells)) for _ in range(2)]
    cells = replace(cells, y=cells.y + wriggle[0], x=cells.x + wriggle[1])
    return relax(cells, gap=HABIT.gap, n_sweeps=10)


def _backdrop(shape: tuple[int, int], *, rng: np.random.Generator) -> _Backdrop:
    rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    light = 1 + 0.03 * rows[:, None] - 0.05 * columns - 0.04 * (rows[:, None] ** 2 + columns**2)
    agar = 0.012 * smooth_noise(shape, 6, rng=rng) + 0.006 * smooth_noise(shape, 1.5, rng=rng)
    for _ in range(3):  # grains on the agar, smaller than a cell
        agar -= rng.uniform(0.05, 0.15) * speck(shape, rng.uniform(1, 2), rng=rng)
    return _Backdrop(light, agar)


def _shoot(
    cells: Cells, backdrop: _Backdrop, *, n_channels: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """One frame (C, Y, X) and its labels (Y, X)."""
    shape = (backdrop.light.shape[0], backdrop.light.shape[1])
    geometry = rasterise(cells, shape, blunt=HABIT.blunt)
    tone = np.concatenate([[0], cells.tone]).astype(np.float32)[geometry.owner]
    stage = Stage(geometry, tone, 2 * HABIT.radius)
    planes = [_brightfield(stage, backdrop), _chlorophyll(stage, backdrop)][:n_channels]
    counts = [_camera(plane, rng=rng) for plane in planes]
    return np.stack(counts), label_cells(geometry, RIM["brightfield"] * cells.radius)


def _brightfield(stage: Stage, backdrop: _Backdrop) -> NDArray[np.float32]:
    """Mean counts (Y, X): dark cells with a thin bright rim, near 25,000 beside them."""
    body = thickness(stage, roundness=0.6) * stage.tone
    rim = gaussian_filter(body, 2.6) - gaussian_filter(body, 1.0)
    image = 1 - 0.3 * body + 0.8 * rim + backdrop.agar
    return gaussian_filter(image, 0.9) * backdrop.light * np.float32(BACKGROUND[0])


def _chlorophyll(stage: Stage, backdrop: _Backdrop) -> NDArray[np.float32]:
    """Mean counts (Y, X): thylakoids near the wall glow; near 250 beside the cells."""
    across = np.clip(stage.geometry.across, 0, 1)
    shell = stage.cover * np.exp(-(((across - 0.6) / 0.45) ** 2))
    body = (0.6 * thickness(stage, roundness=1.0) + 0.5 * shell) * stage.tone**2
    glow = gaussian_filter(body, 1.3) + 0.06 * gaussian_filter(body, 9)
    return np.float32(BACKGROUND[1]) + 2600 * glow * backdrop.light


def _camera(mean: NDArray[np.float32], *, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Shot noise at 1.2 electrons a count, and read noise of 12 counts."""
    electrons = rng.poisson(np.maximum(mean, 0) / 1.2)
    counts = 1.2 * electrons + rng.normal(0, 12, mean.shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
