"""The reference engine: Cellpose's own functions, in the order of `CellposeModel.eval`.

`eval` itself is not called: it edits a module-level dictionary, draws a picture of the flows for
every frame and does not return the flow errors. Tests hold its labels against ours bit for bit.
"""

from __future__ import annotations

import numpy as np

from cypose_dask.engine.network import Network, forward
from cypose_dask.settings import Settings

__all__ = ["follow_and_label", "predict"]

# `CellposeModel.eval`'s default: a cell that covers more of the frame is removed.
MAX_SIZE_FRACTION = 0.4


def predict(
    network: Network, image: np.ndarray, diameter: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predict flows and logits of one frame, at the frame's own size.

    Parameters
    ----------
    image : (Y, X, C) ndarray of float32
        From `network_input`.
    diameter : float
        px.

    Returns
    -------
    flows : (2, Y, X) ndarray of float32
        (dy, dx), dimensionless, 5 x the unit flow.
    cellprob : (Y, X) ndarray of float32
        Logit.
    style : (256,) ndarray of float32
    """
    from cellpose import transforms

    rescale = network.spec.diam_mean / diameter
    output, style = forward(network, image, rescale)
    if rescale != 1.0:
        output = transforms.resize_image(output[np.newaxis], *image.shape[:2])[0]
    return output[..., :2].transpose(2, 0, 1), output[..., 2], style


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
