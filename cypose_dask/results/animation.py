"""A film of a result: one position over time with outlines, as GIF or as animated PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cypose_dask.errors import SettingsError
from cypose_dask.movies import Movie
from cypose_dask.results.atomic import whole_file
from cypose_dask.results.naming import SOFTWARE
from cypose_dask.results.preview import (
    OUTLINE,
    View,
    captioned,
    contrast,
    evenly,
    gray,
    outlines_of,
    read_view,
)
from cypose_dask.results.store import Result, open_result

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ENDINGS", "MOST_FRAMES", "save_animation"]

ENDINGS = (".gif", ".apng")
MOST_FRAMES = 600
# All pictures of a film are held in memory while it is packed, in 3 bytes a pixel.
_MOST_PIXELS = 400_000_000
# Contrast is one for the whole film, so that it does not flicker; from this many frames.
_FRAMES_OF_CONTRAST = 9
_S_PER_H = 3600
# Of a GIF.
_GRAYS, _MOST_COLORS = 48, 256


def save_animation(
    result: Result | str | Path,
    movie: Movie | None,
    path: str | Path,
    *,
    position: int = 0,
    frames: int = 100,
    picture_px: int = 640,
    frames_per_s: float = 8.0,
) -> Path:
    """Draw frames with the outlines of their cells, one after the other.

    Parameters
    ----------
    result : Result, str or Path
    movie : Movie or None
        The movie that the result was made from; None draws coloured labels alone.
    path : str or Path
        ``.gif``, which every program plays, or ``.apng`` with all grays and colours.
    position : int
        Index within the result. The middle plane is drawn where there are several, and the first
        channel that was segmented.
    frames : int
        How many at most, spread evenly over time.
    picture_px : int
        Longest side of the picture, px.
    frames_per_s : float
        Speed of the film.

    Returns
    -------
    Path

    Raises
    ------
    SettingsError
        If a number is out of range, `path` has another ending, or there is no such position.
    ResultError
        If the result is damaged or of another movie, or `path` is a folder.
    """
    result, path = result if isinstance(result, Result) else open_result(result), Path(path)
    _check(result, path, (position, frames, picture_px, frames_per_s))
    limits = _limits(result, movie, position) if movie is not None else None
    size, is_gif = _size(result, picture_px), path.suffix.lower() == ".gif"
    images = []
    for t in evenly(result.layout.frames, frames):
        view = _view(result, movie, (t, position))
        image = _image(view, limits, size, _clock(result, view))
        images.append(_packed(image, has_colors=movie is None) if is_gif else image)
    with whole_file(path) as partial:
        _save(partial, images, 1000 / frames_per_s, is_gif=is_gif)
    return path


def _check(result: Result, path: Path, numbers: tuple[int, int, int, float]) -> None:
    position, frames, picture_px, frames_per_s = numbers
    if path.suffix.lower() not in ENDINGS:
        raise SettingsError(f"{path} names no film; expected a name that ends in .gif or .apng.")
    if not 0 <= position < result.n_positions:
        raise SettingsError(f"position is {position}; choose one of 0 to {result.n_positions - 1}.")
    if not 1 <= frames <= MOST_FRAMES:
        raise SettingsError(f"frames is {frames}; choose 1 to {MOST_FRAMES}.")
    if not 64 <= picture_px <= 4096:
        raise SettingsError(f"picture_px is {picture_px}; choose 64 to 4096.")
    if min(frames, result.layout.frames) * picture_px**2 > _MOST_PIXELS:
        raise SettingsError(
            f"A film of {frames} frames of {picture_px} px is too large for memory; choose fewer "
            "frames, or a smaller picture_px."
        )
    if not 0.1 <= frames_per_s <= 50:
        raise SettingsError(f"frames_per_s is {frames_per_s}; choose 0.1 to 50.")


def _view(result: Result, movie: Movie | None, where: tuple[int, int]) -> View:
    return read_view(result, movie, (*where, result.layout.planes // 2))


def _limits(result: Result, movie: Movie, position: int) -> tuple[float, float] | None:
    """Return what becomes black and white in every frame; None if none can be read."""
    times = evenly(result.layout.frames, _FRAMES_OF_CONTRAST)
    channels = (_view(result, movie, (t, position)).channel for t in times)
    ends = [contrast(channel) for channel in channels if channel is not None]
    known = [pair for pair in ends if pair is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def _size(result: Result, picture_px: int) -> tuple[int, int]:
    """Return the picture's X and Y: a whole number of pixels for each one of a small frame."""
    x, y = result.layout.width, result.layout.height
    scale = picture_px / max(x, y)
    scale = int(scale) if scale >= 1 else scale
    return max(1, round(x * scale)), max(1, round(y * scale))


def _clock(result: Result, view: View) -> str:
    interval_s = result.layout.interval_s
    return "" if interval_s is None else f", {view.t * interval_s / _S_PER_H:.2f} h"


def _image(
    view: View, limits: tuple[float, float] | None, size: tuple[int, int], clock: str
) -> Image.Image:
    """Draw a frame with outlines that stay thin at any size."""
    from PIL import Image

    ground = view.image if view.image.ndim == 3 else gray(view.image, limits)
    smooth = Image.Resampling.BOX if size[0] < ground.shape[1] else Image.Resampling.NEAREST
    picture = np.array(Image.fromarray(ground).convert("RGB").resize(size, smooth))
    labels = Image.fromarray(view.labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    picture[outlines_of(np.asarray(labels))] = OUTLINE
    return Image.fromarray(captioned(picture, f"frame {view.t}{clock}: {view.found}"))


def _packed(image: Image.Image, *, has_colors: bool) -> Image.Image:
    """Return a picture in the few colours of a GIF, without dither, which looks like noise."""
    from PIL import Image

    if has_colors:
        return image.quantize(_MOST_COLORS, dither=Image.Dither.NONE)
    # The same ones in every frame, or the ground would flicker; few, because they pack better.
    levels = np.linspace(0, 255, _GRAYS).round().astype(int)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*np.repeat(levels, 3).tolist(), *OUTLINE])
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


def _save(path: Path, images: list[Image.Image], duration_ms: float, *, is_gif: bool) -> None:
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_text("Software", SOFTWARE)
    how: dict[str, Any] = {"format": "PNG", "pnginfo": mark}
    if is_gif:
        how = {"format": "GIF", "comment": SOFTWARE.encode()}
    first, *others = images
    first.save(path, save_all=True, append_images=others, duration=duration_ms, loop=0, **how)
