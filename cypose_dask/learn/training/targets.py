"""What a network learns from: normalised frames, the flows of their labels, and random crops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cypose_dask.engine.normalize import network_input
from cypose_dask.errors import SettingsError
from cypose_dask.learn.generator.raster import renumber
from cypose_dask.learn.scoring.evaluation import median_diameter
from cypose_dask.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cypose_dask.learn.training.examples import Examples

SMALLEST_DIAMETER = 5.0  # px; as in Cellpose, so that a crumb does not blow a frame up
CELLPOSE_SCALES = 0.5  # crops are 0.75 to 1.25 times as large as the diameter asks for


@dataclass(frozen=True)
class Prepared:
    """Frames as the network sees them; the three lists are equally long.

    Attributes
    ----------
    images : list of ndarray of float32, each (inputs, Y, X)
        Normalised, dimensionless.
    targets : list of ndarray of float32, each (3, Y, X)
        Inside a cell or not (0 or 1), unit flow in y, unit flow in x.
    diameters : list of float
        Median diameter of the cells of each frame, px.
    """

    images: list[NDArray[np.float32]]
    targets: list[NDArray[np.float32]]
    diameters: list[float]


def prepare(examples: Examples, *, inputs: int, device: Any) -> Prepared:
    """Normalise frames as in segmentation and compute what the network shall answer.

    Parameters
    ----------
    examples : Examples
        Labelled frames. One without a cell teaches where there is nothing; its scale is the
        median of the others.
    inputs : int
        Inputs of the network; those that a frame does not fill stay zero.
    device : torch.device
        Where flows are computed.

    Returns
    -------
    Prepared

    Raises
    ------
    SettingsError
        There is no labelled cell at all.
    ModelError
        A frame has more channels than the network has inputs.
    """
    if not any(labels.any() for labels in examples.labels):
        raise SettingsError(
            f"{len(examples)} frames without a single labelled cell: nothing to train on."
        )
    settings = Settings()
    images = [
        np.ascontiguousarray(network_input(frame, inputs, settings).transpose(2, 0, 1))
        for frame in examples.frames
    ]
    targets = [flow_targets(labels, device=device) for labels in examples.labels]
    return Prepared(images, targets, _diameters(examples))


def flow_targets(labels: NDArray[Any], *, device: Any = None) -> NDArray[np.float32]:
    """Compute inside (0 or 1) and unit flows (dy, dx) of labels (Y, X), shape (3, Y, X).

    Source: `cellpose.dynamics.labels_to_flows` (3.1.1.3).
    """
    import torch
    from cellpose import dynamics

    if not labels.any():
        return np.zeros((3, *labels.shape), np.float32)
    whole = renumber(labels).astype(np.int32)
    flows = dynamics.labels_to_flows([whole], device=device or torch.device("cpu"))[0]
    return np.asarray(flows[1:], np.float32)


def _diameters(examples: Examples) -> list[float]:
    measured = [
        max(median_diameter(labels), SMALLEST_DIAMETER) if labels.any() else np.nan
        for labels in examples.labels
    ]
    usual = float(np.nanmedian(measured))
    return [usual if np.isnan(diameter) else diameter for diameter in measured]


@dataclass(frozen=True)
class Crops:
    """Random crops of prepared frames, turned, mirrored and scaled as in Cellpose.

    Attributes
    ----------
    prepared : Prepared
        Whole frames.
    diameter : float
        Diameter that cells are scaled to, px.
    side : int
        Side of a crop, px.
    """

    prepared: Prepared
    diameter: float
    side: int

    def epoch(
        self, n_crops: int, *, batch_size: int, seed: tuple[int, int]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Yield batches of images (N, inputs, side, side) and targets (N, 3, side, side).

        The same seed gives the same crops. Frames are taken in turn, in random order.
        """
        rng = np.random.default_rng(seed)
        n = len(self.prepared.images)
        rounds = -(-n_crops // n)
        chosen = np.concatenate([rng.permutation(n) for _ in range(rounds)])[:n_crops]
        for first in range(0, n_crops, batch_size):
            # Cellpose draws turns and scales from numpy's global generator.
            np.random.seed(rng.integers(2**32, dtype=np.uint32))
            yield self._batch(chosen[first : first + batch_size])

    def _batch(self, which: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        from cellpose import transforms

        images, targets, _ = transforms.random_rotate_and_resize(
            [self.prepared.images[i] for i in which],
            Y=[self.prepared.targets[i] for i in which],
            rescale=np.array([self.prepared.diameters[i] / self.diameter for i in which]),
            scale_range=CELLPOSE_SCALES,
            xy=(self.side, self.side),
        )
        return images, targets
