"""Synthetic time-lapse of growing cyanobacteria, with exact labels, of any length.

Rods and ovals grow, divide and push each other in packed microcolonies; filaments lengthen. The odd
cell lyses and stays as a pale ghost, which is not labelled. One microscope films a whole movie:
brightfield or phase contrast, and chlorophyll fluorescence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from cypose_dask.errors import SettingsError
from cypose_dask.learn.generator import filament as row
from cypose_dask.learn.generator.colony import Cells, Habit, divide, elongate, found, relax
from cypose_dask.learn.generator.microscope import (
    PSF_UM,
    Backdrop,
    Look,
    draw_backdrop,
    fluoresce,
    photograph,
    transmit,
)
from cypose_dask.learn.generator.optics import Stage
from cypose_dask.learn.generator.raster import label_cells, rasterise
from cypose_dask.learn.generator.synthetic import RIM

if TYPE_CHECKING:
    from numpy.typing import NDArray

Species = Literal["rods", "ovals", "filaments"]
SPECIES: tuple[Species, ...] = get_args(Species)
MOVIE_LOOKS: tuple[Look, ...] = get_args(Look)

INTERVAL_S = 1800.0
STEPS_A_FRAME = 4  # a cell of rate 0.04 a step doubles in about 4.3 frames
LYSIS_ODDS = 0.004  # of a cell, a frame
PIXEL_SIZES_UM = (0.03, 0.5)  # finer or coarser than any camera that films bacteria

# Lengths in micrometres; a label is wider than the optically dense body by its rim.
_HABITS: dict[Species, Habit] = {
    # Synechococcus sp. PCC 7002: 1.5-2 x 2-5 um.
    "rods": Habit(radius=0.62, aspect=1.7, gap=0.17, tone_spread=0.07, bend=0.05, turn=0.09,
                  blunt=2.3),
    "ovals": Habit(radius=0.75, aspect=1.15, gap=0.17, tone_spread=0.07, bend=0.0, turn=0.25),
    # Anabaena sp. ATCC 33047: chains of ovoid cells of about 3 um.
    "filaments": Habit(radius=1.15, aspect=1.15, gap=0.0, spread=0.06, tone_spread=0.07, bend=0.0,
                       waist=0.3),
}  # fmt: skip
CELLS_A_FILAMENT = 6  # in the first frame


@dataclass(frozen=True)
class SyntheticMovie:
    """A time-lapse and its truth.

    Attributes
    ----------
    frames : ndarray of uint16, shape (T, C, Y, X)
        Camera counts.
    labels : ndarray of uint16, shape (T, Y, X)
        0 background, 1..N cells of each frame without gaps; no identity over time.
    numbers : tuple of ndarray of int64, one a frame, shape (N,)
        Which cell each label is, the same number in all frames.
    mothers : dict of int to int
        For the numbers of cells that were born in the movie, the cell that divided into them.
    channel_names : tuple of str
        One name a channel.
    pixel_size_um : float
        Side of a pixel, micrometres.
    interval_s : float
        Time between frames, seconds.
    """

    frames: NDArray[np.uint16]
    labels: NDArray[np.uint16]
    numbers: tuple[NDArray[np.int64], ...]
    mothers: dict[int, int]
    channel_names: tuple[str, ...]
    pixel_size_um: float
    interval_s: float


@dataclass(frozen=True, kw_only=True)
class MovieRequest:
    """What to film; the same request gives the same movie.

    Parameters
    ----------
    shape : tuple of int, optional
        (Y, X), px.
    seed : int, optional
        Everything random follows from it.
    species : {"rods", "ovals", "filaments"}, optional
        Unicellular rods or ovals in microcolonies, or chains of ovoid cells with heterocysts.
    look : {"brightfield", "phase"}, optional
        Of the first channel.
    n_channels : int, optional
        1: the first channel alone; 2: chlorophyll too.
    start_cells : int, optional
        Cells in the first frame, around the centre.
    pixel_size_um : float, optional
        Side of a pixel, micrometres.

    Raises
    ------
    SettingsError
        `n_channels` is neither 1 nor 2, there is no cell, the pixel size is no microscope's, or
        `species` or `look` is none of these.
    """

    shape: tuple[int, int] = (256, 256)
    seed: int = 0
    species: Species = "rods"
    look: Look = "brightfield"
    n_channels: int = 2
    start_cells: int = 6
    pixel_size_um: float = 0.11

    def __post_init__(self) -> None:
        _check("species", self.species, SPECIES)
        _check("look", self.look, MOVIE_LOOKS)
        low, high = PIXEL_SIZES_UM
        pixel = self.pixel_size_um
        if self.n_channels not in (1, 2) or self.start_cells < 1 or not low <= pixel <= high:
            raise SettingsError(
                f"A synthetic movie has 1 or 2 channels, at least 1 cell and a pixel of {low} to "
                f"{high} um; asked for {self.n_channels} channels, {self.start_cells} cells, "
                f"{pixel} um."
            )

    @property
    def channel_names(self) -> tuple[str, ...]:
        """One name a channel."""
        return (self.look.capitalize(), "Chlorophyll")[: self.n_channels]


# A frame (C, Y, X), labels (Y, X), and the cell of each label.
_Shot: TypeAlias = "tuple[NDArray[np.uint16], NDArray[np.uint32], Cells]"


@dataclass(frozen=True)
class _Scene:
    """What is settled before the first frame."""

    asked: MovieRequest
    habit: Habit  # in px
    blur_px: float
    backdrop: Backdrop

    @property
    def width(self) -> float:
        return 2 * self.habit.radius


def synthetic_movie(*, n_frames: int = 12, **request: Any) -> SyntheticMovie:
    """Film growing cells; the same seed gives the same movie.

    Parameters
    ----------
    n_frames : int, optional
        Length, frames.
    **request
        Fields of `MovieRequest`: shape, seed, species, look, n_channels, start_cells and
        pixel_size_um.

    Returns
    -------
    SyntheticMovie

    Raises
    ------
    SettingsError
        `n_frames` is below 1, or as `MovieRequest`.

    Examples
    --------
    >>> movie = synthetic_movie(n_frames=2, shape=(96, 96), start_cells=2)
    >>> movie.frames.shape, movie.labels.shape, movie.channel_names
    ((2, 2, 96, 96), (2, 96, 96), ('Brightfield', 'Chlorophyll'))
    """
    if n_frames < 1:
        raise SettingsError(f"A movie has at least 1 frame; asked for {n_frames}.")
    asked = MovieRequest(**request)
    frames, labels, cells = zip(*islice(_film(asked), n_frames), strict=True)
    born = [(one.number, one.mother) for one in cells]
    return SyntheticMovie(
        frames=np.stack(frames),
        labels=np.stack(labels).astype(np.uint16),
        numbers=tuple(one.number.astype(np.int64) for one in cells),
        mothers={int(n): int(m) for pair in born for n, m in zip(*pair, strict=True) if m},
        channel_names=asked.channel_names,
        pixel_size_um=asked.pixel_size_um,
        interval_s=INTERVAL_S,
    )


def film(**request: Any) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.uint32]]]:
    """Yield frames (C, Y, X) and labels (Y, X) for ever; memory does not grow with their number.

    Parameters
    ----------
    **request
        Fields of `MovieRequest`, which raises the same errors.
    """
    return ((frame, labels) for frame, labels, _ in _film(MovieRequest(**request)))


def _film(asked: MovieRequest) -> Iterator[_Shot]:
    rng = np.random.default_rng(asked.seed)
    habit = _in_px(_HABITS[asked.species], asked.pixel_size_um)
    floaters = _floaters(asked.shape, habit, rng=rng)
    backdrop = draw_backdrop(asked.shape, floaters, width=2 * habit.radius, rng=rng)
    blur_px = PSF_UM / asked.pixel_size_um
    scene = _Scene(asked, habit, blur_px, backdrop)
    return _roll(scene, asked.start_cells, rng=rng)


def _roll(scene: _Scene, start_cells: int, *, rng: np.random.Generator) -> Iterator[_Shot]:
    growing = _grow_filaments if scene.asked.species == "filaments" else _grow_colony
    drift = np.zeros(2)
    for cells in growing(scene, start_cells, rng=rng):
        yield _shoot(replace(cells, y=cells.y + drift[0], x=cells.x + drift[1]), scene, rng=rng)
        drift = drift + rng.normal(0, 0.6, 2)


def _check(what: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise SettingsError(f"no {what} {given!r}; it is one of {', '.join(known)}")


def _in_px(habit: Habit, pixel_size_um: float) -> Habit:
    return replace(habit, radius=habit.radius / pixel_size_um, gap=habit.gap / pixel_size_um)


def _floaters(shape: tuple[int, int], habit: Habit, *, rng: np.random.Generator) -> Cells:
    """About one cell out of focus in 200 x 200 px; none touches the focal plane."""
    n = rng.poisson(shape[0] * shape[1] / 40_000)
    y, x = rng.uniform(0, shape[0], n), rng.uniform(0, shape[1], n)
    return found(y, x, habit=habit, rng=rng)


def _grow_colony(scene: _Scene, start_cells: int, *, rng: np.random.Generator) -> Iterator[Cells]:
    habit = scene.habit
    cells, last = _numbered(_founders(scene.asked.shape, start_cells, habit, rng=rng), 0)
    while True:
        yield cells
        cells = _lyse(_in_sight(cells, scene), rng=rng)
        for _ in range(STEPS_A_FRAME):
            cells = divide(elongate(cells, habit=habit), habit=habit, rng=rng)
            cells, last = _numbered(cells, last)
            cells = relax(cells, gap=habit.gap, n_sweeps=15)
        wriggle = [rng.normal(0, 0.15, len(cells)) for _ in range(2)]
        cells = replace(cells, y=cells.y + wriggle[0], x=cells.x + wriggle[1])
        cells = relax(cells, gap=habit.gap, n_sweeps=10)


def _numbered(cells: Cells, last: int) -> tuple[Cells, int]:
    """Give the newborn numbers of their own; return cells, and the last number."""
    new = cells.number == 0
    number = np.where(new, last + np.cumsum(new), cells.number)
    return replace(cells, number=number), last + int(new.sum())


def _founders(shape: tuple[int, int], n: int, habit: Habit, *, rng: np.random.Generator) -> Cells:
    """Cells in a loose group around the centre."""
    reach = 0.09 * min(shape) * np.sqrt(rng.random(n)) + 2 * habit.radius
    angle = rng.uniform(0, 2 * np.pi) + np.arange(n) * 2.4  # the golden angle spreads them
    y = shape[0] / 2 + reach * np.sin(angle)
    x = shape[1] / 2 + reach * np.cos(angle)
    return relax(found(y, x, habit=habit, rng=rng), gap=habit.gap, n_sweeps=100)


def _lyse(cells: Cells, *, rng: np.random.Generator) -> Cells:
    """Let the odd cell die: it stays where it is, pale and without chlorophyll, and never grows."""
    dead = (rng.random(len(cells)) < LYSIS_ODDS) & (cells.rate > 0)
    return replace(
        cells,
        rate=np.where(dead, 0, cells.rate),
        limit=np.where(dead, np.inf, cells.limit),
        pinch=np.where(dead, 0, cells.pinch),
        tone=np.where(dead, 0.15, cells.tone),
        pigment=np.where(dead, 0.03, cells.pigment),
    )


def _in_sight(cells: Cells, scene: _Scene) -> Cells:
    """Forget cells that were pushed so far out of the frame that they cannot come back."""
    far = 4 * scene.width
    rows = (cells.y > -far) & (cells.y < scene.asked.shape[0] + far)
    return cells.take(rows & (cells.x > -far) & (cells.x < scene.asked.shape[1] + far))


def _grow_filaments(
    scene: _Scene, start_cells: int, *, rng: np.random.Generator
) -> Iterator[Cells]:
    """Filaments lie side by side, far enough apart that none crosses another for a while."""
    n = -(-start_cells // CELLS_A_FILAMENT)
    sizes = [len(part) for part in np.array_split(np.arange(start_cells), n)]
    lean = rng.uniform(0, np.pi)
    lanes = (np.arange(n) - (n - 1) / 2) * 4 * scene.width
    filaments = [
        row.found_filament(
            size,
            where=(
                scene.asked.shape[0] / 2 + lane * np.cos(lean),
                scene.asked.shape[1] / 2 - lane * np.sin(lean),
                lean + rng.normal(0, 0.05),
            ),
            habit=scene.habit,
            rng=rng,
        )
        for size, lane in zip(sizes, lanes, strict=True)
    ]
    last = 0
    while True:
        for i, one in enumerate(filaments):
            cells, last = _numbered(one.cells, last)
            filaments[i] = replace(one, cells=cells)
        yield reduce(Cells.join, (one.cells for one in filaments))
        for _ in range(STEPS_A_FRAME):
            filaments = [row.grow(one, habit=scene.habit, rng=rng) for one in filaments]
        far_px = 4 * scene.width
        filaments = [row.in_sight(one, scene.asked.shape, far_px=far_px) for one in filaments]
        filaments = [replace(one, cells=_lyse(one.cells, rng=rng)) for one in filaments]


def _shoot(cells: Cells, scene: _Scene, *, rng: np.random.Generator) -> _Shot:
    """One frame (C, Y, X), its labels (Y, X), and the cell of each label."""
    geometry = rasterise(cells, scene.asked.shape, blunt=scene.habit.blunt)
    tone, pigment = (
        np.concatenate([[0], values]).astype(np.float32)[geometry.owner]
        for values in (cells.tone, cells.pigment)
    )
    solid, glowing = (Stage(geometry, strength, scene.width) for strength in (tone, pigment))
    planes = [
        transmit(solid, scene.backdrop, look=scene.asked.look, blur_px=scene.blur_px),
        fluoresce(glowing, scene.backdrop, blur_px=scene.blur_px),
    ]
    counts = [photograph(plane, rng=rng) for plane in planes[: scene.asked.n_channels]]
    rim = np.where(cells.rate > 0, RIM[scene.asked.look] * cells.radius, -1.0)
    labels = label_cells(geometry, rim)
    first = np.unique(labels, return_index=True)[1][int(labels.min() == 0) :]
    return np.stack(counts), labels, cells.take(geometry.owner.ravel()[first] - 1)
