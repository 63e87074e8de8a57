"""How far the flows of a cell are from those that its own shape would have."""

from __future__ import annotations

import numpy as np
from numba import njit

from cypose_dask.engine.dynamics.numbering import boxes, count_pixels
from cypose_dask.engine.dynamics.threads import in_parts

__all__ = ["clear_cells", "flow_errors"]


def flow_errors(labels: np.ndarray, moves: np.ndarray, threads: int = 1) -> np.ndarray:
    """Return the mean squared difference of each cell's flow from the flow of its shape.

    Parameters
    ----------
    labels : (Y, X) ndarray of uint32
        Numbered from 1 without gaps.
    moves : (Y, X, 2) ndarray of float32
        The network's (dy, dx), as unit flow, at least in the cells.
    threads : int
        Cores to use.

    Returns
    -------
    (n,) ndarray of float64
        Dimensionless.

    Notes
    -----
    The flow of a shape is the gradient of what spreads over its pixels from a source near its
    centre, in as many steps as twice the height and width of its padded box. A cell is kept as
    runs of pixels along the longer side of that box, so that neither empty corners nor short
    lines cost time. Products and sums have Cellpose's order.
    Source: cellpose 3.1.1.3 `metrics.flow_error` and `dynamics.masks_to_flows_cpu`.
    """
    found, sizes = boxes(labels)[1:], count_pixels(labels)[1:]
    errors = np.empty(sizes.size)
    extents = found[:, 1] - found[:, 0] + found[:, 3] - found[:, 2]

    def part(start: int, stop: int) -> None:
        _flow_errors(labels, moves, found[start:stop], (start + 1, errors[start:stop]))

    in_parts(part, sizes * extents, threads)
    return errors


@njit(nogil=True, cache=True)
def clear_cells(labels: np.ndarray, bad: np.ndarray) -> None:
    """Make background of every cell `k` of which ``bad[k - 1]``, in place; numbers stay."""
    flat = labels.ravel()
    for i in range(flat.size):
        if flat[i] != 0 and bad[flat[i] - 1]:
            flat[i] = 0


@njit(nogil=True, cache=True)
def _flow_errors(
    labels: np.ndarray, moves: np.ndarray, found: np.ndarray, out: tuple[int, np.ndarray]
) -> None:
    first, errors = out
    for i in range(errors.size):
        top, bottom, left, right = found[i]
        patch = labels[top : bottom + 1, left : right + 1]
        wanted = moves[top : bottom + 1, left : right + 1]
        errors[i] = _flow_error(_padded(patch, first + i), wanted)


@njit(nogil=True, cache=True)
def _flow_error(inside: np.ndarray, wanted: np.ndarray) -> float:
    upright = inside.shape[0] > inside.shape[1]
    lines = inside.T.copy() if upright else inside
    starts, size = _line_starts(lines)
    runs = _runs(lines, starts)
    y, x = _centre(inside)
    source = starts[x] + y if upright else starts[y] + x
    steps = 2 * (inside.shape[0] + inside.shape[1])
    heat = _spread(size, runs, (source, steps, upright))
    return _mean_square(inside, wanted, (heat, starts, upright))


@njit(nogil=True, cache=True)
def _padded(patch: np.ndarray, label: int) -> np.ndarray:
    inside = np.zeros((patch.shape[0] + 2, patch.shape[1] + 2), np.bool_)
    for y in range(patch.shape[0]):
        for x in range(patch.shape[1]):
            inside[y + 1, x + 1] = patch[y, x] == label
    return inside


@njit(nogil=True, cache=True)
def _centre(inside: np.ndarray) -> tuple[int, int]:
    """Return the first pixel of those that are nearest to the mean position."""
    rows, columns = np.nonzero(inside)
    y_mean, x_mean = rows.sum() / rows.size, columns.sum() / rows.size
    nearest, least = 0, np.inf
    for i in range(rows.size):
        distance = (columns[i] - x_mean) ** 2 + (rows[i] - y_mean) ** 2
        if distance < least:
            nearest, least = i, distance
    return rows[nearest], columns[nearest]


