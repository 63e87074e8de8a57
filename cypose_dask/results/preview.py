"""A picture of a result: frames, outlines and cell counts side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cypose_dask.errors import DamagedFrameError, ResultError, SettingsError
from cypose_dask.movies import Movie
from cypose_dask.results.atomic import whole_file
from cypose_dask.results.naming import SOFTWARE
from cypose_dask.results.pages import read_array
from cypose_dask.results.store import Result, Status, open_result

__all__ = [
    "OUTLINE",
    "View",
    "captioned",
    "colored",
    "contrast",
    "enlarged",
    "evenly",
    "gray",
    "outlines_of",
    "overlay",
    "panel_factor",
    "read_view",
    "save_preview",
    "save_sheet",
]

_PANELS = 3
_PANEL_PX = 480
OUTLINE = (255, 190, 0)
_GROUND = (24, 24, 30)
# Neighbouring numbers get hues that are far apart. Source: the golden ratio, less 1.
_HUE_STEP = 0.618034
_CAPTION_PX = 22
_CAPTION_LETTER_PX = 9


def save_preview(
    result: Result | str | Path,
    movie: Movie | None,
    path: str | Path,
    *,
    position: int = 0,
    times: Sequence[int] | None = None,
) -> Path:
    """Draw frames with the outlines of their cells and the cell count, as PNG.

    Parameters
    ----------
    result : Result, str or Path
    movie : Movie or None
        The movie that the result was made from; None draws coloured labels alone.
    path : str or Path
        The PNG.
    position : int
        Index within the result.
    times : sequence of int or None
        Frames of the result, 0-based; None takes the first, the middle and the last. The middle
        plane is drawn where there are several, and the first channel that was segmented.

    Returns
    -------
    Path

    Raises
    ------
    SettingsError
        If the result has no such position or frame.
    ResultError
        If the result is damaged, or of another movie.
    """
    result = result if isinstance(result, Result) else open_result(result)
    frames = result.layout.frames
    chosen = evenly(frames, _PANELS) if times is None else [int(t) for t in times]
    _check_choice(chosen, frames, (position, result.n_positions))
    panels = [_panel(result, movie, (t, position)) for t in chosen]
    save_sheet(np.concatenate(panels, axis=1), path)
    return Path(path)


def save_sheet(sheet: np.ndarray, path: str | Path) -> None:
    """Write a picture (Y, X, 3) of uint8 as PNG, marked as ours.

    Raises
    ------
    ResultError
        If `path` is a folder.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_text("Software", SOFTWARE)
    with whole_file(Path(path)) as partial:
        Image.fromarray(sheet).save(partial, format="PNG", pnginfo=mark)


def evenly(frames: int, most: int) -> list[int]:
    """Choose some of a number of frames, spread evenly; the first and the last are among them."""
    return sorted({int(t) for t in np.linspace(0, frames - 1, most).round()})


def _check_choice(times: list[int], frames: int, position: tuple[int, int]) -> None:
    if not times or not all(0 <= t < frames for t in times):
        raise SettingsError(f"times are {times}; choose some of 0 to {frames - 1}.")
    if not 0 <= position[0] < position[1]:
        raise SettingsError(f"position is {position[0]}; choose one of 0 to {position[1] - 1}.")


