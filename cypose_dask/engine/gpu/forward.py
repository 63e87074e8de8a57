"""Cellpose's torch network over pooled tiles, in full batches.

Batches are as large as the device's free memory allows, and are halved when it runs out after all.
On CUDA the network and its tiles are channels-last, tiles wait in pinned memory, and copies overlap
the computation. TF32 is left as torch sets it.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from cypose_dask.engine.gpu.memory import free_bytes, is_out_of_memory, release
from cypose_dask.engine.gpu.transfer import CudaLanes, Forward, Results, run_plain
from cypose_dask.errors import DeviceMemoryError

__all__ = ["TorchRuntime"]

logger = logging.getLogger(__name__)

# More tiles no longer help a card that is busy, and only take memory from its other users.
_MOST_TILES = 64
# Where free memory cannot be asked for: Cellpose's own batch.
_TILES_ELSEWHERE = 8
# cuDNN's workspace and fragmentation take the rest.
_SHARE_OF_FREE = 0.8
_STYLES = 256


class TorchRuntime:
    """Runs a network on tiles.

    Parameters
    ----------
    net : torch.nn.Module
        Cellpose's ``CPnet`` or ``Transformer``, in evaluation mode from here on. It is moved to
        the device.
    device : str
        ``"cuda"``, ``"mps"`` or ``"cpu"``.
    precision : "single" or "half"
        ``"half"`` computes convolutions in float16 (autocast); outputs are float32 all the same.
    batch_size : int or None
        Tiles of one batch to begin with. None measures on CUDA, and is 8 elsewhere.
    """

    name = "torch"

    def __init__(
        self,
        net: Any,
        device: str,
        precision: Literal["single", "half"] = "single",
        *,
        batch_size: int | None = None,
    ) -> None:
        self._device = torch.device(device)
        self._half = precision == "half"
        self._batch = batch_size
        self._on_cuda = self._device.type == "cuda"
        self._lanes = CudaLanes(self._device) if self._on_cuda else None
        self._lock = threading.Lock()
        net.mkldnn = False
        self._net = net.eval().to(self._device)
        if self._on_cuda:
            self._net = self._net.to(memory_format=torch.channels_last)
        if self._half and hasattr(net, "make_style"):
            # The style is divided by its norm, whose squares do not fit into float16. Autocast
            # guards against that on CUDA, but not everywhere.
            net.make_style.register_forward_pre_hook(_in_single)

    @property
    def batch_size(self) -> int | None:
        """Tiles of one batch, after the halvings so far; None before the first call on CUDA."""
        return self._batch

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict tiles of any number of frames. May be called from several threads.

        Parameters
        ----------
        tiles : (N, C, H, W) ndarray of float32
            Normalised, dimensionless; H and W are multiples of 16.

        Returns
        -------
        output : (N, 3, H, W) ndarray of float32
            Flow in y, flow in x (dimensionless, 5 x the unit flow), logit.
        styles : (N, 256) ndarray of float32

        Raises
        ------
        DeviceMemoryError
            If not even one tile fits into the device's memory.
        """
        tiles = np.ascontiguousarray(tiles, np.float32)
        with self._lock:
            results = self._predict(tiles, half=self._half)
            if self._half:
                self._repair(tiles, results)
        return results.output, results.styles

    def _predict(self, tiles: np.ndarray, *, half: bool) -> Results:
        results = Results(
            np.empty((len(tiles), self._net.nout, *tiles.shape[2:]), np.float32),
            np.empty((len(tiles), _STYLES), np.float32),
        )
        while len(tiles) and not self._fits(tiles, results, half):
            pass
        return results

    def _repair(self, tiles: np.ndarray, results: Results) -> None:
        """Compute tiles whose activations were too large for float16 again, in single."""
        bad = ~np.isfinite(results.output).all((1, 2, 3)) | ~np.isfinite(results.styles).all(1)
        if bad.any():
            logger.warning("%d tiles are too bright for half precision; single is used.", bad.sum())
            again = self._predict(tiles[bad], half=False)
            results.output[bad], results.styles[bad] = again.output, again.styles

    def _fits(self, tiles: np.ndarray, results: Results, half: bool) -> bool:
        """Run all tiles and return True, or halve the batch and return False."""
        try:
            self._run(tiles, results, half)
            return True
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
        # After the except clause: until then its traceback keeps the batch's memory in use.
        self._halve(tiles.shape, reason)
        return False

    def _run(self, tiles: np.ndarray, results: Results, half: bool) -> None:
        forward = partial(self._forward, half=half)
        if self._batch is None:
            self._batch = self._tiles_that_fit(forward, tiles)
            logger.info("Batches of %d tiles on %s.", self._batch, self._device)
        batch = min(self._batch, len(tiles))
        if self._lanes:
            self._lanes.run(forward, tiles, results, batch)
        else:
            run_plain(forward, tiles, results, batch)

    def _halve(self, shape: tuple[int, ...], reason: str) -> None:
        release(self._device)
        batch = min(self._batch or 1, shape[0])
        if batch == 1:
            raise DeviceMemoryError(
                f"{self._device} ran out of memory with a single tile of {shape[2]} x {shape[3]} "
                f"px: {reason}. Close what else uses the device, run fewer workers on it, or leave "
                "out --gpu."
            )
        self._batch = batch // 2
        logger.warning(
            "%s ran out of memory with %d tiles; going on with %d.",
            self._device, batch, self._batch,
        )  # fmt: skip

    def _forward(self, tiles: torch.Tensor, *, half: bool) -> tuple[torch.Tensor, torch.Tensor]:
        layout = torch.channels_last if self._on_cuda else torch.contiguous_format
        tiles = tiles.to(self._device).contiguous(memory_format=layout)
        kind = self._device.type
        with torch.inference_mode(), torch.autocast(kind, torch.float16, enabled=half):
            output, styles = self._net(tiles)[:2]
            # Contiguous, for a copy into pinned memory waits when the layouts differ.
            return output.float().contiguous(), styles.float().contiguous()

    def _tiles_that_fit(self, forward: Forward, tiles: np.ndarray) -> int:
        if not self._on_cuda:
            return _TILES_ELSEWHERE
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        forward(torch.from_numpy(tiles[:1]))
        one_tile = torch.cuda.max_memory_allocated(self._device) - before
        fit = int(_SHARE_OF_FREE * free_bytes(self._device)) // max(one_tile, 1)
        return min(max(fit, 1), _MOST_TILES)


def _in_single(module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.float() for tensor in inputs)
