"""How far cells disagree with the flows that they came from, for a batch of frames at once.

Source: cellpose 3.1.1.3 `dynamics.masks_to_flows_gpu` and `metrics.flow_error`. Heat spreads from
the middle of each cell over its pixels; the flows of a cell are the heat's normalised slope.
Cellpose gives all cells of a frame the steps that its longest cell needs, which changes the errors.
So each frame keeps its own count: frames are sorted by it, and those that are done drop out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from cypose_dask.engine.gpu.follow import Pixels, cell_pixels

__all__ = ["disagreement", "flow_errors"]

# A pixel, then above, below, left, right, then the corners: Cellpose's order of summation.
_DY = (0, -1, 1, 0, 0, -1, -1, 1, 1)
_DX = (0, 0, 0, -1, 1, -1, 1, -1, 1)
# Cellpose spreads heat in double precision up to this many pixels of the padded frame.
_MOST_IN_DOUBLE = 4e7


@dataclass(frozen=True, slots=True)
class _Cells:
    """Labelled pixels, and the cell of each, counted through the batch.

    `owner` is (M,) int64; `frame` is the frame of each cell, (K,) int64.
    """

    pixels: Pixels
    owner: torch.Tensor
    frame: torch.Tensor
    per_frame: list[int]


def disagreement(
    labels: torch.Tensor, steps: torch.Tensor, cells_per_frame: list[int]
) -> list[np.ndarray]:
    """Return the squared differences of labels' flows and predicted flows.

    Parameters
    ----------
    labels : (N, Y, X) int32
        Numbered per frame from 1 without gaps.
    steps : (N, 2, Y, X) float32
        Predicted flows / 5, (dy, dx).
    cells_per_frame : list of int

    Returns
    -------
    list of (2, m) ndarray of float64
        A frame's labelled pixels in raster order, (dy, dx), dimensionless.
    """
    cells = _list_cells(labels, cells_per_frame)
    middles, counts = _middles_and_counts(cells)
    order = sorted(range(len(counts)), key=lambda k: -counts[k])
    cells, middles = _reorder(cells, middles, order)
    around, same = _neighbours(cells, labels)
    # One row and one column of padding on each side, as Cellpose counts.
    is_large = (labels.shape[1] + 2) * (labels.shape[2] + 2) > _MOST_IN_DOUBLE
    heat = torch.zeros(
        1 + len(cells.owner),
        dtype=torch.float32 if is_large else torch.float64,
        device=labels.device,
    )
    _spread(heat, same, middles, _stages(cells, counts, order))
    squared = (_slope(heat, around) - _predicted(cells.pixels, steps)).square_().cpu().numpy()
    parts = np.split(squared, np.cumsum([cells.pixels.per_frame[k] for k in order])[:-1], axis=1)
    return [parts[order.index(k)] for k in range(len(parts))]


def flow_errors(labels: np.ndarray, squared: np.ndarray) -> np.ndarray:
    """Return the mean squared difference of each cell, (n,) float64, dimensionless.

    Summed on the host in Cellpose's order, so that it is the same on every run: sums on CUDA follow
    the order in which its threads arrive.

    Parameters
    ----------
    labels : (Y, X) ndarray of int
    squared : (2, m) ndarray of float64
        From `disagreement`.
    """
    owners = labels[labels > 0]
    sizes = np.bincount(owners)[1:]
    sums = [np.bincount(owners, weights=part)[1:] for part in squared]
    return sums[0] / sizes + sums[1] / sizes


def _list_cells(labels: torch.Tensor, per_frame: list[int]) -> _Cells:
    pixels = cell_pixels(labels > 0)
    counts = torch.tensor(per_frame, device=labels.device)
    before = counts.cumsum(0) - counts
    owner = labels[pixels.frame, pixels.y, pixels.x].long() - 1 + before[pixels.frame]
    frames = torch.arange(len(per_frame), device=labels.device)
    frame = frames.repeat_interleave(counts, output_size=sum(per_frame))
    return _Cells(pixels, owner, frame, per_frame)


def _middles_and_counts(cells: _Cells) -> tuple[torch.Tensor, list[int]]:
    """Return the pixel nearest to each cell's centre, (K,), and the steps of each frame."""
    y, x, sizes = cells.pixels.y, cells.pixels.x, _sum(cells, torch.ones_like(cells.owner))
    (top, bottom), (left, right) = _extent(cells, y), _extent(cells, x)
    # From the cell's own corner, as Cellpose does: elsewhere, rounding would break ties otherwise.
    down, across = y - top[cells.owner], x - left[cells.owner]
    middle_y, middle_x = _sum(cells, down) / sizes.double(), _sum(cells, across) / sizes.double()
    far = (across - middle_x[cells.owner]).square() + (down - middle_y[cells.owner]).square()
    nearest = far.new_full((len(cells.frame),), torch.inf)
    nearest.scatter_reduce_(0, cells.owner, far, "amin")
    place = torch.arange(len(far), device=far.device)
    place = place.masked_fill(far != nearest[cells.owner], len(far))
    middles = torch.full_like(sizes, len(far)).scatter_reduce_(0, cells.owner, place, "amin")
    steps = 2 * ((bottom + 1 - top) + (right + 1 - left) + 2)
    counts = steps.new_zeros(len(cells.per_frame)).scatter_reduce_(0, cells.frame, steps, "amax")
    return middles, counts.tolist()


