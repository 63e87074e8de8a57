"""A movie of stamped pixels, and a result with known labels that says it was made from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.movies import open_movie
from cypose_dask.results import Result, Status, create_result, open_result
from cypose_dask.results.writing import write_block, write_status
from cypose_dask.run import make_plan
from cypose_dask.settings import RunOptions, Settings
from helpers.nd2_writer import write_nd2
from helpers.results import make_flows

CELL_Y, CELL_X = 6, 5


@dataclass(frozen=True)
class HandedOn:
    """What the exports must give: pixels (T, P, Z, C, Y, X) and labels (T, P, Z, Y, X)."""

    movie: Path
    pixels: np.ndarray
    labels: np.ndarray
    result: Result
    settings: Settings


def touching_cells(shape: tuple[int, ...], counts: Any) -> np.ndarray:
    """Labels of `shape` (T, P, Z, Y, X): frame number i holds counts[i] cells that touch."""
    labels = np.zeros(shape, np.uint32)
    across, down = shape[-1] // CELL_X, shape[-2] // CELL_Y
    for frame, count in zip(labels.reshape(-1, *shape[-2:]), counts, strict=True):
        assert count <= across * down
        for cell in range(count):
            y, x = CELL_Y * (cell // across), CELL_X * (cell % across)
            frame[y : y + CELL_Y, x : x + CELL_X] = cell + 1
    return labels


def stamped(shape: tuple[int, ...]) -> np.ndarray:
    """Pixels (T, P, Z, C, Y, X), uint16, in which every axis shows."""
    weights = np.array([5000, 2000, 700, 300, 3, 1])
    grids = np.indices(shape)
    return np.tensordot(weights, grids, 1).astype(np.uint16)


def hand_on(
    folder: Path, *, t=4, p=1, z=1, c=2, counts=None, status=None, debug=False, **settings: Any
) -> HandedOn:
    """Write ``movie.nd2`` and ``movie.zarr`` into `folder`."""
    pixels = stamped((t, p, z, c, 36, 40))
    names = [f"channel {i}" for i in range(c)]
    path = Path(write_nd2(
        folder / "movie.nd2", pixels, axes="TPZCYX", channels=names, pixel_size_um=0.065,
        period_ms=300_000,
    ))  # fmt: skip
    settings = {"channels": (0,), **settings}
    plan = make_plan(open_movie(path), Settings(**settings), RunOptions(debug=debug))
    taken = pixels[plan.start : plan.stop]
    shape = (*taken.shape[:3], *taken.shape[4:])
    # An empty frame among others, and another number in each.
    counts = [(3 * i + 2) % 5 for i in range(int(np.prod(shape[:3])))] if counts is None else counts
    labels = touching_cells(shape, counts)
    result = _write(folder / "movie.zarr", plan, labels, status)
    return HandedOn(path, pixels, labels, result, plan.settings)


def _write(path: Path, plan: Any, labels: np.ndarray, status: Any) -> Result:
    layout = replace(plan.layout(), frames_per_block=2)
    create_result(path, layout, {"plan": plan.to_dict()})
    arrays = {"labels": labels, **(make_flows(labels) if layout.debug else {})}
    for position in range(labels.shape[1]):
        for first in range(0, len(labels), 2):
            block = {name: values[first : first + 2, position] for name, values in arrays.items()}
            write_block(path, (position, first), block)
        done = np.full((len(labels), labels.shape[2]), Status.DONE, np.uint8)
        done[:] = done if status is None else np.array(status, np.uint8)[:, np.newaxis]
        write_status(path, position, done, labels[:, position].max(axis=(-2, -1)))
    return open_result(path)
