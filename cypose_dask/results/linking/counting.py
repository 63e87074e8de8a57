"""How many pixels the cells of two frames share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["Overlaps", "areas_of", "overlaps_of"]


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


def overlaps_of(before: np.ndarray, after: np.ndarray, motion: np.ndarray) -> Overlaps:
    """Count the pixels that cells of two frames share.

    Parameters
    ----------
    before, after : (Y, X) ndarray of int
        Labels 1..N without gaps, 0 = background.
    motion : (N, 2) or (1, 2) ndarray of int
        How far each cell of the first frame moved in between, or all of them, y and x, px.
    """
    from skimage.metrics import contingency_table

    cell, moved = _moved(before, motion)
    onto = after[tuple(moved.T)]
    if not onto.any():
        return Overlaps.none()
    table = contingency_table(cell[onto > 0], onto[onto > 0], sparse_type="array").tocoo()
    kept = np.lexsort((table.col, table.row))
    columns = (table.row[kept], table.col[kept], np.rint(table.data[kept]))
    return Overlaps(*(values.astype(np.int64) for values in columns))


def _moved(labels: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of cells that are inside when moved: labels (M,), and where (M, 2)."""
    at = np.argwhere(labels)
    cell = labels[tuple(at.T)]
    at = at + (motion if len(motion) == 1 else motion[cell - 1])
    inside = ((at >= 0) & (at < labels.shape)).all(axis=1)
    return cell[inside], at[inside]


def areas_of(labels: np.ndarray) -> np.ndarray:
    """Return the pixels of each cell of labels 1..N, (N,) ndarray of int64, px."""
    return np.bincount(labels.ravel())[1:].astype(np.int64)