@njit(nogil=True, cache=True)
def _line_starts(lines: np.ndarray) -> tuple[np.ndarray, int]:
    """Lay lines one after another, each as long as its pixels and their neighbours reach.

    Returns where position 0 of each line would lie, and the length of all.
    """
    n, width = lines.shape
    low, high = np.full(n, width), np.full(n, -1)
    for line in range(1, n - 1):
        for x in range(1, width - 1):
            if lines[line, x]:
                for near in range(line - 1, line + 2):
                    low[near], high[near] = min(low[near], x - 1), max(high[near], x + 1)
    starts, size = np.empty(n, np.int64), 0
    for line in range(n):
        starts[line] = size - low[line]
        size += max(0, high[line] - low[line] + 1)
    return starts, size


@njit(nogil=True, cache=True)
def _runs(lines: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return, for each run, where it lies, where its neighbours before and after, its length."""
    runs = np.empty((lines.size // 2, 4), np.int64)
    count = 0
    for line in range(1, lines.shape[0] - 1):
        for x in range(1, lines.shape[1] - 1):
            if lines[line, x] and not lines[line, x - 1]:
                runs[count, 0] = starts[line] + x
                runs[count, 1], runs[count, 2] = starts[line - 1] + x, starts[line + 1] + x
                runs[count, 3] = 0
                count += 1
            if lines[line, x]:
                runs[count - 1, 3] += 1
    return runs[:count]


@njit(nogil=True, cache=True)
def _spread(size: int, runs: np.ndarray, how: tuple[int, int, bool]) -> np.ndarray:
    source, steps, upright = how
    heat, ahead = np.zeros(size), np.zeros(size)
    for _ in range(steps):
        heat[source] += 1
        if upright:
            _spread_columns(heat, ahead, runs)
        else:
            _spread_rows(heat, ahead, runs)
        heat, ahead = ahead, heat
    return heat


@njit(nogil=True, cache=True)
def _spread_rows(heat: np.ndarray, ahead: np.ndarray, runs: np.ndarray) -> None:
    """Take the mean of nine: itself, up, down, left, right, then the corners row by row."""
    for r in range(runs.shape[0]):
        at, before, after, length = runs[r]
        c = heat[at - 1 : at + length + 1]
        u = heat[before - 1 : before + length + 1]
        d = heat[after - 1 : after + length + 1]
        o = ahead[at : at + length]
        for i in range(length):
            o[i] = (1 / 9.0) * (
                c[i + 1] + u[i + 1] + d[i + 1] + c[i] + c[i + 2] + u[i] + u[i + 2] + d[i] + d[i + 2]
            )


@njit(nogil=True, cache=True)
def _spread_columns(heat: np.ndarray, ahead: np.ndarray, runs: np.ndarray) -> None:
    """Take the same mean in the same order, where a line is a column and runs go down."""
    for r in range(runs.shape[0]):
        at, before, after, length = runs[r]
        c = heat[at - 1 : at + length + 1]
        b = heat[before - 1 : before + length + 1]
        a = heat[after - 1 : after + length + 1]
        o = ahead[at : at + length]
        for i in range(length):
            o[i] = (1 / 9.0) * (
                c[i + 1] + c[i] + c[i + 2] + b[i + 1] + a[i + 1] + b[i] + a[i] + b[i + 2] + a[i + 2]
            )


@njit(nogil=True, cache=True)
def _mean_square(
    inside: np.ndarray, wanted: np.ndarray, spread: tuple[np.ndarray, np.ndarray, bool]
) -> float:
    y_sum, x_sum, pixels = 0.0, 0.0, 0
    for y in range(1, inside.shape[0] - 1):
        for x in range(1, inside.shape[1] - 1):
            if inside[y, x]:
                dy, dx = _gradient(spread, y, x)
                norm = 1e-60 + np.sqrt(dy * dy + dx * dx)
                dy_off = dy / norm - wanted[y - 1, x - 1, 0]
                dx_off = dx / norm - wanted[y - 1, x - 1, 1]
                y_sum += dy_off * dy_off
                x_sum += dx_off * dx_off
                pixels += 1
    return y_sum / pixels + x_sum / pixels


@njit(nogil=True, cache=True)
def _gradient(spread: tuple[np.ndarray, np.ndarray, bool], y: int, x: int) -> tuple[float, float]:
    heat, starts, upright = spread
    if upright:
        return (
            heat[starts[x] + y + 1] - heat[starts[x] + y - 1],
            heat[starts[x + 1] + y] - heat[starts[x - 1] + y],
        )
    return (
        heat[starts[y + 1] + x] - heat[starts[y - 1] + x],
        heat[starts[y] + x + 1] - heat[starts[y] + x - 1],
    )
