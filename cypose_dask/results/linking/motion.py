"""How cells moved between two frames: together, and with their neighbours."""

from __future__ import annotations

import numpy as np

from cypose_dask.results.linking.counting import areas_of, overlaps_of

__all__ = ["drift_between", "motion_between"]

# Drift is looked for in masks of at most this many pixels a side, to a pixel of the frame.
_LONGEST_PX = 512
# Where this share of the smaller foreground lies on the other one already, no drift is looked for.
_STEADY = 0.9
# A drift must be worth it: so much more of the foreground must lie on the other one.
_GAIN = 1.1
# Of so many neighbours the median motion is taken; a cell alone says too little.
_NEIGHBOURS, _FEWEST = 15, 4
# Intersection over union from which two cells are taken for the same to begin with.
_SURE = 0.4
_ROUNDS = 3


def motion_between(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return how far each cell moved, as far as its neighbours did so too, y and x, px.

    A colony that grows pushes its outer cells farther than their width. So cells that overlap
    well tell how their neighbourhood moves, and that is repeated with what they told.

    Parameters
    ----------
    before, after : (Y, X) ndarray of int
        Labels 1..N without gaps, 0 = background.

    Returns
    -------
    (N, 2) or (1, 2) ndarray of int64
        Of each cell of the first frame; of all together where too few overlap.
    """
    drift = drift_between(before > 0, after > 0)
    # A pattern may fit itself where it should not, so that none is tried as well.
    tried = [_followed(before, after, start) for start in dict.fromkeys([(0, 0), drift])]
    return max(tried, key=lambda one: one[1])[0]


def _followed(
    before: np.ndarray, after: np.ndarray, drift: tuple[int, int]
) -> tuple[np.ndarray, float]:
    """Refine a motion of all cells to one of neighbourhoods; return it, and how well it fits."""
    motion = np.array([drift])
    pairs, fit = _best_pairs(before, after, motion)
    for _ in range(_ROUNDS):
        if len(pairs) < _FEWEST:
            break
        motion = _as_neighbours(_centres(before), _centres(after), pairs)
        pairs, fit = _best_pairs(before, after, motion)
    return motion, fit


def _best_pairs(
    before: np.ndarray, after: np.ndarray, motion: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return cells that are surely each other's best partner, (K, 2) labels, and their fit.

    The fit is the sum of the intersections over union of all best partners.
    """
    found = overlaps_of(before, after, motion)
    union = areas_of(before)[found.before - 1] + areas_of(after)[found.after - 1] - found.pixels
    score = found.pixels / union
    best_before, best_after = np.zeros(before.max() + 1), np.zeros(after.max() + 1)
    np.maximum.at(best_before, found.before, score)
    np.maximum.at(best_after, found.after, score)
    best = (score == best_before[found.before]) & (score == best_after[found.after])
    sure = best & (score >= _SURE)
    return np.stack([found.before[sure], found.after[sure]], axis=1), float(score[best].sum())


def _centres(labels: np.ndarray) -> np.ndarray:
    """Return the centre of each cell of labels 1..N, (N, 2), px."""
    at = np.argwhere(labels)
    cell = labels[tuple(at.T)] - 1
    sums = [np.bincount(cell, weights=part, minlength=labels.max()) for part in at.T]
    return np.stack(sums, axis=1) / areas_of(labels)[:, np.newaxis]


def _as_neighbours(before: np.ndarray, after: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the median motion of the nearest pairs around each cell, (N, 2) ndarray of int64."""
    from scipy.spatial import cKDTree

    known = before[pairs[:, 0] - 1]
    motion = after[pairs[:, 1] - 1] - known
    nearest = cKDTree(known).query(before, k=min(_NEIGHBOURS, len(pairs)))[1]
    return np.rint(np.median(motion[nearest], axis=1)).astype(np.int64)


def drift_between(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """Return how far all cells moved together, y and x, px: a stage that jumped, or crept.

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
    moved = overlaps_of(before.astype(np.int64), after.astype(np.int64), np.array([[y, x]]))
    return (y, x) if moved.pixels.sum() > _GAIN * at_rest else (0, 0)


def _coarse(mask: np.ndarray, factor: int) -> np.ndarray:
    from skimage.transform import downscale_local_mean

    return np.asarray(downscale_local_mean(mask.astype(np.float32), factor))
