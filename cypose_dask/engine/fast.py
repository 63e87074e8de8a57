"""The fast engine: Cellpose's labels from pooled tiles, a network runtime and our own kernels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from cypose_dask.engine.attempt import attempt
from cypose_dask.engine.device import on_device
from cypose_dask.engine.dynamics import labels_from_flows
from cypose_dask.engine.empty import occupied
from cypose_dask.engine.network import Network, Output
from cypose_dask.engine.runtimes import Runtime, choose_runtime, open_runtime
from cypose_dask.engine.stats import Timer
from cypose_dask.engine.tiles import Mosaic, Tiling, resize, resized_shape, tiling_of
from cypose_dask.models import ModelSpec
from cypose_dask.settings import Settings

__all__ = ["TiledForward", "label", "load_cpu", "load_gpu", "predict"]

# Tiles that wait for a GPU at once: several of its batches, and 100 MB of them.
_POOLED_TILES = 256
# On a processor: what is between two rounds costs little, and 1 MB a tile.
_ROUNDS_OF_TILES = 8
# What a tile that is left out says: no flow, and surely no cell (a logit).
_NOTHING = (0.0, 0.0, -20.0)
# Cells are at least this wide for the network, px.
_NETWORK_CELL_PX = 18.0

Precision = Literal["single", "half"]
Flows = tuple[np.ndarray, np.ndarray]
Found = tuple[np.ndarray, np.ndarray] | Exception


@dataclass(frozen=True, slots=True)
class TiledForward:
    """A runtime over whole frames; tiles of all frames share its batches. See `Forward`.

    However many tiles a frame has, `tiles_at_once` of them are in memory.
    """

    runtime: Runtime
    tiles_at_once: int
    one_at_a_time: bool
    pools_frames: bool = False

    def __call__(
        self,
        images: Sequence[np.ndarray],
        rescale: float,
        *,
        skip_empty: bool = False,
        timer: Timer | None = None,
    ) -> list[Output]:
        """Predict frames of one shape."""
        timer = timer or Timer()
        with timer("tile"):
            shape = resized_shape(images[0].shape, rescale)
            tiling = tiling_of(shape)
            padded = [tiling.pad(_fitted(image, shape)) for image in images]
            wanted = [
                (frame, int(tile))
                for frame, image in enumerate(images)
                for tile in np.flatnonzero(_kept(image, tiling, rescale, skip_empty))
            ]
        made = [_FrameOutput(tiling) for _ in images]
        for start in range(0, len(wanted), self.tiles_at_once):
            some = wanted[start : start + self.tiles_at_once]
            with timer("tile"):
                tiles = np.stack([tiling.cut(padded[frame], tile) for frame, tile in some])
            with timer("forward"), self._turn():
                outputs, styles = self.runtime(tiles)
            with timer("average"):
                for (frame, tile), output, style in zip(some, outputs, styles, strict=True):
                    made[frame].add(tile, output, style)
        with timer("average"):
            return [one.finish() for one in made]

    def _turn(self) -> AbstractContextManager[object]:
        return on_device if self.one_at_a_time else nullcontext()

    def frames_at_once(self, shape: tuple[int, ...], rescale: float) -> int:
        """Return how many frames (Y, X) of a block fill the device."""
        if not self.pools_frames:
            return 1
        return max(1, self.tiles_at_once // len(tiling_of(resized_shape(shape, rescale))))


def _fitted(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return image if image.shape[:2] == shape else resize(image, shape)


def _kept(image: np.ndarray, tiling: Tiling, rescale: float, skip_empty: bool) -> np.ndarray:
    """Return which tiles of a frame the network sees, (N,) bool."""
    if not skip_empty:
        return np.ones(len(tiling), bool)
    windows = np.array(tiling.windows()) / rescale
    return occupied(image, windows, _NETWORK_CELL_PX / rescale)


class _FrameOutput:
    """What the network has said about a frame so far."""

    def __init__(self, tiling: Tiling) -> None:
        self._mosaic = Mosaic(tiling, len(_NOTHING))
        self._styles: list[np.ndarray] = []

    def add(self, tile: int, output: np.ndarray, style: np.ndarray) -> None:
        self._mosaic.add(tile, output)
        self._styles.append(style.copy())

    def finish(self) -> Output:
        total = np.sum(self._styles, axis=0)
        return self._mosaic.finish(_NOTHING), total / max(float((total**2).sum() ** 0.5), 1e-12)


def load_cpu(spec: ModelSpec, runtime: str, *, threads: int, callers: int) -> TiledForward:
    """Open a model for this machine's processor."""
    name = choose_runtime(spec, runtime)
    opened = open_runtime(spec, name, threads=threads, callers=callers)
    # Torch's threads belong to the process, so that two callers would share them.
    at_once = _ROUNDS_OF_TILES * threads
    return TiledForward(opened, at_once, one_at_a_time=name == "torch")


def load_gpu(spec: ModelSpec, device: str, precision: str) -> TiledForward:
    """Open Cellpose's own network on a GPU."""
    # Here, because both import torch.
    from cypose_dask.engine import reference
    from cypose_dask.engine.gpu import TorchRuntime

    net = reference.load(spec, device).net
    runtime = TorchRuntime(net, device, cast("Precision", precision))
    return TiledForward(runtime, _POOLED_TILES, one_at_a_time=True, pools_frames=True)


def predict(
    network: Network, images: Sequence[np.ndarray], settings: Settings, timer: Timer
) -> list[Flows]:
    """Predict flows and logits of frames of one shape, at the frames' own size.

    Parameters and result as `reference.predict`; the seconds of "tile", "forward" and "average"
    are counted.
    """
    rescale = network.spec.diam_mean / settings.diameter_px
    outputs = network.forward(images, rescale, skip_empty=settings.skip_empty, timer=timer)
    with timer("average"):
        height, width = images[0].shape[:2]
        fitted = [_fitted(output, (height, width)) for output, _ in outputs]
        return [(output[..., :2].transpose(2, 0, 1), output[..., 2]) for output in fitted]


def label(predicted: Sequence[Flows], settings: Settings, network: Network) -> list[Found]:
    """Turn flows and logits of frames into labels and flow errors, or what went wrong."""
    if settings.dynamics_device == "cuda":
        return _label_on_gpu(predicted, settings)
    if settings.dynamics_device == "mps":  # lacks the double precision of our check
        from cypose_dask.engine import reference

        return reference.label(predicted, settings, network)
    threads = network.threads
    return [attempt(labels_from_flows, *one, settings, threads=threads) for one in predicted]


def _label_on_gpu(predicted: Sequence[Flows], settings: Settings) -> list[Found]:
    from cypose_dask.engine.gpu import follow_batch, label_frame

    flows, cellprob = (np.stack(arrays) for arrays in zip(*predicted, strict=True))
    with on_device:
        followed = follow_batch(flows, cellprob, settings, device=settings.dynamics_device)
    return [attempt(label_frame, one, settings) for one in followed]
