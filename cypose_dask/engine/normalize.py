"""From pixels to the network's input.

Cellpose keeps its normalisation defaults in a module-level dictionary that `eval` edits, so one
call changes the next. Here every call passes a complete dictionary of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from cypose_dask.errors import DamagedFrameError, ModelError, SettingsError
from cypose_dask.settings import Settings

__all__ = ["cellpose_normalization", "intensity_range", "network_input"]

# Pixels of one frame that enter a movie's percentiles; enough for 0.1 % steps, small in memory.
_SAMPLED_PIXELS = 200_000
# Cellpose takes percentiles of larger frames from about 224 rows and columns, and blanks flatter
# ones.
_CELLPOSE_LARGE, _CELLPOSE_SIDE, _CELLPOSE_FLAT = 224**3, 224, 1e-3


def cellpose_normalization(settings: Settings) -> dict[str, Any]:
    """Return the full dictionary for `cellpose.transforms.normalize_img`."""
    fixed = isinstance(settings.normalize, tuple)
    return {
        "normalize": settings.normalize != "none",
        "lowhigh": np.reshape(settings.normalize, (-1, 2)) if fixed else None,
        "percentile": settings.percentiles,
        "invert": settings.invert,
        "norm3D": True,  # one frame at a time, where it only selects the branch that `eval` takes
        "sharpen_radius": 0,
        "smooth_radius": 0,
        "tile_norm_blocksize": 0,
        "tile_norm_smooth3D": 1,
    }


def network_input(frame: np.ndarray, inputs: int, settings: Settings) -> np.ndarray:
    """Normalise a frame and add the network inputs that the movie does not fill.

    Parameters
    ----------
    frame : (C, Y, X) ndarray
        The chosen channels, any real dtype, raw intensities.
    inputs : int
        Inputs of the network; the C to `inputs` ones that are not given stay zero.
    settings : Settings
        Resolved: `normalize` is not ``"movie"``.

    Returns
    -------
    (Y, X, inputs) ndarray of float32

    Raises
    ------
    DamagedFrameError
        If a pixel is NaN or infinite: Cellpose would then skip normalisation in silence.
    ModelError
        If the frame has more channels than the network has inputs.
    SettingsError
        If there are neither one nor C pairs of intensities.

    Notes
    -----
    Source: cellpose 3.1.1.3 `transforms.normalize_img` and `normalize99`, to which it is equal bit
    by bit; they would import torch.
    """
    check_finite(frame)
    if len(frame) > inputs:
        raise ModelError(
            f"{len(frame)} channels were chosen, but the network has {inputs} inputs. Choose fewer "
            "with --channels."
        )
    image = np.zeros((*frame.shape[1:], inputs), np.float32)
    for i, (channel, limits) in enumerate(zip(frame, _limits(frame, settings), strict=True)):
        image[..., i] = _normalized(channel.astype(np.float32), limits, settings)
    return image


def _limits(frame: np.ndarray, settings: Settings) -> list[np.ndarray | None]:
    """Return the fixed intensities of each channel, None where percentiles are taken."""
    if not isinstance(settings.normalize, tuple):
        return [None] * len(frame)
    pairs = np.reshape(settings.normalize, (-1, 2))
    if len(pairs) not in (1, len(frame)):
        raise SettingsError(
            f"normalize has {len(pairs)} pairs of intensities for {len(frame)} channels; give one "
            "pair, or one for each channel."
        )
    return list(np.broadcast_to(pairs, (len(frame), 2)))


def _normalized(channel: np.ndarray, limits: np.ndarray | None, settings: Settings) -> np.ndarray:
    """Normalise a channel (Y, X) of float32 in place and return it."""
    if limits is not None:
        low, high = limits
        channel -= low
        channel /= high - low
    elif settings.normalize == "none" or not np.ptp(channel) > 0:
        return channel  # nor is it inverted
    else:
        _stretch(channel, settings.percentiles)
    return 1 - channel if settings.invert else channel


def _stretch(channel: np.ndarray, percentiles: tuple[float, float]) -> None:
    sides = channel.shape if channel.size > _CELLPOSE_LARGE else (1, 1)
    rows, columns = (max(1, side // _CELLPOSE_SIDE) for side in sides)
    sample = channel[::rows, ::columns].flatten()
    # One at a time: two percentiles in one call are interpolated in another precision.
    low, high = (np.percentile(sample, q, overwrite_input=True) for q in percentiles)
    if high - low > _CELLPOSE_FLAT:
        channel -= low
        channel /= high - low
    else:
        channel[:] = 0


def check_finite(frame: np.ndarray) -> None:
    """Raise `DamagedFrameError` if any pixel of a frame is NaN or infinite."""
    bad = int(frame.size - np.isfinite(frame).sum()) if frame.dtype.kind == "f" else 0
    if bad:
        raise DamagedFrameError(
            f"{bad} of {frame.size} pixels are NaN or infinite; normalisation would be skipped in "
            "silence. Repair the frame, or leave it out."
        )


def select_channels(frame: np.ndarray, mean: bool) -> np.ndarray:
    """Return a frame's channels, or their float32 mean as one channel (Cellpose's gray)."""
    if not mean or len(frame) == 1:
        return frame
    channels_last = np.moveaxis(frame, 0, -1).astype(np.float32)
    return channels_last.mean(axis=-1)[np.newaxis]


def intensity_range(
    frames: Iterable[np.ndarray], percentiles: tuple[float, float]
) -> tuple[float, ...]:
    """Measure the intensities that 0 and 1 stand for over several frames.

    Parameters
    ----------
    frames : iterable of (C, Y, X) ndarray
        Sampled frames of one movie.
    percentiles : tuple of float
        Lower and upper, 0 to 100.

    Returns
    -------
    tuple of float
        ``(low0, high0, low1, high1, ...)``, one pair a channel, in the movie's own intensities.

    Raises
    ------
    DamagedFrameError
        If a pixel is not finite, or a channel is constant over all frames.
    """
    sampled = [_subsample(frame) for frame in frames]
    pooled = np.concatenate(sampled, axis=1)
    check_finite(pooled)
    limits = np.percentile(pooled, percentiles, axis=1).T
    if (limits[:, 0] >= limits[:, 1]).any():
        raise DamagedFrameError(
            "A channel has one intensity only over all sampled frames; a movie-wide normalisation "
            "would divide by zero. Choose another channel, or give the intensities."
        )
    return tuple(float(v) for v in limits.reshape(-1))


def _subsample(frame: np.ndarray) -> np.ndarray:
    flat = frame.reshape(len(frame), -1)
    return flat[:, :: max(1, flat.shape[1] // _SAMPLED_PIXELS)]
