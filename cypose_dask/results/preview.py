"""A picture of a result: frames, outlines and cell counts side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cypose_dask.movies import Movie
from cypose_dask.results.atomic import whole_file
from cypose_dask.results.store import Result, open_result

__all__ = ["save_preview"]

_PANELS = 3
_PANEL_PX = 480
_OUTLINE = (255, 190, 0)
_CAPTION_PX = 22


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
    """
    from PIL import Image

    result = result if isinstance(result, Result) else open_result(result)
    labels = result.labels(position)
    chosen = _evenly(labels.shape[0]) if times is None else times
    panels = [_panel(result, movie, (int(t), position)) for t in chosen]
    sheet = Image.fromarray(np.concatenate(panels, axis=1))
    with whole_file(Path(path)) as partial:
        sheet.save(partial, format="PNG")
    return Path(path)


def _evenly(frames: int) -> list[int]:
    return sorted({int(t) for t in np.linspace(0, frames - 1, _PANELS).round()})


def _panel(result: Result, movie: Movie, where: tuple[int, int]) -> np.ndarray:
    t, position = where
    plan = result.attributes["plan"]
    labels = result.labels(position)
    z = labels.shape[1] // 2
    frame_number = int(plan["start_frame"]) + t
    frame = movie.read_frame(frame_number, plan["positions"][position], z)
    picture = overlay(frame[_first_channel(plan)], np.asarray(labels[t, z]))
    cells = int(result.cells(position)[t, z])
    text = f"frame {frame_number}: {cells} cell{'' if cells == 1 else 's'}"
    return _with_caption(picture, text)


def _first_channel(plan: dict[str, object]) -> int:
    channels = plan["channels"]
    return int(channels[0]) if isinstance(channels, list) else 0


def overlay(channel: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw outlines over one channel.

    Parameters
    ----------
    channel : (Y, X) ndarray
    labels : (Y, X) ndarray of int

    Returns
    -------
    (Y', X', 3) ndarray of uint8
        Enlarged by a whole factor when the frame is small, so that outlines stay thin.
    """
    from skimage.segmentation import find_boundaries

    factor = max(1, round(_PANEL_PX / max(channel.shape)))
    low, high = np.nanpercentile(channel, (0.5, 99.5))
    gray = np.clip((channel - low) / max(high - low, 1e-9), 0, 1)
    gray = np.kron(gray, np.ones((factor, factor)))
    large = np.kron(labels, np.ones((factor, factor), labels.dtype))
    picture = np.repeat((gray * 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)
    picture[find_boundaries(large, mode="inner")] = _OUTLINE
    return picture


def _with_caption(picture: np.ndarray, text: str) -> np.ndarray:
    from PIL import Image, ImageDraw

    height, width = picture.shape[:2]
    sheet = Image.new("RGB", (width + 4, height + _CAPTION_PX), "white")
    sheet.paste(Image.fromarray(picture), (0, _CAPTION_PX))
    ImageDraw.Draw(sheet).text((6, 4), text, fill="black", font_size=14)
    return np.asarray(sheet)