def _sum(cells: _Cells, numbers: torch.Tensor) -> torch.Tensor:
    return numbers.new_zeros(len(cells.frame)).scatter_add_(0, cells.owner, numbers)


def _extent(cells: _Cells, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    empty = numbers.new_zeros(len(cells.frame))
    low = empty.scatter_reduce(0, cells.owner, numbers, "amin", include_self=False)
    return low, empty.scatter_reduce(0, cells.owner, numbers, "amax", include_self=False)


def _reorder(cells: _Cells, middles: torch.Tensor, order: list[int]) -> tuple[_Cells, torch.Tensor]:
    """Sort pixels and middles by the place of their frame in `order`."""
    device = middles.device
    place = torch.tensor(order, device=device).argsort()
    old, found = place[cells.pixels.frame].argsort(stable=True), cells.pixels
    new = torch.empty_like(old)
    new[old] = torch.arange(len(old), device=device)
    pixels = replace(found, frame=found.frame[old], y=found.y[old], x=found.x[old])
    middles = new[middles[place[cells.frame].argsort(stable=True)]]
    return replace(cells, pixels=pixels, owner=cells.owner[old]), middles


def _neighbours(cells: _Cells, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the heat of each pixel's neighbours stands: 0 is nowhere, i + 1 pixel i.

    The first is (4, M) for neighbours of any cell, above, below, left and right, which the slope
    looks at; the second (9, M) for those of the same cell, which share heat.
    """
    device, pixels, (n, rows, columns) = labels.device, cells.pixels, labels.shape
    place = torch.zeros((n, rows + 2, columns + 2), dtype=torch.int32, device=device)
    numbers = torch.arange(1, len(cells.owner) + 1, dtype=torch.int32, device=device)
    place[pixels.frame, pixels.y + 1, pixels.x + 1] = numbers
    own = (pixels.frame * (rows + 2) + pixels.y + 1) * (columns + 2) + pixels.x + 1
    offsets = torch.tensor(_DY, device=device) * (columns + 2) + torch.tensor(_DX, device=device)
    around = place.view(-1)[own + offsets[:, None]]
    owner = torch.cat((cells.owner.new_full((1,), -1), cells.owner))
    return around[1:5].clone(), around * (owner[around] == cells.owner)


def _stages(cells: _Cells, counts: list[int], order: list[int]) -> list[tuple[int, int, int]]:
    """Return (steps, pixels, cells): how long which first pixels and cells go on together."""
    stages, done = [], 0
    n_pixels, n_cells = len(cells.owner), len(cells.frame)
    for frame in reversed(order):
        if counts[frame] > done:
            stages.append((counts[frame] - done, n_pixels, n_cells))
            done = counts[frame]
        n_pixels -= cells.pixels.per_frame[frame]
        n_cells -= cells.per_frame[frame]
    return stages


def _spread(
    heat: torch.Tensor,
    same: torch.Tensor,
    middles: torch.Tensor,
    stages: list[tuple[int, int, int]],
) -> None:
    for steps, n_pixels, n_cells in stages:
        neighbours = same[:, :n_pixels].reshape(-1)
        sources, one = middles[:n_cells] + 1, heat.new_ones(n_cells)
        for _ in range(steps):
            heat.index_add_(0, sources, one)
            warm = heat.index_select(0, neighbours).view(len(same), n_pixels)
            torch.mean(warm, dim=0, out=heat[1 : 1 + n_pixels])


def _slope(heat: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
    above, below, left, right = heat[around]
    slope = torch.stack((below - above, right - left)).double()
    return slope / (1e-60 + slope.square().sum(0).sqrt())


def _predicted(pixels: Pixels, steps: torch.Tensor) -> torch.Tensor:
    return steps[pixels.frame, :, pixels.y, pixels.x].T
