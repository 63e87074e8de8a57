"""How the cells of two frames overlap, drift taken out: labels in, a few numbers out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["FrameOverlaps", "Overlaps", "drift_between", "frame_overlaps", "overlaps_of"]

# Drift is looked for in masks of at most this many pixels a side, to a pixel of the frame.
_LONGEST_PX = 512
# Where this share of the smaller foreground lies on the other one already, no drift is looked for.
_STEADY = 0.9
# A drift must be worth it: so much more of the foreground must lie on the other one.
_GAIN = 1.1


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Which cells of two frames share pixels.

    Attributes
    ----------
    before, after : (K,) ndarray of int64
        Labels in the earlier and in the later frame, sorted by `before`, then by `after`.
    pixels : (K,) ndarray of int64
        Pixels that they share, px.
    """

    before: np.ndarray
    after: np.ndarray
    pixels: np.ndarray

    @classmethod
    def none(cls) -> Overlaps:
        """Return those of frames that share nothing."""
        return cls(*(np.zeros(0, np.int64) for _ in range(3)))

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """Yield label before, label after and shared pixels."""
        columns = (self.before.tolist(), self.after.tolist(), self.pixels.tolist())
        return zip(*columns, strict=True)


@dataclass(frozen=True, slots=True)
class FrameOverlaps:
    """A frame, and how its cells overlap with those of frames before it.

    Attributes
    ----------
    t : int
        The frame, 0-based as in the movie.
    areas : (N,) ndarray of int64
        Pixels of its cells, that of label 1 first, px.
    before : dict of int to Overlaps
        With each of the frames before that were compared.
    """

    t: int
    areas: np.ndarray
    before: dict[int, Overlaps]


def frame_overlaps(t: int, labels: np.ndarray, before: dict[int, np.ndarray]) -> FrameOverlaps:
    """Compare a frame with some frames before it, whose drift is taken out.

    Parameters
    ----------
    t : int
    labels : (Y, X) ndarray of int
        Labels 1..N without gaps, 0 = background.
    before : dict of int to (Y, X) ndarray of int
        Labels of frames before, by their t.
    """
    compared = {
        earlier: overlaps_of(other, labels, drift_between(other > 0, labels > 0))
        for earlier, other in before.items()
    }
    return FrameOverlaps(t, np.bincount(labels.ravel())[1:].astype(np.int64), compared)


def overlaps_of(before: np.ndarray, after: np.ndarray, drift: tuple[int, int]) -> Overlaps:
    """Count the pixels that cells of two frames share.

    Parameters
    ----------
    before, after : (Y, X) ndarray of int
        Labels, 0 = background.
    drift : (int, int)
        How far everything moved in between, y and x, px.
    """
    from skimage.metrics import contingency_table

    moved, onto = _facing(before, after, drift)
    both = (moved > 0) & (onto > 0)
    if not both.any():
        return Overlaps.none()
    table = contingency_table(moved[both], onto[both], sparse_type="array").tocoo()
    shared = table.data > 0
    rows, columns = table.row[shared], table.col[shared]
    order = np.lexsort((columns, rows))
    kept = (rows[order], columns[order], np.rint(table.data[shared][order]))
    return Overlaps(*(values.astype(np.int64) for values in kept))


def drift_between(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """Return how far cells moved together, y and x, px: a stage that jumped, a sample that crept.

    It is the shift at which the masks fit best, if that is clearly better than none.

    Parameters
    ----------
    before, after : (Y, X) ndarray of bool
        Where cells are.

    Notes
    -----
    Source: cross-correlation, `skimage.registration.phase_cross_correlation` without
    normalization, which for masks counts the pixels that lie on each other.
    """
    from skimage.registration import phase_cross_correlation

    smaller = min(np.count_nonzero(before), np.count_nonzero(after))
    at_rest = np.count_nonzero(before & after)
    if at_rest >= _STEADY * smaller:
        return 0, 0
    factor = -(-max(before.shape) // _LONGEST_PX)
    shift, *_ = phase_cross_correlation(
        _coarse(after, factor),
        _coarse(before, factor),
        upsample_factor=factor,
        normalization=None,
    )
    y, x = (round(float(part) * factor) for part in shift)
    moved, onto = _facing(before, after, (y, x))
    return (y, x) if np.count_nonzero(moved & onto) > _GAIN * at_rest else (0, 0)


def _coarse(mask: np.ndarray, factor: int) -> np.ndarray:
    from skimage.transform import downscale_local_mean

    return np.asarray(downscale_local_mean(mask.astype(np.float32), factor))


def _facing(
    before: np.ndarray, after: np.ndarray, drift: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the parts of two frames that lie on each other once the first was moved."""
    parts = [
        (slice(max(0, -by), max(0, min(n, n - by))), slice(max(0, by), max(0, min(n, n + by))))
        for by, n in zip(drift, before.shape, strict=True)
    ]
    moved, onto = zip(*parts, strict=True)
    return before[moved], after[onto]
