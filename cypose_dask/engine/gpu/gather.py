"""Gather pixels that end together into cells, for a batch of frames and all seeds at once.

Source of the rules: cellpose 3.1.1.3 `dynamics.get_masks_torch`. There, seeds are taken one by one
in rising order of height, and each overwrites what an earlier one took. Here every seed carries its
place in that order, and of all that reach for a place the largest number wins.
"""

from __future__ import annotations

import torch
from torch.nn.functional import max_pool2d

from cypose_dask.engine.gpu.follow import Pixels

__all__ = ["gather"]

# The frame is padded, so that the window of a seed at its border stays inside.
_PAD = 20
# A seed is the highest place within 2 px, and more than 10 pixels end there.
_PEAK_WINDOW, _LOWEST_SEED = 5, 10
# It grows 5 times by one place, over places where more than 2 pixels end.
_REACH, _LOWEST_GROUND = 5, 2


def gather(
    ends: torch.Tensor, pixels: Pixels, shape: tuple[int, int, int], max_size_fraction: float
) -> tuple[torch.Tensor, list[int]]:
    """Return labels (N, Y, X) int32, numbered per frame in raster order, and cells per frame.

    Parameters
    ----------
    ends : (2, M) float32
        From `follow`; cut to whole pixels.
    pixels : Pixels
    shape : tuple of int
        (N, Y, X).
    max_size_fraction : float
        Cells that cover a larger share of the frame are removed.
    """
    ground = _ground(pixels, ends, shape)
    padded = (shape[0], shape[1] + 2 * _PAD, shape[2] + 2 * _PAD)
    heights = torch.zeros(padded, dtype=torch.int32, device=ends.device)
    heights.view(-1).scatter_add_(0, ground, torch.ones_like(ground, dtype=torch.int32))
    seeds, frames = _seeds(heights)
    owners = _territories(heights, seeds)[ground]
    largest = int(shape[1] * shape[2] * max_size_fraction)
    numbers, per_frame = _numbers(owners, frames, (largest, shape[0]))
    labels = torch.zeros(shape, dtype=torch.int32, device=ends.device)
    labels[pixels.frame, pixels.y, pixels.x] = numbers[owners]
    return labels, per_frame


def _ground(pixels: Pixels, ends: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return the place, in the flattened padded batch, where each pixel ends."""
    _, rows, columns = shape
    whole = ends.int().long()
    # Ends lie inside, unless a flow is not finite: an index out of range would end the process.
    y, x = whole[0].clamp(0, rows - 1) + _PAD, whole[1].clamp(0, columns - 1) + _PAD
    return (pixels.frame * (rows + 2 * _PAD) + y) * (columns + 2 * _PAD) + x


def _seeds(heights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the places and the frames of all seeds, (S,) int64, each frame's lowest first."""
    exact = heights.float()
    tops = max_pool2d(exact, _PEAK_WINDOW, stride=1, padding=_PEAK_WINDOW // 2)
    found = (exact == tops) & (heights > _LOWEST_SEED)
    places = torch.nonzero(found.view(-1)).squeeze(1)
    per_frame = found.sum((1, 2)).tolist()
    order = _order(heights.view(-1)[places], per_frame)
    places = places[order]
    return places, places // heights[0].numel()


def _order(heights: torch.Tensor, per_frame: list[int]) -> torch.Tensor:
    # Frame by frame, on the very numbers that Cellpose sorts: its sort is not stable, so only the
    # same call on the same input breaks ties alike.
    starts = [sum(per_frame[:k]) for k in range(len(per_frame))]
    parts = heights.split(per_frame)
    return torch.cat([p.argsort() + start for p, start in zip(parts, starts, strict=True)])


def _territories(heights: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    """Return the number of the seed that owns each place, flat int64; 0 is nobody's."""
    side = torch.arange(-_REACH, _REACH + 1, device=heights.device)
    window = (side[:, None] * heights.shape[2] + side).view(-1)
    around = seeds[:, None] + window
    ground = (heights.view(-1)[around] > _LOWEST_GROUND).float().view(-1, 1, len(side), len(side))
    grown = torch.zeros_like(ground)
    grown[..., _REACH, _REACH] = 1
    for _ in range(_REACH):
        grown = max_pool2d(grown, 3, stride=1, padding=1) * ground
    numbers = torch.arange(1, len(seeds) + 1, device=heights.device)
    claims = grown.long().flatten(1) * numbers[:, None]
    owners = torch.zeros(heights.numel(), dtype=torch.int64, device=heights.device)
    return owners.scatter_reduce_(0, around.view(-1), claims.view(-1), "amax")


def _numbers(
    owners: torch.Tensor, frames: torch.Tensor, limits: tuple[int, int]
) -> tuple[torch.Tensor, list[int]]:
    """Return the label of every seed, (1 + S,) int32 with 0 for nobody, and cells per frame."""
    largest, n_frames = limits
    n, m = len(frames) + 1, len(owners)
    sizes = owners.new_zeros(n).scatter_add_(0, owners, torch.ones_like(owners))
    first = owners.new_full((n,), m)
    first.scatter_reduce_(0, owners, torch.arange(m, device=owners.device), "amin")
    kept = (sizes > 0) & (sizes <= largest)
    kept[0] = False
    rank = torch.empty_like(first)
    rank[first.masked_fill(~kept, m).argsort()] = torch.arange(n, device=owners.device)
    per_frame = owners.new_zeros(n_frames).scatter_add_(0, frames, kept[1:].long())
    before = per_frame.cumsum(0) - per_frame
    numbers = torch.zeros(n, dtype=torch.int32, device=owners.device)
    numbers[1:] = ((rank[1:] - before[frames] + 1) * kept[1:]).int()
    return numbers, per_frame.tolist()
