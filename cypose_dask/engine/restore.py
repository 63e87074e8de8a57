"""Image restoration before segmentation: the first of two explicit steps.

`cellpose.denoise.CellposeDenoiseModel` is not used: in 3.1.1.3 it never runs its second-channel
network and inverts twice. Each chosen channel goes through the same network here.
"""

from __future__ import annotations

import numpy as np

from cypose_dask.engine.network import Network, restore_channel
from cypose_dask.engine.normalize import cellpose_normalization, check_finite
from cypose_dask.settings import Settings

__all__ = ["restore_frame"]


def restore_frame(frame: np.ndarray, network: Network, settings: Settings) -> np.ndarray:
    """Restore every channel of a frame.

    Parameters
    ----------
    frame : (C, Y, X) ndarray
        The chosen channels, raw intensities.
    network : Network
        A restoration network.
    settings : Settings
        Resolved. Normalisation and inversion are applied here and not again in segmentation.

    Returns
    -------
    (C, Y, X) ndarray of float32
        Restored, in normalised units, not clipped.

    Notes
    -----
    Source: cellpose 3.1.1.3 `denoise.DenoiseModel.eval`, one channel at a time.
    """
    check_finite(frame)
    options = cellpose_normalization(settings)
    limits = options.pop("lowhigh")
    restored = [
        restore_channel(
            network,
            channel.astype(np.float32),
            diameter=settings.diameter_px,
            normalize={**options, "lowhigh": None if limits is None else limits[_pair(limits, i)]},
        )
        for i, channel in enumerate(frame)
    ]
    return np.stack(restored)


def _pair(limits: np.ndarray, channel: int) -> int:
    return channel if len(limits) > 1 else 0
