"""Synthetic frames of bacteria with exact labels, seeded and as varied as microscopes are.

The pieces: `scenes` puts cells somewhere, `raster` finds their pixels, `optics` makes the image.
This module draws the parameters (domain randomisation) and adds what is never labelled: debris,
pale ghosts of lysed cells, and cells far out of focus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from scipy.ndimage import gaussian_filter

from cypose_dask.errors import SettingsError
from cypose_dask.learn import optics
from cypose_dask.learn.raster import label_cells, rasterise
from cypose_dask.learn.scenes import KINDS, Kind, Scene, draw_scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

Look = Literal["phase", "brightfield", "fluorescence"]
LOOKS: tuple[Look, ...] = get_args(Look)

# The label's rim beyond the half-maximum of the dark body, in radii. Phase: measured on the
# reference masks of two dense images, where the edge lies at 65-75 % of the step from cell to halo.
RIM = {"phase": 0.22, "brightfield": 0.18, "fluorescence": 0.12}


@dataclass(frozen=True)
class SyntheticFrame:
    """One frame and its truth.

    Attributes
    ----------
    frame : ndarray of uint16, shape (Y, X)
        Camera counts.
    labels : ndarray of uint32, shape (Y, X)
        0 background, 1..N cells without gaps, each one 4-connected piece.
    look : str
        "phase", "brightfield" or "fluorescence".
    """

    frame: NDArray[np.uint16]
    labels: NDArray[np.uint32]
    look: Look


def synthetic_frame(
    seed: int,
    *,
    shape: tuple[int, int] = (288, 288),
    look: Look | None = None,
    kind: Kind | None = None,
) -> SyntheticFrame:
    """Make one frame; the same seed gives the same frame.

    Parameters
    ----------
    seed : int
        Everything random follows from it.
    shape : tuple of int, optional
        (Y, X), pixels.
    look : {"phase", "brightfield", "fluorescence"}, optional
        Drawn at random (half of all frames are phase contrast) where it is not given.
    kind : {"colony", "lawn", "scatter", "chains", "threads", "sparse"}, optional
        What lies in the frame; drawn at random where it is not given.

    Returns
    -------
    SyntheticFrame

    Raises
    ------
    SettingsError
        `look` or `kind` is none of these.

    Examples
    --------
    >>> made = synthetic_frame(7, shape=(128, 128))
    >>> made.frame.shape, made.frame.dtype.name, bool(made.labels.max() > 0)
    ((128, 128), 'uint16', True)
    """
    _check("look", look, LOOKS)
    _check("kind", kind, KINDS)
    rng = np.random.default_rng(seed)
    drawn: Look = LOOKS[rng.choice(3, p=[0.5, 0.25, 0.25])]
    scene = draw_scene(shape, kind=kind, rng=rng)
    return render(scene, look=look or drawn, rng=rng)


def _check(what: str, given: str | None, known: tuple[str, ...]) -> None:
    if given is not None and given not in known:
        raise SettingsError(f"no {what} {given!r}; it is one of {', '.join(known)}")


def render(scene: Scene, *, look: Look, rng: np.random.Generator) -> SyntheticFrame:
    """Draw a scene through one kind of microscope.

    Parameters
    ----------
    scene : Scene
        Cells, ghosts and their frame.
    look : {"phase", "brightfield", "fluorescence"}
        Kind of microscope.
    rng : numpy.random.Generator
        Source of every random number.

    Returns
    -------
    SyntheticFrame
    """
    geometry = rasterise(scene.cells, scene.shape, warp=scene.warp, blunt=scene.blunt)
    rim = np.where(scene.labelled, RIM[look] * scene.cells.radius, -1.0)
    tone = np.concatenate([[0], scene.cells.tone]).astype(np.float32)[geometry.owner]
    width = 2 * float(np.median(scene.cells.radius))
    stage = optics.Stage(geometry, tone, width)
    image = getattr(optics, {"phase": "phase_contrast"}.get(look, look))(stage, rng=rng)
    labels = label_cells(geometry, rim)
    image = _add_dirt(image, labels, width=width, rng=rng)
    if look == "phase" and rng.random() < 0.06:  # negative phase contrast
        image = image.max() - image
    frame = optics.expose(image, blur_px=_blur_px(width, rng=rng), rng=rng)
    return SyntheticFrame(frame, labels, look)


def _blur_px(width: float, *, rng: np.random.Generator) -> float:
    return float(rng.uniform(0.05, 0.17) * width + 0.2)


def _add_dirt(
    image: NDArray[np.float32],
    labels: NDArray[np.uint32],
    *,
    width: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Specks, dust rings and far cells (Y, X), mostly beside the labelled cells."""
    free = gaussian_filter((labels == 0).astype(np.float32), 0.3 * width) ** 2
    depth = optics.contrast(image)
    dirt = _mottle(image.shape, width, rng) * depth
    for _ in range(rng.poisson(2.5)):
        size = width * np.exp(rng.uniform(np.log(0.1), np.log(0.4)))
        dirt += (
            rng.choice([-1, 1])
            * rng.uniform(0.1, 1.0)
            * depth
            * optics.speck(image.shape, size, rng=rng)
        )
    if rng.random() < 0.4:
        amount = rng.normal(0, 0.25) * depth
        dirt += amount * optics.speck(image.shape, rng.uniform(0.8, 2.0) * width, rng=rng)
    if rng.random() < 0.25:
        dirt += rng.normal(0, 0.15) * depth * _dust_ring(image.shape, width, rng)
    return image + dirt * free


def _mottle(shape: tuple[int, ...], width: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Agar and medium are never flat: faint smooth structure as large as cells, or larger."""
    strength = np.exp(rng.uniform(np.log(0.002), np.log(0.06)))
    return strength * optics.smooth_noise(shape, rng.uniform(0.15, 1.2) * width, rng=rng)


def _dust_ring(
    shape: tuple[int, ...], width: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Diffraction rings of dust far out of focus, height 1."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    radius = np.hypot(rows - rng.uniform(0, shape[0]), columns - rng.uniform(0, shape[1]))
    pitch = rng.uniform(0.4, 1.0) * width
    fade = np.exp(-((radius / (rng.uniform(1, 3) * width)) ** 2))
    return (np.cos(2 * np.pi * radius / pitch) * fade).astype(np.float32)


def training_set(
    n_frames: int, *, first_seed: int = 0, min_cells: int = 1
) -> tuple[list[NDArray[np.uint16]], list[NDArray[np.uint32]]]:
    """Make frames of rising seeds, leaving out those with hardly a cell.

    Parameters
    ----------
    n_frames : int
        How many to return.
    first_seed : int, optional
        Where the seeds begin.
    min_cells : int, optional
        Frames of fewer cells are skipped.

    Returns
    -------
    (frames, labels) : lists of ndarray, each (Y, X)
        uint16 counts and uint32 labels.
    """
    frames: list[NDArray[np.uint16]] = []
    labels: list[NDArray[np.uint32]] = []
    seed = first_seed
    while len(frames) < n_frames:
        made = synthetic_frame(seed)
        seed += 1
        if made.labels.max() >= min_cells:
            frames.append(made.frame)
            labels.append(made.labels)
    return frames, labels
