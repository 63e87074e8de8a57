"""From flows to labels for a batch of frames: Cellpose's CUDA path, without its loops over cells.

What differs from Cellpose's own CUDA path on the same flows, and by how much: labels before the
check are equal, for they come from elementwise operations, integers and sorts of the same input. In
the check, heat spreads by means of nine numbers, which torch may add in another order for another
number of pixels. That moves flow errors by about 1e-15 of themselves, but for a pixel whose slope
cancels to rounding noise, which still becomes a unit vector: such a pixel moved the error of one
small cell in 50 random frames by 1 %. It matters to a cell that lies so close to the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cypose_dask.engine.dynamics.holes import fill_holes_and_remove_small
from cypose_dask.engine.dynamics.labels import MAX_SIZE_FRACTION
from cypose_dask.engine.gpu.check import disagreement, flow_errors
from cypose_dask.engine.gpu.follow import cell_pixels, follow
from cypose_dask.engine.gpu.gather import gather
from cypose_dask.engine.gpu.memory import free_bytes, is_out_of_memory, release
from cypose_dask.errors import DeviceMemoryError
from cypose_dask.settings import Settings

__all__ = ["Followed", "follow_batch", "label_frame", "labels_from_flows_batched"]

# If every pixel belongs to a cell: the check's indexes and heat of nine neighbours, 8 bytes each,
# two or three times over while they are made, and the rest. Added up from the code, not measured.
_BYTES_A_PIXEL = 400
_SHARE_OF_FREE = 0.8


@dataclass(frozen=True, slots=True)
class Followed:
    """What the device found out about one frame.

    Attributes
    ----------
    labels : (Y, X) ndarray of int32
        Before the check, numbered from 1 in raster order.
    squared : (2, m) ndarray of float64 or None
        Squared differences of the m labelled pixels' flows in y and x, dimensionless; None when the
        check is off or there are no cells.
    """

    labels: np.ndarray
    squared: np.ndarray | None = None


def labels_from_flows_batched(
    flows: np.ndarray, cellprob: np.ndarray, settings: Settings, *, device: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Turn predicted flows of several frames into labels.

    Parameters
    ----------
    flows : (N, 2, Y, X) ndarray of float32
        (dy, dx), dimensionless, 5 x the unit flow.
    cellprob : (N, Y, X) ndarray of float32
        Logit.
    settings : Settings
        Resolved: `niter` is a number. `flow_threshold`, `cellprob_threshold` and `min_size_px`
        count as well.
    device : str
        ``"cuda"``, or ``"cpu"`` for the same algorithm on the CPU, which is not Cellpose's there.
        MPS lacks the double precision of the check.

    Returns
    -------
    list of (labels, flow_errors)
        (Y, X) uint32; (n,) float64 of all cells before the check, empty when it is off.

    Raises
    ------
    DeviceMemoryError
        If a single frame does not fit into the device's memory.
    """
    return [
        label_frame(f, settings) for f in follow_batch(flows, cellprob, settings, device=device)
    ]


def follow_batch(
    flows: np.ndarray, cellprob: np.ndarray, settings: Settings, *, device: str
) -> list[Followed]:
    """Do the device's share of `labels_from_flows_batched`, as many frames at once as fit.

    Raises
    ------
    DeviceMemoryError
        If a single frame does not fit into the device's memory.
    """
    where = torch.device(device)
    at_once, start = _frames_that_fit(cellprob.shape, where), 0
    followed: list[Followed] = []
    while start < len(flows):
        part = slice(start, start + at_once)
        found = _follow_or_none(flows[part], cellprob[part], settings, device=where)
        if found is None:
            release(where)
            at_once = min(at_once, len(flows) - start) // 2
            continue
        followed += found
        start += at_once
    return followed


def label_frame(followed: Followed, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Do the host's share for one frame: drop cells with bad flows, fill holes, drop small cells.

    Returns
    -------
    labels : (Y, X) ndarray of uint32
    flow_errors : (n,) ndarray of float64
    """
    labels, errors = followed.labels, np.zeros(0)
    if followed.squared is not None:
        errors = flow_errors(labels, followed.squared)
        labels = labels * np.append(True, ~(errors > settings.flow_threshold))[labels]
    labels = np.ascontiguousarray(labels, np.uint32)
    fill_holes_and_remove_small(labels, settings.min_size_px, fix=settings.fix_small_masks)
    return labels, errors


def _frames_that_fit(shape: tuple[int, ...], device: torch.device) -> int:
    if device.type != "cuda":
        return max(shape[0], 1)
    fit = int(_SHARE_OF_FREE * free_bytes(device)) // (_BYTES_A_PIXEL * shape[1] * shape[2])
    return min(max(fit, 1), max(shape[0], 1))


def _follow_or_none(
    flows: np.ndarray, cellprob: np.ndarray, settings: Settings, *, device: torch.device
) -> list[Followed] | None:
    """Follow the flows, or return None if fewer frames might fit."""
    try:
        return _follow(flows, cellprob, settings, device=device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
    if len(flows) > 1:
        return None
    raise DeviceMemoryError(
        f"{device} ran out of memory while following the flows of one frame of "
        f"{flows.shape[2]} x {flows.shape[3]} px: {reason}. Add --dynamics-device cpu, or run "
        "fewer workers on this device."
    )


@torch.inference_mode()
def _follow(
    flows: np.ndarray, cellprob: np.ndarray, settings: Settings, *, device: torch.device
) -> list[Followed]:
    cells = torch.from_numpy(cellprob).to(device) > settings.cellprob_threshold
    pixels = cell_pixels(cells)
    if not sum(pixels.per_frame):
        return [Followed(np.zeros(cellprob.shape[1:], np.int32)) for _ in flows]
    # By a tensor: CUDA multiplies by the reciprocal of a Python number, and rounds otherwise.
    fifth = torch.from_numpy(flows).to(device) * cells[:, None] / torch.full((), 5.0, device=device)
    ends = follow(fifth, pixels, int(settings.niter or 0))
    n, rows, columns = cellprob.shape
    labels, per_frame = gather(ends, pixels, (n, rows, columns), MAX_SIZE_FRACTION)
    on_host = labels.cpu().numpy()
    if settings.flow_threshold <= 0 or not sum(per_frame):
        return [Followed(frame) for frame in on_host]
    squared = disagreement(labels, fifth, per_frame)
    checked = zip(on_host, squared, per_frame, strict=True)
    return [Followed(frame, part if n else None) for frame, part, n in checked]
