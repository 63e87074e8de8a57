"""All measurements of the cells of one frame, in pixels and in micrometres."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cypose_dask.results.measuring.intensity import background_of, measure_channel
from cypose_dask.results.measuring.shape import measure_shapes

__all__ = ["column_names", "measure_frame"]

# Columns that have another one in um, and its power of the pixel size.
_SCALED = {
    "area": 2, "length": 1, "width": 1, "perimeter": 1, "centroid-0": 1, "centroid-1": 1,
}  # fmt: skip


def measure_frame(
    labels: np.ndarray,
    channels: dict[str, np.ndarray],
    *,
    pixel_size_um: float | None = None,
) -> dict[str, np.ndarray]:
    """Measure the cells of one frame.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
        0 is background.
    channels : dict of str to (Y, X) ndarray
        By the name that stands in the columns; may be empty.
    pixel_size_um : float or None
        Side of a pixel, um; None leaves columns in um empty (NaN).

    Returns
    -------
    dict of str to (N,) ndarray
        As `measure_shapes`; what is in px also in um (``area_um2``, ``length_um``, ...); for each
        channel what `measure_channel` gives above the background of the frame, and that background
        (``intensity_mean-NAME``, ..., ``background-NAME``).
    """
    columns = measure_shapes(labels)
    pixel = math.nan if pixel_size_um is None else pixel_size_um
    for name, power in _SCALED.items():
        columns[f"{name}_um{power if power > 1 else ''}"] = columns[name] * pixel**power
    for channel, image in channels.items():
        background = background_of(labels, image)
        measured = measure_channel(labels, image, background)
        columns |= {f"{name}-{channel}": values for name, values in measured.items()}
        columns[f"background-{channel}"] = np.full(len(columns["label"]), background)
    return columns


def column_names(channels: Sequence[str]) -> list[str]:
    """Return what channels are called in columns: their name, or their index where it is no help.

    Examples
    --------
    >>> column_names(["Brightfield", "GFP", "GFP", ""])
    ['Brightfield', '1', '2', '3']
    """
    names = [name.strip() for name in channels]
    return [n if n and names.count(n) == 1 else str(i) for i, n in enumerate(names)]
