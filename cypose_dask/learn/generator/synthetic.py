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
from cypose_dask.learn.generator import optics
from cypose_dask.learn.generator.raster import Geometry, label_cells, rasterise
from cypose_dask.learn.generator.scenes import KINDS, Kind, Scene, draw_scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

Look = Literal["phase", "brightfield", "fluorescence", "dic"]
LOOKS: tuple[Look, ...] = get_args(Look)

# The label's rim beyond the half-maximum of the body, in radii. Phase: measured on the reference
# masks of two dense images, where the edge lies at 65-75 % of the step from cell to halo.
# Brightfield and fluorescence: between outlines at the half-maximum and outlines at the foot of the
# signal (0.6 radii in ten fields of E. coli), so that each of the two conventions overlaps by 80 %.
RIM: dict[Look, float] = {"phase": 0.22, "brightfield": 0.38, "fluorescence": 0.30, "dic": 0.15}


@dataclass(frozen=True)
class SyntheticFrame:
    """One frame and its truth.

    Attributes
    ----------
    frame : ndarray of uint16, shape (Y, X), or (2, Y, X) with chlorophyll
        Camera counts.
    labels : ndarray of uint32, shape (Y, X)
        0 background, 1..N cells without gaps, each one 4-connected piece.
    look : str
        One of `LOOKS`, of the first channel.
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
    chlorophyll: bool = False,
) -> SyntheticFrame:
    """Make one frame; the same seed gives the same frame.

    Parameters
    ----------
    seed : int
        Everything random follows from it.
    shape : tuple of int, optional
        (Y, X), pixels.
    look : {"phase", "brightfield", "fluorescence", "dic"}, optional
        Drawn at random where it is not given: half of all frames are phase contrast, and with
        `chlorophyll` half are brightfield and none is fluorescence. Differential interference
        contrast (DIC) is never drawn: the bundled networks have not seen it.
    kind : {"colony", "lawn", "scatter", "chains", "threads", "sparse"}, optional
        What lies in the frame; drawn at random where it is not given.
    chlorophyll : bool, optional
        Whether to add a second channel of chlorophyll fluorescence. Lysed cells may then look as
        solid as living ones in the first channel; only the second tells them.

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
    >>> synthetic_frame(7, shape=(128, 128), chlorophyll=True).frame.shape
    (2, 128, 128)
    """
    _check("look", look, LOOKS)
    _check("kind", kind, KINDS)
    rng = np.random.default_rng(seed)
    odds = (0.5, 0.5, 0, 0) if chlorophyll else (0.5, 0.25, 0.25, 0)
    drawn = LOOKS[rng.choice(len(LOOKS), p=odds)]
    scene = draw_scene(shape, kind=kind, decoys=chlorophyll, rng=rng)
    return render(scene, look=look or drawn, chlorophyll=chlorophyll, rng=rng)


def _check(what: str, given: str | None, known: tuple[str, ...]) -> None:
    if given is not None and given not in known:
        raise SettingsError(f"no {what} {given!r}; it is one of {', '.join(known)}")


def render(
    scene: Scene, *, look: Look, rng: np.random.Generator, chlorophyll: bool = False
) -> SyntheticFrame:
    """Draw a scene through one kind of microscope.

    Parameters
    ----------
    scene : Scene
        Cells, ghosts and their frame.
    look : {"phase", "brightfield", "fluorescence", "dic"}
        Kind of microscope.
    rng : numpy.random.Generator
        Source of every random number.
    chlorophyll : bool, optional
        Whether to add a second channel.

    Returns
    -------
    SyntheticFrame
    """
    geometry = rasterise(scene.cells, scene.shape, warp=scene.warp, blunt=scene.blunt)
    rim = np.where(scene.labelled, RIM[look] * scene.cells.radius, -1.0)
    width = 2 * float(np.median(scene.cells.radius))
    labels = label_cells(geometry, rim)
    stage = optics.Stage(geometry, _spread(scene.cells.tone, geometry), width)
    frame = _photograph(stage, labels, look=look, rng=rng)
    if chlorophyll:
        stage = optics.Stage(geometry, _spread(scene.cells.pigment, geometry), width)
        second = _photograph(stage, labels, look="fluorescence", rng=rng)
        frame = np.stack([frame, second])
    return SyntheticFrame(frame, labels, look)


def _spread(per_cell: NDArray[np.float64], geometry: Geometry) -> NDArray[np.float32]:
    """Give every pixel (Y, X) the value of the cell that owns it; 0 outside."""
    return np.concatenate([[0], per_cell]).astype(np.float32)[geometry.owner]


def _photograph(
    stage: optics.Stage, labels: NDArray[np.uint32], *, look: Look, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Take one channel (Y, X) of a stage, with its own dirt, blur and noise."""
    image = getattr(optics, {"phase": "phase_contrast"}.get(look, look))(stage, rng=rng)
    image = _add_dirt(image, labels, width=stage.width, rng=rng)
    if look == "phase" and rng.random() < 0.06:  # negative phase contrast
        image = image.max() - image
    clipped = look == "brightfield" and rng.random() < 0.12
    blur_px = _blur_px(stage.width, rng=rng)
    return optics.expose(image, blur_px=blur_px, clipped=clipped, rng=rng)


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
    if rng.random() < 0.35:
        dirt += rng.normal(0, 0.15) * depth * _dust_ring(image.shape, width, rng)
    return image + dirt * free


def _mottle(shape: tuple[int, ...], width: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Agar and medium are never flat: faint smooth structure as large as cells, or larger."""
    strength = np.exp(rng.uniform(np.log(0.003), np.log(0.1)))
    return strength * optics.smooth_noise(shape, rng.uniform(0.12, 1.2) * width, rng=rng)


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
    n_frames: int, *, first_seed: int = 0, min_cells: int = 1, chlorophyll: bool = False
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
    chlorophyll : bool, optional
        Whether frames have a second channel.

    Returns
    -------
    (frames, labels) : lists of ndarray, each (Y, X) or (2, Y, X), and (Y, X)
        uint16 counts and uint32 labels.
    """
    frames: list[NDArray[np.uint16]] = []
    labels: list[NDArray[np.uint32]] = []
    seed = first_seed
    while len(frames) < n_frames:
        made = synthetic_frame(seed, chlorophyll=chlorophyll)
        seed += 1
        if made.labels.max() >= min_cells:
            frames.append(made.frame)
            labels.append(made.labels)
    return frames, labels
