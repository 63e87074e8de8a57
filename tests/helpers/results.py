"""Small results on disk, written the way a run writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cypose_dask.results import Layout, Result, Status, create_result, open_result
from cypose_dask.results.writing import write_block, write_status

PIXEL_UM, Z_STEP_UM, INTERVAL_S = 0.065, 0.5, 300.0


def make_labels(t=5, p=1, z=1, y=12, x=16) -> np.ndarray:
    """Labels (T, P, Z, Y, X) with another number of cells in every frame, the first has none."""
    labels = np.zeros((t, p, z, y, x), np.uint32)
    flat = labels.reshape(t * p * z, y * x)
    for frame, pixels in enumerate(flat):
        pixels[3 : 3 + frame] = np.arange(1, frame + 1)
    return labels


def layout_of(labels: np.ndarray, **changes) -> Layout:
    """A layout for labels (T, P, Z, Y, X) in blocks of 2 frames, with a scale."""
    t, p, z, y, x = labels.shape
    known = {
        "position_names": tuple(f"position {i}" for i in range(p)),
        "frames": t,
        "planes": z,
        "height": y,
        "width": x,
        "frames_per_block": 2,
        "pixel_size_um": PIXEL_UM,
        "z_step_um": Z_STEP_UM,
        "interval_s": INTERVAL_S,
    }
    return Layout(**known | changes)


def make_flows(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Seeded flows (T, P, Z, 2, Y, X) and logits (T, P, Z, Y, X), float32."""
    random = np.random.default_rng(0)
    t, p, z, y, x = labels.shape
    return {
        "flows": random.normal(size=(t, p, z, 2, y, x)).astype(np.float32),
        "cellprob": (20 * random.normal(size=labels.shape)).astype(np.float32),
    }


def write_result(
    path: Path, labels: np.ndarray, *, status=None, cells=None, start_frame=0, **changes
) -> Result:
    """Write labels (T, P, Z, Y, X) block by block, then status and cells, and open the result."""
    layout = layout_of(labels, **changes)
    positions = list(range(labels.shape[1]))
    plan = {"start_frame": start_frame, "positions": positions, "channels": [0]}
    create_result(path, layout, {"plan": plan})
    arrays = {"labels": labels, **(make_flows(labels) if layout.debug else {})}
    step = layout.frames_per_block
    for p in positions:
        for t in range(0, layout.frames, step):
            blocks = {name: values[t : t + step, p] for name, values in arrays.items()}
            write_block(path, (p, t), blocks)
        shape = labels.shape[:1] + labels.shape[2:3]
        done = np.full(shape, Status.DONE, np.uint8) if status is None else status
        counted = labels[:, p].max(axis=(-2, -1)) if cells is None else cells
        write_status(path, p, done, counted.astype(np.uint32))
    return open_result(path)
