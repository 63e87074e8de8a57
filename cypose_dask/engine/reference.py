"""The reference engine: Cellpose's own functions, in the order of `CellposeModel.eval`.

`eval` itself is not called: it edits a module-level dictionary, draws a picture of the flows for
every frame and does not return the flow errors. Tests hold its labels against ours bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cypose_dask.engine.attempt import attempt
from cypose_dask.engine.device import on_device
from cypose_dask.engine.network import Network, Output
from cypose_dask.engine.stats import Timer
from cypose_dask.models import ModelSpec
from cypose_dask.settings import Settings

__all__ = ["CellposeForward", "follow_and_label", "label", "load", "predict"]

# Cellpose's own tiling; together with a batch of 8 tiles these are `CellposeModel.eval`'s defaults.
TILE_PX, TILE_OVERLAP, TILES_PER_BATCH = 224, 0.1, 8
# `CellposeModel.eval`'s default: a cell that covers more of the frame is removed.
MAX_SIZE_FRACTION = 0.4


@dataclass(frozen=True, slots=True)
class CellposeForward:
    """Cellpose's torch network, run as Cellpose runs it: frame by frame, 8 tiles at a time.

    Source: cellpose 3.1.1.3 `models.CellposeModel._run_net`.
    """

    net: Any

    def __call__(
        self,
        images: Sequence[np.ndarray],
        rescale: float,
        *,
        skip_empty: bool = False,
        timer: Timer | None = None,
    ) -> list[Output]:
        """Predict frames, see `Forward`; `skip_empty` is refused by the settings."""
        timer = timer or Timer()
        with timer("forward"):
            return [self._run(image, rescale) for image in images]

    def _run(self, image: np.ndarray, rescale: float) -> Output:
        from cellpose import core

        with on_device:
            output, styles = core.run_net(
                self.net,
                image[np.newaxis],
                batch_size=TILES_PER_BATCH,
                bsize=TILE_PX,
                augment=False,
                tile_overlap=TILE_OVERLAP,
                rsz=rescale if rescale != 1.0 else None,
            )
        return output[0], styles[0]

    def frames_at_once(self, shape: tuple[int, ...], rescale: float) -> int:
        """Return 1."""
        return 1


def load(spec: ModelSpec, device: str) -> CellposeForward:
    """Load a segmentation model as `CellposeModel` does."""
    import torch
    from cellpose import models

    # Cellpose's dynamics make sparse tensors; without a choice torch warns once a process.
    torch.sparse.check_sparse_tensor_invariants.disable()
    model = models.CellposeModel(
        pretrained_model=spec.path,
        nchan=spec.network_inputs,
        device=torch.device(device),
        backbone=spec.backbone,
    )
    return CellposeForward(model.net)


def predict(
    network: Network, images: Sequence[np.ndarray], settings: Settings, timer: Timer
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Predict flows and logits of frames, at the frames' own size.

    Parameters
    ----------
    network : Network
    images : sequence of (Y, X, C) ndarray of float32
        From `network_input`.
    settings : Settings
        Its diameter counts.
    timer : Timer
        Counts the seconds of "forward".

    Returns
    -------
    list of (flows, cellprob)
        (2, Y, X) float32: (dy, dx), dimensionless, 5 x the unit flow; (Y, X) float32: logit.
    """
    from cellpose import transforms

    rescale = network.spec.diam_mean / settings.diameter_px
    predicted = []
    for image in images:
        output, _ = network.forward([image], rescale, timer=timer)[0]
        if rescale != 1.0:
            output = transforms.resize_image(output[np.newaxis], *image.shape[:2])[0]
        predicted.append((output[..., :2].transpose(2, 0, 1), output[..., 2]))
    return predicted


def label(
    predicted: Sequence[tuple[np.ndarray, np.ndarray]], settings: Settings, network: Network
) -> list[tuple[np.ndarray, np.ndarray] | Exception]:
    """Return `follow_and_label` of every frame, or what went wrong."""
    device = settings.dynamics_device
    return [attempt(follow_and_label, *one, settings, device) for one in predicted]


def follow_and_label(
    flows: np.ndarray, cellprob: np.ndarray, settings: Settings, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Follow the flows, gather the pixels that meet, and drop cells that disagree with them.

    Parameters
    ----------
    flows : (2, Y, X) ndarray of float32
    cellprob : (Y, X) ndarray of float32
    settings : Settings
        Resolved: `niter` is a number.
    device : str
        CPU and CUDA follow flows by different interpolation and do not give equal labels.

    Returns
    -------
    labels : (Y, X) ndarray of uint32
    flow_errors : (n,) ndarray of float
        Of all cells before the check, dimensionless. Empty when the check is off.

    Notes
    -----
    Source: cellpose 3.1.1.3 `dynamics.compute_masks` and `dynamics.remove_bad_flow_masks`, unrolled
    to keep the flow errors.
    """
    import torch
    from cellpose import dynamics, utils

    where = torch.device(device)
    cells = cellprob > settings.cellprob_threshold
    if not cells.any():
        return np.zeros(cellprob.shape, np.uint32), np.zeros(0)
    inds = np.nonzero(cells)
    ends = dynamics.follow_flows(
        flows * cells / 5.0, inds=inds, niter=settings.niter, interp=True, device=where
    )
    ends = torch.as_tensor(ends, device=where).to(torch.int)
    if device == "mps":
        ends = ends.cpu()
    labels = dynamics.get_masks_torch(
        ends, inds, flows.shape[1:], max_size_fraction=MAX_SIZE_FRACTION
    )
    errors = _drop_bad_flows(labels, flows, (settings.flow_threshold, where))
    if labels.max() < 2**16:
        labels = labels.astype(np.uint16)
    labels = utils.fill_holes_and_remove_small_masks(labels, min_size=settings.min_size_px)
    return labels.astype(np.uint32), errors


def _drop_bad_flows(
    labels: np.ndarray, flows: np.ndarray, check: tuple[float, object]
) -> np.ndarray:
    from cellpose import metrics

    threshold, device = check
    if labels.max() == 0 or threshold <= 0:
        return np.zeros(0)
    errors, _ = metrics.flow_error(labels, flows, device)
    bad = 1 + (errors > threshold).nonzero()[0]
    labels[np.isin(labels, bad)] = 0
    return errors