def _panel(result: Result, movie: Movie | None, where: tuple[int, int]) -> np.ndarray:
    view = read_view(result, movie, (*where, result.layout.planes // 2))
    return captioned(view.drawn(), f"frame {view.t}: {view.found}")


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What there is to see of one frame of a result.

    Attributes
    ----------
    t : int
        The movie's frame.
    channel : (Y, X) ndarray or None
        The first channel that was segmented; None without a movie, and where it is damaged.
    labels : (Y, X) ndarray of uint32
        Zeros unless the frame is done.
    status : Status
    cells : int
    unreadable : str
        Why the movie's frame cannot be read; empty if it can.
    """

    t: int
    channel: np.ndarray | None
    labels: np.ndarray
    status: Status
    cells: int
    unreadable: str = ""

    @property
    def found(self) -> str:
        """The number of cells; a frame without labels must not look like one without cells."""
        if self.status != Status.DONE:
            return self.status.name.lower()
        return f"{self.cells} cell{'' if self.cells == 1 else 's'}"

    @property
    def image(self) -> np.ndarray:
        """What is drawn below the outlines: the frame, or coloured labels without a movie."""
        if self.unreadable:
            return np.zeros(self.labels.shape, np.uint8)
        return colored(self.labels) if self.channel is None else self.channel

    def drawn(self) -> np.ndarray:
        """Draw the frame with its outlines: (Y', X', 3) of uint8."""
        return overlay(self.image, self.labels)


def read_view(
    result: Result,
    movie: Movie | None,
    place: tuple[int, int, int],
    *,
    known: tuple[int, int] | None = None,
) -> View:
    """Read a frame of a movie and its labels.

    Parameters
    ----------
    result : Result
    movie : Movie or None
        None reads the labels alone.
    place : (int, int, int)
        T of the result, P and Z.
    known : (int, int) or None
        Status and number of cells, where the journal knows more than the zarr.

    Raises
    ------
    ResultError
        If the result is damaged, or of another movie.
    MovieError
        If the movie's file has changed since it was opened, or cannot be read.
    """
    t, position, z = place
    labels = read_array(result.path, result.labels(position), (t, z))
    if known is None:
        known = int(result.status(position)[t, z]), int(result.cells(position)[t, z])
    status = Status(known[0])
    channel, unreadable = None, ""
    if movie is not None:
        try:
            channel = _read_channel(result, movie, place)
        except DamagedFrameError as error:
            unreadable = str(error)
    return View(
        t=result.start_frame + t,
        channel=channel,
        labels=labels if status == Status.DONE else np.zeros_like(labels),
        status=status,
        cells=known[1],
        unreadable=unreadable,
    )


def _read_channel(result: Result, movie: Movie, place: tuple[int, int, int]) -> np.ndarray:
    t, position, z = place
    movie_position, channel_index = _source(result, position)
    try:
        channel = movie.read_frame(result.start_frame + t, movie_position, z)[channel_index]
    except IndexError as error:
        raise _other_movie(result, movie) from error
    if channel.shape != (result.layout.height, result.layout.width):
        raise _other_movie(result, movie)
    return channel


def _source(result: Result, position: int) -> tuple[int, int]:
    """Return the movie's position of a position, and the first channel that was segmented."""
    try:
        plan = result.attributes["plan"]
        channels = plan["channels"]
        channel = int(channels[0]) if isinstance(channels, list) else 0
        return int(plan["positions"][position]), channel
    except (LookupError, TypeError, ValueError) as error:
        raise ResultError(
            f"{result.path}: the stored plan has no positions and channels. The store was changed "
            "or damaged; segment again with --restart."
        ) from error


def _other_movie(result: Result, movie: Movie) -> ResultError:
    return ResultError(
        f"{movie.info.path} has no frames that {result.path} could be of: another position, "
        "channel, time or size. Give the movie that was segmented."
    )


def overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw outlines over one channel.

    Parameters
    ----------
    image : (Y, X) ndarray, or (Y, X, 3) ndarray of uint8
        A channel, which is stretched, or colours. Pixels that are not finite are drawn black.
    labels : (Y, X) ndarray of int

    Returns
    -------
    (Y', X', 3) ndarray of uint8
        Enlarged by a whole factor when the frame is small, so that outlines stay thin.
    """
    factor = panel_factor(labels.shape)
    colors = image if image.ndim == 3 else np.repeat(gray(image)[..., np.newaxis], 3, axis=2)
    picture = enlarged(colors, factor)
    picture[outlines_of(enlarged(labels, factor))] = OUTLINE
    return picture


def outlines_of(labels: np.ndarray) -> np.ndarray:
    """Return the pixels of cells that touch another cell or the background: (Y, X) of bool."""
    from skimage.segmentation import find_boundaries

    found: np.ndarray = find_boundaries(labels, mode="inner")
    return found


def contrast(channel: np.ndarray) -> tuple[float, float] | None:
    """Return what becomes black and white in a channel; None if no pixel is finite."""
    known = channel[np.isfinite(channel)]
    if not known.size:
        return None
    low, high = np.percentile(known, (0.5, 99.5))
    return float(low), float(high)


def gray(channel: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Stretch a channel (Y, X) to uint8; a constant one becomes black.

    Parameters
    ----------
    channel : (Y, X) ndarray
    limits : (float, float) or None
        What becomes black and white; None takes percentiles 0.5 and 99.5 (`contrast`).
    """
    values = np.asarray(channel, np.float64)
    ends = limits or contrast(values)
    if ends is None:
        return np.zeros(values.shape, np.uint8)
    low, high = ends
    scaled = (np.where(np.isfinite(values), values, low) - low) / max(high - low, 1e-9)
    return (np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def colored(labels: np.ndarray) -> np.ndarray:
    """Fill cells with colours by their number, on a dark ground: (Y, X, 3) of uint8."""
    hue = (labels * _HUE_STEP % 1.0)[..., np.newaxis] + np.array([0.0, 1 / 3, 2 / 3])
    colors = 75 + 150 * (0.5 + 0.5 * np.cos(2 * np.pi * hue))
    return np.where(labels[..., np.newaxis] > 0, colors, _GROUND).astype(np.uint8)


def panel_factor(shape: tuple[int, ...]) -> int:
    """Return the whole factor by which a panel of a frame (Y, X) is enlarged."""
    return max(1, round(_PANEL_PX / max(shape)))


def enlarged(image: np.ndarray, factor: int) -> np.ndarray:
    """Return an image (Y, X) or (Y, X, 3) with every pixel repeated along Y and X."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """Return a picture (Y, X, 3) with a line of text above it, wide enough for the text."""
    from PIL import Image, ImageDraw

    height, width = picture.shape[:2]
    width = max(width, _CAPTION_LETTER_PX * len(text))
    sheet = Image.new("RGB", (width + 4, height + _CAPTION_PX), "white")
    sheet.paste(Image.fromarray(picture), (0, _CAPTION_PX))
    ImageDraw.Draw(sheet).text((6, 4), text, fill="black", font_size=14)
    return np.asarray(sheet)
