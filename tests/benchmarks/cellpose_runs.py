"""Cellpose as its users run it: a loop over `eval`, the stack, the command line, a Dask map."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import tifffile

OPTIONS: dict[str, Any] = {"channels": [0, 0], "flow_threshold": 0.75}
_models: dict[str, Any] = {}


def model_of(weights: str) -> Any:
    """Return Cellpose's model, loaded once a process."""
    if weights not in _models:
        from cellpose.models import CellposeModel

        _models[weights] = CellposeModel(pretrained_model=weights)
    return _models[weights]


def loop(frames: np.ndarray, weights: str, **options: Any) -> list[np.ndarray]:
    """One `eval` after the other."""
    model = model_of(weights)
    return [model.eval(frame, **OPTIONS, **options)[0] for frame in frames]


def stack(frames: np.ndarray, weights: str, **options: Any) -> list[np.ndarray]:
    """`eval` of all frames as a Z stack: the only call that shares batches between frames."""
    masks = model_of(weights).eval(frames, z_axis=0, **OPTIONS, **options)[0]
    return list(masks)


def command_line(
    frames: np.ndarray, folder: Path, weights: str, **options: Any
) -> list[np.ndarray]:
    """`python -m cellpose` on a directory, from its start to its last file."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        tifffile.imwrite(folder / f"frame{i:04d}.tif", frame)
    given = [f"--{name}={value}" for name, value in options.items()]
    subprocess.run(
        [
            sys.executable, "-m", "cellpose", "--dir", str(folder), "--pretrained_model", weights,
            "--chan", "0", "--flow_threshold", "0.75", "--save_tif", "--no_npy", *given,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return [tifffile.imread(p) for p in sorted(folder.glob("*_cp_masks.tif"))]


def eval_block(block: np.ndarray, weights: str, options: dict[str, Any]) -> np.ndarray:
    """Segment the frames of one Dask block with `eval`; the naive map."""
    return np.stack([model_of(weights).eval(f, **OPTIONS, **options)[0] for f in block])


def naive_map(
    frames: np.ndarray, client: Any, weights: str, options: dict[str, Any]
) -> list[np.ndarray]:
    """`map_blocks` of `eval` over frames, on a cluster whose workers keep the model."""
    import dask.array as da

    lazy = da.from_array(frames, chunks=(1, -1, -1))
    return list(
        client.compute(lazy.map_blocks(eval_block, weights, options, dtype=np.uint16)).result()
    )


STAGES = {
    "normalise": "cellpose.transforms.normalize_img",
    "tile": "cellpose.transforms.make_tiles",
    "forward": "cellpose.core._forward",
    "average": "cellpose.transforms.average_tiles",
    "dynamics": "cellpose.dynamics.follow_flows",
    "masks": "cellpose.dynamics.get_masks_torch",
    "check": "cellpose.dynamics.remove_bad_flow_masks",
    "fill": "cellpose.utils.fill_holes_and_remove_small_masks",
}


@contextmanager
def stage_clock() -> Iterator[dict[str, float]]:
    """Add up the seconds of Cellpose's stages while the block runs."""
    import importlib

    seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
    kept = []
    for stage, path in STAGES.items():
        home, name = path.rsplit(".", 1)
        module = importlib.import_module(home)
        plain = getattr(module, name)
        kept.append((module, name, plain))
        setattr(module, name, _timed(plain, stage, seconds))
    try:
        yield seconds
    finally:
        for module, name, plain in kept:
            setattr(module, name, plain)


def _timed(function: Any, stage: str, seconds: dict[str, float]) -> Any:
    def timed(*args: Any, **options: Any) -> Any:
        begun = perf_counter()
        try:
            return function(*args, **options)
        finally:
            seconds[stage] += perf_counter() - begun

    return timed
