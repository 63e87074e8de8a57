"""Score the linkers by the Cell Tracking Challenge's measures on a real movie with known tracks.

    python scripts/benchmark_linking.py ../shared/data/oufti_caulobacter_timelapse

The real movie (Caulobacter crescentus, 100 frames in phase contrast, published with Oufti) has
outlines with steady numbers and ancestors. Linked are the outlines themselves, also of every fifth
frame alone and with cells left out at random, and the labels of a segmentation. The truth leaves
out cells at the border and some others, so cells of the segmentation that lie outside every outline
are not scored. The synthetic movies are colonies that double every four frames.
Needs py-ctcmetrics, and laptrack for that linker.
"""

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import tifffile
from skimage.draw import polygon2mask
from skimage.segmentation import relabel_sequential

import cypose_dask as cd
from cypose_dask.learn import synthetic_movie
from cypose_dask.results.linking import LINKERS, LinkedCells, frame_overlaps

# How well cells are found and linked, tracks that are whole, divisions to a frame: 1 is perfect.
MEASURES = ("TRA", "LNK", "CT", "BC(1)")
GAP = 1
SYNTHETIC = {
    "rods, 6 to 151 cells": {"n_frames": 22, "shape": (320, 320), "seed": 4},
    "rods, 12 to 317 cells": {
        "n_frames": 24, "shape": (300, 300), "seed": 12, "start_cells": 12,
    },
    "ovals, 6 to 105 cells": {
        "n_frames": 22, "shape": (320, 320), "seed": 7, "species": "ovals",
    },
    "filaments that slide": {
        "n_frames": 14, "shape": (320, 320), "seed": 9, "species": "filaments", "start_cells": 18,
    },
}  # fmt: skip


def main() -> None:
    """Print a row for each movie and linker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with meshes.mat and phase_contrast/")
    folder = parser.parse_args().folder
    truth, parents = read_truth(folder)
    print(f"| labels | linker | {' | '.join(MEASURES)} | s |")
    print("|---|---|" + "---|" * (len(MEASURES) + 1))
    known = [(*movie, parents) for movie in real_movies(folder, truth)]
    for name, labels, reference, mothers in (*known, *synthetic_movies()):
        for linker in LINKERS:
            scores, seconds = score(labels, (reference, mothers), linker)
            row = " | ".join(f"{scores[measure]:.3f}" for measure in MEASURES)
            print(f"| {name} | {linker} | {row} | {seconds:.1f} |", flush=True)


def real_movies(folder: Path, truth: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield labels to link and labels with steady numbers, (T, Y, X) both, and what they are."""
    random = np.random.default_rng(0)
    yield "outlines", renumbered(truth), truth
    yield "outlines, every 5th frame", renumbered(truth[::5]), truth[::5]
    fewer = np.stack([np.where(np.isin(f, _some(f, random)), 0, f) for f in truth])
    yield "outlines, 5 % of cells left out", renumbered(fewer), truth
    found = segmented(folder)
    inside = np.stack(
        [np.where(_mostly_inside(f, real), f, 0) for f, real in zip(found, truth, strict=True)]
    )
    yield "cyano-rods at a diameter of 12 px", renumbered(inside), truth


def synthetic_movies() -> Iterator[tuple[str, np.ndarray, np.ndarray, dict[int, int]]]:
    """Yield the same of synthetic colonies, and the mothers of their cells."""
    for name, request in SYNTHETIC.items():
        film = synthetic_movie(n_channels=1, **request)
        pairs = zip(film.numbers, film.labels, strict=True)
        steady = np.stack([np.r_[0, numbers][labels] for numbers, labels in pairs])
        yield name, film.labels, steady, film.mothers


def renumbered(frames: np.ndarray) -> np.ndarray:
    """Return the cells of each frame numbered from 1: nothing tells which they were."""
    return np.stack([relabel_sequential(frame.astype(np.int64))[0] for frame in frames])


