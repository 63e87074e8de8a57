"""A picture of a result: frames, outlines and cell counts side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cypose_dask.errors import DamagedFrameError, ResultError, SettingsError
from cypose_dask.movies import Movie
from cypose_dask.results.atomic import whole_file
from cypose_dask.results.naming import SOFTWARE
from cypose_dask.results.pages import read_array
from cypose_dask.results.store import Result, Status, open_result

__all__ = ["captioned", "enlarged", "overlay", "panel_factor", "save_preview", "save_sheet"]

_PANELS = 3
_PANEL_PX = 480
_OUTLINE = (255, 190, 0)
_CAPTION_PX = 22
_CAPTION_LETTER_PX = 9


def save_preview(
    result: Result | str | Path,
    movie: Movie,
    path: str | Path,
    *,
    position: int = 0,
    times: Sequence[int] | None = None,
) -> Path:
    """Draw frames with the outlines of their cells and the cell count, as PNG.

    Parameters
    ----------
    result : Result, str or Path
    movie : Movie
        The movie that the result was made from.
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
    chosen = _evenly(frames) if times is None else [int(t) for t in times]
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


def _evenly(frames: int) -> list[int]:
    return sorted({int(t) for t in np.linspace(0, frames - 1, _PANELS).round()})


def _check_choice(times: list[int], frames: int, position: tuple[int, int]) -> None:
    if not times or not all(0 <= t < frames for t in times):
        raise SettingsError(f"times are {times}; choose some of 0 to {frames - 1}.")
    if not 0 <= position[0] < position[1]:
        raise SettingsError(f"position is {position[0]}; choose one of 0 to {position[1] - 1}.")


def _panel(result: Result, movie: Movie, where: tuple[int, int]) -> np.ndarray:
    t, position = where
    z = result.layout.planes // 2
    labels = read_array(result.path, result.labels(position), (t, z))
    status = Status(int(result.status(position)[t, z]))
    movie_position, channel_index = _source(result, position)
    at = (result.start_frame + t, movie_position, z)
    try:
        channel = movie.read_frame(*at)[channel_index]
    except DamagedFrameError:
        channel = np.zeros(labels.shape, np.uint8)
    except IndexError as error:
        raise _other_movie(result, movie) from error
    if channel.shape != labels.shape:
        raise _other_movie(result, movie)
    done = status == Status.DONE
    picture = overlay(channel, labels if done else np.zeros_like(labels))
    cells = int(result.cells(position)[t, z])
    # A frame without labels must not look like a frame without cells.
    found = f"{cells} cell{'' if cells == 1 else 's'}" if done else status.name.lower()
    return captioned(picture, f"frame {at[0]}: {found}")


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


def overlay(channel: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw outlines over one channel.

    Parameters
    ----------
    channel : (Y, X) ndarray
        Pixels that are not finite are drawn black.
    labels : (Y, X) ndarray of int

    Returns
    -------
    (Y', X', 3) ndarray of uint8
        Enlarged by a whole factor when the frame is small, so that outlines stay thin.
    """
    from skimage.segmentation import find_boundaries

    factor = panel_factor(channel.shape)
    gray = enlarged(_gray(channel), factor)
    picture = np.repeat(gray[..., np.newaxis], 3, axis=2)
    picture[find_boundaries(enlarged(labels, factor), mode="inner")] = _OUTLINE
    return picture


def _gray(channel: np.ndarray) -> np.ndarray:
    """Stretch a channel to uint8; a constant one becomes black."""
    values = np.asarray(channel, np.float64)
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(values[known], (0.5, 99.5))
    scaled = (np.where(known, values, low) - low) / max(high - low, 1e-9)
    return (np.clip(scaled, 0, 1) * 255).astype(np.uint8)


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
