"""Small movies of cells with known identities, to be linked."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from skimage.segmentation import relabel_sequential

from cypose_dask.results.linking import LINKERS, LinkedCells, frame_overlaps

SHAPE = (40, 60)


def frame(boxes: dict[int, tuple[int, int, int, int]], shape=SHAPE) -> np.ndarray:
    """Labels (Y, X) of boxes (first row, first column, rows, columns) by their numbers."""
    labels = np.zeros(shape, np.uint32)
    for number, (y, x, height, width) in boxes.items():
        labels[y : y + height, x : x + width] = number
    return labels


def renumbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number cells from 1; return the labels, and who they were, that of label 1 first."""
    new, _, old = relabel_sequential(labels.astype(np.int64))
    return new.astype(np.uint32), np.asarray(old)[1 : new.max() + 1]


def link(frames: Iterable[np.ndarray], *, gap=1, linker="overlap") -> LinkedCells:
    """Link frames of labels 1..N; None stands for a frame without labels."""
    held = {t: labels for t, labels in enumerate(frames) if labels is not None}
    times = sorted(held)
    compared = [
        frame_overlaps(t, held[t], {u: held[u] for u in times[max(0, i - gap - 1) : i]})
        for i, t in enumerate(times)
    ]
    return LINKERS[linker](compared, gap)


def of_cells(linked: LinkedCells, who: list[np.ndarray]) -> dict[int, set[int]]:
    """The tracks that each cell has, given who the cells of each frame were."""
    found: dict[int, set[int]] = {}
    for t, cells in enumerate(who):
        for cell, track in zip(cells.tolist(), linked.of_frame(t).tolist(), strict=True):
            found.setdefault(cell, set()).add(track)
    return found


def link_known(frames: Iterable[np.ndarray], **how) -> tuple[dict[int, int], dict[int, int]]:
    """Link frames of steady numbers; return the track of each cell, and the mother of each.

    Raises if a cell has two tracks, or a track two cells.
    """
    labels, who = zip(*(renumbered(one) for one in frames), strict=True)
    linked = link(labels, **how)
    tracks = of_cells(linked, list(who))
    assert all(len(one) == 1 for one in tracks.values()), tracks
    of = {cell: next(iter(one)) for cell, one in tracks.items()}
    assert len(set(of.values())) == len(of), of
    cell_of = {track: cell for cell, track in of.items()}
    mothers = {
        cell: cell_of[int(linked.parent[track - 1])]
        for cell, track in of.items()
        if linked.parent[track - 1]
    }
    return of, mothers
