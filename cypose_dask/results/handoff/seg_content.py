"""What Cellpose's GUI expects in a ``_seg.npy``: one dictionary about one frame.

Source: `cellpose.io.masks_flows_to_seg` and `cellpose.gui.io._load_seg` (3.1.1.3), which read and
write it. Where both differ, both are satisfied: the GUI takes the diameter from ``est_diam`` alone,
which no function of Cellpose writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cypose_dask.settings import Settings

__all__ = ["FlowPlanes", "outlines_of", "seg_content"]

# What the GUI itself keeps where it has no flows; it switches their views off then.
_NO_FLOWS: list[Any] = [[], [], [], [], [[]]]
# Below this spread a plane counts as constant (cellpose.transforms.normalize99).
_CONSTANT = 1e-3


@dataclass(frozen=True, slots=True)
class FlowPlanes:
    """Output of the network for a frame: flows (2, Y, X), (dy, dx), and logits (Y, X), float32."""

    flows: np.ndarray
    cellprob: np.ndarray


def seg_content(
    labels: np.ndarray, settings: Settings, about: dict[str, Any], planes: FlowPlanes | None = None
) -> dict[str, Any]:
    """Return the dictionary.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
        0 background, 1..N cells.
    settings : Settings
        Resolved, as the frame was segmented.
    about : dict
        ``filename`` of the image, ``chan_choose`` and ``model_path``.
    planes : FlowPlanes or None
        The network's output, if the run kept it.
    """
    dtype = np.uint16 if labels.max(initial=0) < np.iinfo(np.uint16).max else np.uint32
    labels = labels.astype(dtype)
    return {
        **about,
        "outlines": outlines_of(labels),
        "masks": labels,
        "ismanual": np.zeros(int(labels.max(initial=0)), bool),
        "manual_changes": [],
        "flows": list(_NO_FLOWS) if planes is None else _flow_images(planes),
        "diameter": settings.diameter,
        "est_diam": settings.diameter,
        "flow_threshold": settings.flow_threshold,
        "cellprob_threshold": settings.cellprob_threshold,
        "niter": settings.niter,
        "normalize_params": _normalize_params(settings),
        "restore": None,
        "ratio": 1.0,
    }


def outlines_of(labels: np.ndarray) -> np.ndarray:
    """Keep of labels (Y, X) the pixels at the border of their cell; others become 0.

    A border pixel has a 4-neighbour of another number; beyond the frame there is none. These are
    the pixels of `cellpose.utils.masks_to_outlines` for cells without holes, which ours are.
    """
    padded = np.pad(labels, 1)
    inside = np.ones(labels.shape, bool)
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        inside &= np.roll(padded, step, axis)[1:-1, 1:-1] == labels
    return np.where(inside, 0, labels).astype(labels.dtype)


def _flow_images(planes: FlowPlanes) -> list[Any]:
    """Return what the GUI shows and reads: colours, cellprob, Z flow, nothing, the numbers."""
    colours = _flow_colours(planes.flows)
    cellprob = (255 * np.clip(_spread(planes.cellprob), 0, 1)).astype(np.uint8)
    numbers = np.concatenate([planes.flows, planes.cellprob[np.newaxis]]).astype(np.float32)
    return [colours[np.newaxis], cellprob[np.newaxis], np.zeros_like(colours[np.newaxis]), [],
            numbers]  # fmt: skip


def _flow_colours(flows: np.ndarray) -> np.ndarray:
    """Colour flows (2, Y, X) by direction, as bright as they are long: (Y, X, 3) uint8.

    Source: `cellpose.plot.dx_to_circ` (3.1.1.3): three cosines, a third of a turn apart.
    """
    length = np.clip(_spread(np.hypot(flows[0], flows[1])), 0, 1)
    angle = np.arctan2(flows[1], flows[0]) + np.pi
    turned = angle[..., np.newaxis] + np.array([0.0, 2.0, 4.0]) * (np.pi / 3)
    bright = 127.5 * length[..., np.newaxis] * (np.cos(turned) + 1)
    return np.clip(bright, 0, 255).astype(np.uint8)


def _spread(plane: np.ndarray) -> np.ndarray:
    """Map the 1st percentile to 0 and the 99th to 1; a constant plane becomes 0."""
    low, high = np.percentile(plane, (1, 99))
    return (plane - low) / (high - low) if high - low > _CONSTANT else np.zeros_like(plane)


def _normalize_params(settings: Settings) -> dict[str, Any]:
    """Return the keys of `cellpose.models.normalize_default`; the GUI asks for every one."""
    return {
        "lowhigh": _limits(settings.normalize),
        "percentile": list(settings.percentiles),
        "normalize": settings.normalize != "none",
        "norm3D": True,
        "sharpen_radius": 0,
        "smooth_radius": 0,
        "tile_norm_blocksize": 0,
        "tile_norm_smooth3D": 1,
        "invert": settings.invert,
    }


def _limits(normalize: str | tuple[float, ...]) -> list[Any] | None:
    """Return intensities as Cellpose takes them: one pair for all channels, or one for each."""
    if isinstance(normalize, str):
        return None
    pairs = [list(normalize[i : i + 2]) for i in range(0, len(normalize), 2)]
    return pairs[0] if len(pairs) == 1 else pairs
