"""Labelled real microscope images, read from a folder laid out as the project's shared data is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from skimage import io
from skimage.draw import polygon2mask

from cypose_dask.learn import Examples


@dataclass(frozen=True)
class RealSet:
    """Images of one source; `rules` are keywords of `evaluate_labels`."""

    name: str
    examples: Examples
    rules: dict[str, bool]


def real_sets(data: Path) -> list[RealSet]:
    """Every image with truth. None of them is trained on."""
    border, partial = {"ignore_border": True}, {"partial_truth": True}
    return [
        RealSet("E. coli and others, phase (Omnipose, dense, complete)", _omnipose(data), {}),
        RealSet("E. coli, phase (Oufti, outlines at the dark edge)", _oufti_coli(data), border),
        RealSet("Caulobacter, phase (Oufti, recall only)", _caulobacter(data), partial),
        RealSet("E. coli, brightfield (ColiCoords, recall only)",
                _colicoords(data, "brightfield"), partial),
        RealSet("E. coli, fluorescence (ColiCoords, recall only)",
                _colicoords(data, "fluorescence"), partial),
    ]  # fmt: skip


def _omnipose(data: Path) -> Examples:
    folder = data / "omnipose_phase"
    stems = ("Sample000033", "Sample000193")
    pairs = [
        (_gray(folder / f"{s}.png"), io.imread(folder / "masks" / f"{s}_cp_masks.tif"))
        for s in stems
    ]
    return _examples(pairs, stems)


def _oufti_coli(data: Path) -> Examples:
    folder = data / "oufti_ecoli_phase"
    image = _gray(folder / "phase.tif")
    return _examples([(image, oufti_labels(folder / "meshes.mat", image.shape))], ["E. coli"])


def _caulobacter(data: Path, frames: tuple[int, ...] = (10, 40, 70, 99)) -> Examples:
    folder = data / "oufti_caulobacter_timelapse"
    images = [_gray(folder / "phase_contrast" / f"img{t + 1:03d}.tif") for t in frames]
    truth = [
        oufti_labels(folder / "meshes.mat", image.shape, t)
        for t, image in zip(frames, images, strict=True)
    ]
    return _examples(list(zip(images, truth, strict=True)), ["Caulobacter"] * len(frames))


def _colicoords(data: Path, channel: str) -> Examples:
    folder = data / "colicoords_brightfield"
    names = sorted(path.name for path in (folder / "binary").glob("*.tif"))
    pairs = [(_gray(folder / channel / n), io.imread(folder / "binary" / n)) for n in names]
    return _examples(pairs, names)


def _examples(pairs: list[tuple[np.ndarray, np.ndarray]], movies: list[str]) -> Examples:
    return Examples(
        tuple(image[np.newaxis] for image, _ in pairs),
        tuple(labels.astype(np.uint32) for _, labels in pairs),
        tuple(movies),
    )


def _gray(path: Path) -> np.ndarray:
    """Read an image (Y, X); the mean of the colours where it has any."""
    image = io.imread(path)
    return image[..., :3].mean(axis=-1) if image.ndim == 3 else image


def oufti_labels(path: Path, shape: tuple[int, int], frame: int = 0) -> np.ndarray:
    """Draw the outlines of an Oufti file as labels (Y, X) with Oufti's cell numbers."""
    labels = np.zeros(shape, np.uint32)
    for number, outline in _outlines(path, frame):
        labels[polygon2mask(shape, outline) & (labels == 0)] = number
    return labels


def _outlines(path: Path, frame: int) -> Iterator[tuple[int, np.ndarray]]:
    cells = _cell_list(path)
    meshes, ids = np.atleast_1d(cells.meshData), np.atleast_1d(cells.cellId)
    if not hasattr(meshes[0], "_fieldnames"):  # one entry a frame; a single frame is squeezed
        meshes, ids = np.atleast_1d(meshes[frame]), np.atleast_1d(ids[frame])
    for cell, number in zip(meshes, ids, strict=True):
        mesh = np.atleast_2d(getattr(cell, "mesh", []))
        if mesh.shape[0] >= 4 and mesh.shape[1] == 4:  # lost cells keep an empty mesh
            around = np.vstack([mesh[:, :2], mesh[::-1, 2:]]) - 1.0  # MATLAB counts from 1
            yield int(number), around[:, ::-1]


@cache
def _cell_list(path: Path) -> Any:
    return scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)["cellList"]


def oufti_ancestors(path: Path) -> dict[int, int]:
    """The mother of each cell of an Oufti file that has one."""
    cells = _cell_list(path)
    return {
        int(number): int(np.atleast_1d(cell.ancestors)[-1])
        for ids, frame in zip(cells.cellId, cells.meshData, strict=True)
        for number, cell in zip(np.atleast_1d(ids), np.atleast_1d(frame), strict=True)
        if len(np.atleast_1d(cell.ancestors))
    }