def _some(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    cells = np.unique(labels)[1:]
    return cells[random.random(len(cells)) < 0.05]


def _mostly_inside(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the pixels of the cells of which half or more lies in outlines."""
    share = np.bincount(labels.ravel(), truth.ravel() > 0) / np.bincount(labels.ravel())
    return (share >= 0.5)[labels]


def segmented(folder: Path) -> np.ndarray:
    """Segment the movie; return labels (T, Y, X)."""
    with tempfile.TemporaryDirectory() as scratch:
        movie = cd.open_movie(str(folder / "phase_contrast" / "img*.tif"))
        result = cd.segment(movie, Path(scratch) / "movie.zarr", cd.Settings(diameter=12))
        return np.asarray(result.labels(0)[:, 0])


def score(
    labels: np.ndarray, truth: tuple[np.ndarray, dict[int, int]], linker: str
) -> tuple[dict[str, float], float]:
    """Link and return the measures, and the seconds that linking took."""
    from ctc_metrics import evaluate_sequence

    begin = time.perf_counter()
    frames = [
        frame_overlaps(t, labels[t], {u: labels[u] for u in range(max(0, t - GAP - 1), t)})
        for t in range(len(labels))
    ]
    linked = LINKERS[linker](frames, GAP)
    seconds = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        write_result(Path(folder) / "01_RES", labels, linked)
        write_truth(Path(folder) / "01_GT" / "TRA", *truth)
        found = evaluate_sequence(
            f"{folder}/01_RES", f"{folder}/01_GT", ["TRA", "LNK", "CT", "BC"], threads=1
        )
    return found, seconds


def write_result(folder: Path, labels: np.ndarray, linked: LinkedCells) -> None:
    """Write what a submission to the challenge holds."""
    linked = linked.unbroken()
    begin, end = linked.spans()
    numbered = [np.r_[0, linked.of_frame(t)][frame] for t, frame in enumerate(labels)]
    rows = zip(begin, end, linked.parent, strict=True)
    table = [f"{i} {b} {e} {p}\n" for i, (b, e, p) in enumerate(rows, 1)]
    _write(folder, ("mask", "res_track.txt"), (numbered, table))


def write_truth(folder: Path, truth: np.ndarray, parents: dict[int, int]) -> None:
    """Write the challenge's reference: the first and last frame of each cell, and its parent."""
    table = []
    for cell in np.unique(truth)[1:].tolist():
        seen = np.flatnonzero((truth == cell).any(axis=(1, 2)))
        table.append(f"{cell} {seen[0]} {seen[-1]} {parents.get(cell, 0)}\n")
    _write(folder, ("man_track", "man_track.txt"), (truth, table))


def _write(folder: Path, names: tuple[str, str], what: tuple[Any, list[str]]) -> None:
    folder.mkdir(parents=True)
    for t, frame in enumerate(what[0]):
        tifffile.imwrite(folder / f"{names[0]}{t:03d}.tif", frame.astype(np.uint16))
    (folder / names[1]).write_text("".join(what[1]))


def read_truth(folder: Path) -> tuple[np.ndarray, dict[int, int]]:
    """Return labels with steady numbers, (T, Y, X), and the mother of each cell that has one."""
    cells = scipy.io.loadmat(folder / "meshes.mat", squeeze_me=True, struct_as_record=False)
    cells = cells["cellList"]
    shape = tifffile.imread(folder / "phase_contrast" / "img001.tif").shape
    truth = np.zeros((len(cells.meshData), *shape), np.uint32)
    parents: dict[int, int] = {}
    for t, frame in enumerate(cells.meshData):
        for number, cell, outline in _outlines(cells.cellId[t], frame):
            truth[t][polygon2mask(shape, outline) & (truth[t] == 0)] = number
            ancestors = np.atleast_1d(cell.ancestors)
            if len(ancestors):
                parents[number] = int(ancestors[-1])
    return truth, parents


def _outlines(ids: np.ndarray, frame: np.ndarray) -> Iterator[tuple[int, object, np.ndarray]]:
    for number, cell in zip(np.atleast_1d(ids), np.atleast_1d(frame), strict=True):
        mesh = np.atleast_2d(getattr(cell, "mesh", []))
        if mesh.shape[0] >= 4 and mesh.shape[1] == 4:  # lost cells keep an empty mesh
            around = np.vstack([mesh[:, :2], mesh[::-1, 2:]]) - 1.0  # MATLAB counts from 1
            yield int(number), cell, around[:, ::-1]


if __name__ == "__main__":
    main()
