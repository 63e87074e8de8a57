"""Sizes and shapes of the cells of one frame, under scikit-image's names."""

from __future__ import annotations

import warnings

import numpy as np

from cypose_dask.results.measuring.midline import length_and_width

__all__ = ["measure_shapes"]

_PROPERTIES = (
    "label",
    "area",
    "centroid",
    "bbox",
    "orientation",
    "perimeter",
    "solidity",
    "eccentricity",
    "axis_major_length",
    "axis_minor_length",
)


def measure_shapes(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Measure the shapes of the cells of one frame.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
        0 is background; numbers may be left out.

    Returns
    -------
    dict of str to (N,) ndarray
        A column a property, in the order of the labels, named as in
        `skimage.measure.regionprops_table`: lengths in px, `area` in px, `orientation` in
        radians, `solidity` and `eccentricity` dimensionless. Ours are `length` and `width` (px;
        see `length_and_width`) and `touches_border`.
    """
    from skimage.measure import regionprops_table

    with warnings.catch_warnings():
        # Of cells on a line; their solidity is nan, as there.
        warnings.filterwarnings("ignore", "Failed to get convex hull")
        columns: dict[str, np.ndarray] = regionprops_table(
            labels.astype(np.int64), properties=_PROPERTIES, extra_properties=(length_and_width,)
        )
    columns["length"], columns["width"] = (columns.pop(f"length_and_width-{i}") for i in (0, 1))
    return {**columns, "touches_border": _touches_border(columns, labels.shape)}


def _touches_border(columns: dict[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    top_left = (columns["bbox-0"] == 0) | (columns["bbox-1"] == 0)
    bottom_right = (columns["bbox-2"] == shape[0]) | (columns["bbox-3"] == shape[1])
    return np.asarray(top_left | bottom_right, bool)
