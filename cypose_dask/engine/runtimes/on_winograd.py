"""The network in our own kernels, which multiply less. Needs no package but numba."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cypose_dask.engine.runtimes import cpnet
from cypose_dask.engine.runtimes.batches import in_batches
from cypose_dask.engine.runtimes.conversion import folded_weights
from cypose_dask.engine.runtimes.winograd.operations import Operations
from cypose_dask.models.spec import ModelSpec

__all__ = ["WinogradRuntime"]

_OUTPUTS = 3  # flow in y, flow in x, logit


@dataclass(frozen=True, slots=True)
class WinogradRuntime:
    """A network in our own kernels on the processor, a tile on each thread."""

    operations: Operations
    threads: int
    name: str = "winograd"

    @classmethod
    def open(cls, spec: ModelSpec, threads: int) -> WinogradRuntime:
        """Load a model."""
        return cls(Operations(folded_weights(spec)), threads)

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the network, see `Runtime`."""
        return in_batches(self._run, tiles, self.threads)

    def _run(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with ThreadPoolExecutor(self.threads) as pool:
            output, styles = zip(*pool.map(self._run_one, tiles), strict=True)
        return np.stack(output), np.stack(styles)

    def _run_one(self, tile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        output, style = cpnet.forward(self.operations, self.operations.read(tile))
        return self.operations.written(output, _OUTPUTS), style
