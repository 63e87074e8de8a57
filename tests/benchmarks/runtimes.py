"""Tiles through every runtime of the network: how long one takes, and how it is rounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from benchmarks.clock import Contender, alternate
from benchmarks.parts import Bench
from cypose_dask.engine.runtimes import open_runtime
from cypose_dask.models import ModelSpec

__all__ = ["runtimes"]

_NAMES = ("winograd", "openvino", "torch")
_SIDE = 224
# One after the other, as of a frame: weights are in the cache but for the first.
_TILES = 8


def runtimes(bench: Bench) -> Iterator[str]:
    """Compare all runtimes, and Cellpose's own forward, on one thread with float64."""
    spec, tile = bench.spec, _tile(bench.frames[0], bench.spec.network_inputs)
    contenders = [
        Contender(name, partial(_outputs, open_runtime(spec, name, threads=1), tile), _TILES)
        for name in _NAMES
    ]
    contenders.append(Contender("Cellpose", partial(_outputs, _cellpose(spec), tile), _TILES))
    alternate(contenders, bench.rounds)
    exact = _exact(spec, tile)
    yield f"| one tile, one thread; largest output {np.abs(exact).max():.1f} | ms | largest | rms |"
    yield "|---|---|---|---|"
    for one in contenders:
        wrong = one.labels[0] - exact
        yield (
            f"| {one.name} | {1000 / one.frames_per_s:.0f} | "
            f"{np.abs(wrong).max():.1e} | {np.sqrt(np.square(wrong).mean()):.1e} |"
        )


def _tile(frame: np.ndarray, inputs: int) -> np.ndarray:
    middle = [slice(side // 2 - _SIDE // 2, side // 2 + _SIDE // 2) for side in frame.shape]
    low, high = np.percentile(frame, (1, 99))
    tile = np.zeros((1, inputs, _SIDE, _SIDE), np.float32)
    tile[0, 0] = (frame[tuple(middle)] - low) / (high - low)
    return tile


def _outputs(
    run: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], tile: np.ndarray
) -> list[np.ndarray]:
    return [run(tile)[0] for _ in range(_TILES)]


def _cellpose(spec: ModelSpec) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    from cellpose import core
    from cellpose.models import CellposeModel

    return partial(core._forward, CellposeModel(pretrained_model=spec.path).net)


def _exact(spec: ModelSpec, tile: np.ndarray) -> np.ndarray:
    import torch

    from cypose_dask.engine.runtimes.on_torch import load_module

    with torch.inference_mode():
        return load_module(spec).double()(torch.from_numpy(tile).double())[0].numpy()
