"""Image restoration before segmentation: the first of two explicit steps.

`cellpose.denoise.CellposeDenoiseModel` is not used: in 3.1.1.3 it never runs its second-channel
network and inverts twice. Each chosen channel goes through the same network here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cypose_dask.engine.device import on_device
from cypose_dask.engine.normalize import cellpose_normalization, check_finite
from cypose_dask.models import ModelSpec
from cypose_dask.settings import Settings

__all__ = ["Restoration", "load", "restore_frame"]


@dataclass(frozen=True, slots=True)
class Restoration:
    """A restoration network in memory: Cellpose's `DenoiseModel`."""

    model: Any
    spec: ModelSpec

    def channel(self, channel: np.ndarray, **options: Any) -> np.ndarray:
        """Restore one (Y, X) channel; options as `DenoiseModel.eval`."""
        with on_device:
            return self.model.eval(channel, **options)[..., 0]


def load(spec: ModelSpec, device: str) -> Restoration:
    """Load a restoration network as Cellpose does."""
    import torch
    from cellpose import denoise

    model = denoise.DenoiseModel(
        pretrained_model=spec.path,
        nchan=spec.network_inputs,
        diam_mean=spec.diam_mean,
        device=torch.device(device),
    )
    return Restoration(model, spec)


def restore_frame(frame: np.ndarray, network: Restoration, settings: Settings) -> np.ndarray:
    """Restore every channel of a frame.

    Parameters
    ----------
    frame : (C, Y, X) ndarray
        The chosen channels, raw intensities.
    network : Restoration
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
        network.channel(
            channel.astype(np.float32),
            diameter=settings.diameter_px,
            normalize={**options, "lowhigh": None if limits is None else limits[_pair(limits, i)]},
        )
        for i, channel in enumerate(frame)
    ]
    return np.stack(restored)


def _pair(limits: np.ndarray, channel: int) -> int:
    return channel if len(limits) > 1 else 0
