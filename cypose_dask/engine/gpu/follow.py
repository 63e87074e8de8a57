"""Follow flows to where they end, for all cell pixels of a batch of frames at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["Pixels", "cell_pixels", "follow"]


@dataclass(frozen=True, slots=True)
class Pixels:
    """Pixels of a batch in raster order, frame after frame.

    Attributes
    ----------
    frame, y, x : (M,) int64
    per_frame : list of int
    """

    frame: torch.Tensor
    y: torch.Tensor
    x: torch.Tensor
    per_frame: list[int]

    def slots(self) -> torch.Tensor:
        """Return each pixel's place among those of its frame, (M,) int64."""
        counts = torch.tensor(self.per_frame, device=self.frame.device)
        before = counts.cumsum(0) - counts
        return torch.arange(len(self.frame), device=self.frame.device) - before[self.frame]


def cell_pixels(cells: torch.Tensor) -> Pixels:
    """List the pixels of (N, Y, X) that are true."""
    frame, y, x = torch.nonzero(cells, as_tuple=True)
    return Pixels(frame, y, x, cells.sum((1, 2)).tolist())


def follow(steps: torch.Tensor, pixels: Pixels, niter: int) -> torch.Tensor:
    """Return where pixels end: (2, M) float32, y and x, px.

    Parameters
    ----------
    steps : (N, 2, Y, X) float32
        (dy, dx) of one step, px; zero outside cells.
    pixels : Pixels
    niter : int
        Number of steps.

    Notes
    -----
    Source: cellpose 3.1.1.3 `dynamics.steps_interp`, its path for CUDA. Frames are rows of one
    grid; short rows are padded with points that are thrown away. Every operation is elementwise and
    the same as there, so a pixel's end does not depend on its batch. Divisions stay divisions by a
    Python number, which CUDA computes otherwise than divisions by a tensor.
    """
    spans = (steps.shape[3] - 1.0, steps.shape[2] - 1.0)  # grid_sample wants x first
    field, slots = steps.flip(1), pixels.slots()
    grid = steps.new_zeros((len(steps), 1, max(pixels.per_frame), 2))
    grid[pixels.frame, 0, slots] = torch.stack((pixels.x, pixels.y), 1).to(grid.dtype)
    for axis, span in enumerate(spans):
        field[:, axis] *= 2.0 / span
        grid[..., axis] /= span
    grid.mul_(2).sub_(1)
    for _ in range(niter):
        moved = torch.nn.functional.grid_sample(field, grid, align_corners=False)
        grid.add_(moved.permute(0, 2, 3, 1)).clamp_(-1.0, 1.0)
    grid.add_(1).mul_(0.5)
    for axis, span in enumerate(spans):
        grid[..., axis] *= span
    return grid[pixels.frame, 0, slots].flip(1).T
