"""Labels as a lazy Dask array, for people with pipelines of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cypose_dask.engine import load_networks, segment_frame, settle_engine, settle_numbers
from cypose_dask.errors import MovieError, SettingsError
from cypose_dask.models import ModelSpec, resolve_model, resolve_restoration
from cypose_dask.settings import Settings

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["segment_lazy"]


def segment_lazy(frames: da.Array, settings: Settings | None = None) -> da.Array:
    """Return a lazy Dask array of labels; nothing is computed until you ask.

    Parameters
    ----------
    frames : (T, P, Z, C, Y, X) dask.array.Array
        `Movie.frames`, or any array with these axes. Its chunks along T, P and Z become the
        blocks; C, Y and X are made whole.
    settings : Settings
        `channels` are 0-based indexes or ``"mean"`` (an array has no names). `start_frame` and
        `end_frame` are slices of `frames`, and `diameter` and `normalize` must not ask for a
        measurement: an array that computes itself cannot be sampled first.

    Returns
    -------
    (T, P, Z, Y, X) dask.array.Array of uint32
        0 is background; cells are numbered per frame from 1. Runs on whatever scheduler is active
        and takes ``.compute()``, slicing and ``da.store`` like any other array. A frame that
        fails raises; use `segment` for runs that go on.

    Raises
    ------
    SettingsError, MovieError, ModelError
        If the settings cannot be applied to an array without metadata.

    Examples
    --------
    >>> labels = segment_lazy(movie.frames, Settings(channels=(0,)))
    >>> bool(labels[0].compute().max() > 0)
    True
    """
    settings = settings or Settings()
    _check(frames, settings)
    model = resolve_model(settings.model)
    restoration = resolve_restoration(settings.denoise) if settings.denoise else None
    whole = frames.rechunk({3: -1, 4: -1, 5: -1})
    return whole.map_blocks(
        _label_block,
        settings,
        model,
        restoration,
        dtype=np.uint32,
        drop_axis=3,
        meta=np.empty((0,) * 5, np.uint32),
    )


def _check(frames: da.Array, settings: Settings) -> None:
    if frames.ndim != 6:
        raise MovieError(
            f"frames has {frames.ndim} axes {frames.shape}; expected six, (T, P, Z, C, Y, X)."
        )
    if settings.diameter == "estimate" or settings.normalize == "movie":
        raise SettingsError(
            "segment_lazy cannot measure the diameter or the movie's percentiles before it "
            "computes. Give numbers, for example from make_plan(movie, settings).settings."
        )
    if settings.start_frame or settings.end_frame is not None:
        raise SettingsError("Slice the array instead of start_frame and end_frame: frames[2:8].")
    channels = settings.channels
    if channels is None and frames.shape[3] > 1:
        raise SettingsError(
            f"The array has {frames.shape[3]} channels; choose with Settings(channels=(0,))."
        )
    if isinstance(channels, tuple) and not all(
        isinstance(c, int) and 0 <= c < frames.shape[3] for c in channels
    ):
        raise SettingsError(
            f"channels is {channels!r}; an array has no names, so give indexes below "
            f"{frames.shape[3]}."
        )


def _label_block(
    frames: np.ndarray, settings: Settings, model: ModelSpec, restoration: ModelSpec | None
) -> np.ndarray:
    """Segment a (t, p, z, C, Y, X) block into (t, p, z, Y, X) labels."""
    device, settings = settle_engine(settings, model)
    networks = load_networks(model, device, restoration, settings=settings)
    resolved = settle_numbers(settings, model)
    labels = np.zeros((*frames.shape[:3], *frames.shape[4:]), np.uint32)
    chosen = list(settings.channels) if isinstance(settings.channels, tuple) else slice(None)
    for at in np.ndindex(frames.shape[:3]):
        labels[at] = segment_frame(frames[at][chosen], networks, resolved).labels
    return labels
