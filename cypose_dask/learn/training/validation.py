"""A network in training, scored on frames that it does not learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cypose_dask.engine import Networks, segment_frame, settle_numbers
from cypose_dask.engine.network import Network
from cypose_dask.engine.reference import CellposeForward
from cypose_dask.learn.scoring.evaluation import average_precision, median_diameter
from cypose_dask.learn.training.targets import SMALLEST_DIAMETER
from cypose_dask.models import ModelSpec
from cypose_dask.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cypose_dask.learn.training.examples import Examples


def mean_precision(net: Any, examples: Examples) -> tuple[float, ...]:
    """Segment frames, each at its truth's median diameter, and return the mean AP.

    Parameters
    ----------
    net : torch.nn.Module
        Cellpose's network.
    examples : Examples
        Frames and truth; a frame without a true cell scores 1 without predictions, else 0.

    Returns
    -------
    tuple of float
        At IoU 0.5, 0.75 and 0.9, dimensionless.
    """
    network = Network(CellposeForward(net), _spec(net), net.device.type)
    predicted = [
        segment_like(labels, frame, network)
        for frame, labels in zip(examples.frames, examples.labels, strict=True)
    ]
    ap = average_precision(examples.labels, predicted).ap
    return tuple(float(mean) for mean in np.nan_to_num(ap, nan=1.0).mean(axis=0))


def segment_like(labels: NDArray[Any], frame: NDArray[Any], network: Network) -> NDArray[np.uint32]:
    """Segment a frame (C, Y, X) at the median diameter of its true labels (Y, X)."""
    spec = network.spec
    diameter = max(median_diameter(labels), SMALLEST_DIAMETER) if labels.any() else spec.diameter
    device = network.device
    settings = Settings(diameter=diameter, gpu=device != "cpu").replace(dynamics_device=device)
    return segment_frame(frame, Networks(network), settle_numbers(settings, spec)).labels


def _spec(net: Any) -> ModelSpec:
    """Describe a network that has no file yet."""
    return ModelSpec(
        name="in training",
        path="",
        sha256="",
        kind="file",
        network_inputs=net.nchan,
        diam_mean=float(net.diam_mean),
        diameter=float(net.diam_labels),
    )
