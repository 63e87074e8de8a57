"""How far the outline of a predicted cell lies from that of its true cell, and to which side."""

from __future__ import annotations

import numpy as np

__all__ = ["outline_errors"]


def outline_errors(
    truth: np.ndarray, predicted: np.ndarray, pairs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the distance between the outlines of matched cells.

    Parameters
    ----------
    truth, predicted : ndarray of int, (Y, X)
        Labels.
    pairs : ndarray of int, (K, 2)
        A true and a predicted label that are the same cell.

    Returns
    -------
    error : ndarray of float, (K,)
        Mean distance of a pixel of either outline to the other outline, pixels. Does not change
        when truth and prediction are swapped.
    bias : ndarray of float, (K,)
        The same mean with a sign, pixels: positive where the predicted cell reaches outside of the
        true one (too fat), negative where it stays inside (too thin). Changes its sign when truth
        and prediction are swapped.

    Notes
    -----
    An outline is the pixels of a cell of which one of the four neighbours is not in it; the edge
    of the frame is no outline. A pair of which one outline is empty (a cell that fills the
    frame) is NaN.

    Source: the average symmetric surface distance of Heimann et al. 2009, IEEE Transactions on
    Medical Imaging 28:1251, doi:10.1109/TMI.2009.2013851; the sign is ours.
    """
    from scipy.ndimage import find_objects

    if not len(pairs):
        return np.zeros(0), np.zeros(0)
    boxes = (find_objects(truth), find_objects(predicted))
    measured = np.array([_measure((truth, predicted), pair, boxes) for pair in pairs.tolist()])
    return measured[:, 0], measured[:, 1]


def _measure(
    images: tuple[np.ndarray, np.ndarray], pair: list[int], boxes: tuple[list, list]
) -> tuple[float, float]:
    window = _window([box[label - 1] for box, label in zip(boxes, pair, strict=True)])
    true, predicted = (image[window] == label for image, label in zip(images, pair, strict=True))
    true_outline, predicted_outline = _outline(true), _outline(predicted)
    if not (true_outline.any() and predicted_outline.any()):
        return float("nan"), float("nan")
    from_predicted = _distances(predicted_outline, true_outline)
    from_true = _distances(true_outline, predicted_outline)
    # A true outline inside of the prediction means, too, that the prediction reaches too far.
    signs = np.where(true[predicted_outline], -1, 1), np.where(predicted[true_outline], 1, -1)
    count = len(from_predicted) + len(from_true)
    error = (from_predicted.sum() + from_true.sum()) / count
    bias = ((signs[0] * from_predicted).sum() + (signs[1] * from_true).sum()) / count
    return float(error), float(bias)


def _window(boxes: list[tuple[slice, slice]]) -> tuple[slice, ...]:
    """Return the rectangle around both cells and one pixel more, cut at the frame."""
    axes = zip(*boxes, strict=True)
    return tuple(
        slice(max(min(s.start for s in axis) - 1, 0), max(s.stop for s in axis) + 1)
        for axis in axes
    )


def _outline(cell: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return cell & ~binary_erosion(cell, border_value=1)


def _distances(outline: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Return the distance of each pixel of one outline to the nearest of another, pixels."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~to)[outline])
