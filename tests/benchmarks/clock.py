"""Alternating runs and their medians: the machine is shared, so only ratios within a run count."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Contender:
    """Something to time: `run` returns labels, one array a frame."""

    name: str
    run: Callable[[], list[np.ndarray]]
    frames: int
    seconds: list[float] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)

    @property
    def frames_per_s(self) -> float:
        """Median over the rounds."""
        return self.frames / float(np.median(self.seconds))

    def time_once(self, *, keep: bool = True) -> None:
        """Run once; the time of a warm-up is not kept."""
        begun = time.perf_counter()
        self.labels = self.run()
        if keep:
            self.seconds.append(time.perf_counter() - begun)


def alternate(contenders: list[Contender], rounds: int, *, warm_up: bool = True) -> None:
    """Run A B C A B C ..., after one round that does not count."""
    for turn in range(rounds + warm_up):
        for contender in contenders:
            contender.time_once(keep=turn >= warm_up)


def equal_shares(mine: list[np.ndarray], theirs: list[np.ndarray]) -> tuple[float, float]:
    """Return the shares of cells with the same pixels, and of pixels of the same cell, in percent.

    Cells are matched by overlap; numbers need not agree.
    """
    cells = same_cells = pixels = same_pixels = 0
    for a, b in zip(mine, theirs, strict=True):
        n, same, agreeing = _compare(np.asarray(a), np.asarray(b))
        cells, same_cells = cells + n, same_cells + same
        pixels, same_pixels = pixels + a.size, same_pixels + agreeing
    return 100 * same_cells / max(cells, 1), 100 * same_pixels / pixels


def _compare(a: np.ndarray, b: np.ndarray) -> tuple[int, int, int]:
    width = int(b.max()) + 1
    pairs, counts = np.unique(a.astype(np.int64) * width + b, return_counts=True)
    left, right = pairs // width, pairs % width
    area_a, area_b = np.bincount(a.ravel()), np.bincount(b.ravel())
    matched = (left > 0) & (right > 0)
    equal = matched & (counts == area_a[left]) & (counts == area_b[right])
    best: dict[int, int] = {}
    for one, count in zip(left[matched], counts[matched], strict=True):
        best[int(one)] = max(best.get(int(one), 0), int(count))
    background = int(counts[(left == 0) & (right == 0)].sum())
    return len(area_a[1:].nonzero()[0]), int(equal.sum()), background + sum(best.values())


def rows(contenders: list[Contender], judge: str) -> Iterator[dict[str, Any]]:
    """Yield a row a contender: frames per second, its ratio, and how equal the labels are."""
    base = next(c for c in contenders if c.name == judge)
    ours = contenders[0]
    for contender in contenders:
        n = min(len(contender.labels), len(base.labels))
        cells, pixels = equal_shares(base.labels[:n], contender.labels[:n])
        yield {
            "name": contender.name,
            "frames_per_s": contender.frames_per_s,
            "ours_is_faster_by": ours.frames_per_s / contender.frames_per_s,
            "equal cells, %": cells,
            "equal pixels, %": pixels,
        }
