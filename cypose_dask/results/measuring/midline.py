"""Length and width of cells along their own middle line, so that bent ones count whole.

**Length** is that of the middle line from edge to edge: the longest path through the skeleton,
smoothed, and continued straight from the centres of the round ends. For a rod with round ends it is
the length of the rod if it were bent straight.

**Width** is that of the rod with round ends which has this length and the cell's area: the mean
width along the line.

The length of a cell that is too round for a middle line is the major axis of the ellipse with the
same second moments. Of a cell in several parts the largest is measured. A filament that touches
itself is one area in the labels, so what can be measured is the shortest way through it.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["length_and_width"]

# The corners that a disc lacks, as a share of the square around it.
_CORNERS = 1 - math.pi / 4
# The share of the usual distance from the edge at which a cell has its full width.
_FULL = 0.8
# Distances from the middle line to the edge are sampled this densely, px.
_STEP_PX = 0.25


def length_and_width(mask: np.ndarray) -> tuple[float, float]:
    """Measure one cell.

    Parameters
    ----------
    mask : (Y, X) ndarray of bool
        At least one pixel.

    Returns
    -------
    length, width : float
        px; width is never the larger one.

    Examples
    --------
    >>> mask = np.zeros((20, 50), bool)
    >>> mask[5:8, 5:45] = True
    >>> length, width = length_and_width(mask)
    >>> round(length), round(width)
    (40, 3)
    """
    from scipy.ndimage import distance_transform_edt

    part = np.pad(_largest_part(mask), 1)
    area = float(np.count_nonzero(part))
    depth = distance_transform_edt(part)
    path = _longest_path(part)
    along = depth[tuple(path.T)]
    radius = float(np.median(along))
    line = _between_caps(path.astype(float), along, radius)
    if len(line) > 2 and _arc(line)[-1] >= radius / 2:
        length = _edge_to_edge(part, line, radius)
    else:
        length = _major_axis(part)
    return length, min(length, _width_of_rod(area, length))


def _largest_part(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import label

    parts, count = label(mask, np.ones((3, 3)))
    return mask if count == 1 else parts == np.bincount(parts.ravel())[1:].argmax() + 1


def _longest_path(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of the longest way through the skeleton, (N, 2), from end to end."""
    from scipy.sparse.csgraph import dijkstra
    from scipy.spatial import cKDTree
    from skimage.morphology import skeletonize

    pixels = np.argwhere(skeletonize(mask, method="lee"))
    if len(pixels) < 2:
        return pixels if len(pixels) else np.argwhere(mask)[:1]
    steps = cKDTree(pixels).sparse_distance_matrix(cKDTree(pixels), 1.5)
    begin = int(np.argmax(_finite(dijkstra(steps, indices=0))))
    far, before = dijkstra(steps, indices=begin, return_predecessors=True)
    here, path = int(np.argmax(_finite(far))), []
    while here >= 0:
        path.append(here)
        here = int(before[here])
    return np.asarray(pixels[path])


def _finite(distances: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(distances), distances, -1.0)


def _between_caps(path: np.ndarray, depth: np.ndarray, radius: float) -> np.ndarray:
    """Return the part of a path between the centres of the round ends, smooth.

    Beyond them the skeleton runs into some corner of the edge. Its pixels make steps.
    """
    from scipy.ndimage import gaussian_filter1d

    wide = np.flatnonzero(depth >= _FULL * radius)
    smooth = gaussian_filter1d(path, sigma=max(1.0, radius / 3), axis=0, mode="nearest")
    return np.asarray(smooth[wide[0] : wide[-1] + 1])


def _arc(line: np.ndarray) -> np.ndarray:
    """Return how far each point is along a line, px."""
    return np.concatenate([[0.0], np.hypot(*np.diff(line, axis=0).T).cumsum()])


def _edge_to_edge(mask: np.ndarray, line: np.ndarray, radius: float) -> float:
    """Return the length of a line that is continued straight to the edge at both ends, px."""
    ends = sum(_to_edge(mask, towards, radius) for towards in (line, line[::-1]))
    return float(_arc(line)[-1]) + ends


def _to_edge(mask: np.ndarray, line: np.ndarray, radius: float) -> float:
    """Return how far the edge is from the beginning of a line, straight on, px."""
    from scipy.ndimage import map_coordinates

    back = line[min(len(line) - 1, max(2, round(radius)))]
    direction = (line[0] - back) / np.hypot(*(line[0] - back))
    far = np.arange(0, 4 * radius + 4, _STEP_PX)
    values = map_coordinates(
        mask.astype(float), (line[0] + far[:, None] * direction).T, order=1, mode="constant"
    )
    return float(far[np.argmax(values < 0.5)])


def _major_axis(mask: np.ndarray) -> float:
    """Return the major axis of the ellipse with the same second moments, px, as scikit-image's."""
    at = np.argwhere(mask)
    moments = np.cov(at.T, bias=True) + np.eye(2) / 12  # of each pixel itself
    return float(4 * math.sqrt(np.linalg.eigvalsh(moments)[-1]))


def _width_of_rod(area: float, length: float) -> float:
    """Return the width of a rod with round ends of an area, px²; of a disc if it is too short.

    It solves area = width x length - (1 - pi/4) x width².
    """
    square = length**2 - 4 * _CORNERS * area
    return (length - math.sqrt(max(square, 0.0))) / (2 * _CORNERS)
