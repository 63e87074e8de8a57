"""Batches of tiles to a device and back: plainly, or on CUDA while the network computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

__all__ = ["CudaLanes", "Results", "run_plain"]

# Two batches are on the way: while one is computed, the next is staged and the last drained.
_SLOTS = 2

# Takes (n, C, H, W) on the device; returns (n, K, H, W) and (n, 256), float32, contiguous.
Forward = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class Results:
    """Where outputs go: (N, K, H, W) and styles (N, S), float32."""

    output: np.ndarray
    styles: np.ndarray


def run_plain(forward: Forward, tiles: np.ndarray, results: Results, batch: int) -> None:
    """Run batch after batch on the forward's device, waiting for each."""
    for start in range(0, len(tiles), batch):
        part = slice(start, start + batch)
        output, styles = forward(torch.from_numpy(tiles[part]))
        results.output[part] = output.cpu().numpy()
        results.styles[part] = styles.cpu().numpy()


@dataclass(slots=True)
class _Slot:
    """Pinned host memory of one batch, and the events that say when it is free again."""

    tiles: torch.Tensor
    output: torch.Tensor
    styles: torch.Tensor
    loaded: Any = field(default_factory=lambda: torch.cuda.Event(blocking=True))
    drained: Any = field(default_factory=lambda: torch.cuda.Event(blocking=True))


class CudaLanes:
    """Copies in, computation and copies out on three CUDA streams.

    Batch k + 1 is staged into pinned memory and copied in while batch k is computed; batch k - 1
    is copied out meanwhile. Not thread-safe: the staging memory belongs to one call at a time.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._inward, self._outward = torch.cuda.Stream(device), torch.cuda.Stream(device)
        self._slots: list[_Slot] = []

    def run(self, forward: Forward, tiles: np.ndarray, results: Results, batch: int) -> None:
        """Fill `results`, `batch` tiles at a time."""
        self._make_slots(tiles, results, batch)
        parts = [slice(at, min(at + batch, len(tiles))) for at in range(0, len(tiles), batch)]
        for k, part in enumerate(parts):
            self._launch(forward, tiles[part], self._slots[k % _SLOTS])
            if k:
                _drain(self._slots[(k - 1) % _SLOTS], results, parts[k - 1])
        _drain(self._slots[(len(parts) - 1) % _SLOTS], results, parts[-1])

    def _make_slots(self, tiles: np.ndarray, results: Results, batch: int) -> None:
        shapes = [(batch, *array.shape[1:]) for array in (tiles, results.output, results.styles)]
        if self._slots and self._slots[0].tiles.shape == shapes[0]:
            return
        self._slots = []  # the old ones go before the new ones are made
        self._slots = [_Slot(*(_pinned(shape) for shape in shapes)) for _ in range(_SLOTS)]

    def _launch(self, forward: Forward, tiles: np.ndarray, slot: _Slot) -> None:
        n, computing = len(tiles), torch.cuda.current_stream(self._device)
        slot.loaded.synchronize()  # the batch before last has left the staging memory
        slot.tiles[:n].copy_(torch.from_numpy(tiles))
        with torch.cuda.stream(self._inward):
            inputs = slot.tiles[:n].to(self._device, non_blocking=True)
            slot.loaded.record(self._inward)
        computing.wait_event(slot.loaded)
        inputs.record_stream(computing)
        output, styles = forward(inputs)
        self._outward.wait_stream(computing)
        with torch.cuda.stream(self._outward):
            slot.output[:n].copy_(output, non_blocking=True)
            slot.styles[:n].copy_(styles, non_blocking=True)
            slot.drained.record(self._outward)
        for made in (output, styles):
            made.record_stream(self._outward)


def _pinned(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.empty(shape, pin_memory=True)


def _drain(slot: _Slot, results: Results, part: slice) -> None:
    n = part.stop - part.start
    slot.drained.synchronize()
    results.output[part] = slot.output[:n].numpy()
    results.styles[part] = slot.styles[:n].numpy()
