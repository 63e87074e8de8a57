"""Linking by LapTrack (Fukai and Kawaguchi 2023), a well-kept tracker, on our overlaps.

It first links cells of neighbouring frames, and then whole tracks over gaps and divisions, each by
the linear assignment with the least cost. A cost here is one minus the share of the later cell that
lies in the earlier one, as in LapTrack's own `OverLapTrack`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from cypose_dask.errors import SettingsError
from cypose_dask.results.linking.cells import LinkedCells
from cypose_dask.results.linking.linker import link_by_overlap
from cypose_dask.results.linking.overlaps import FrameOverlaps

__all__ = ["link_by_laptrack"]

# A cell of which no more than this lies in another one is not that one.
_LEAST_SHARE = 0.1
# The costs of what is not linked, or not a division.
_ALTERNATIVES = (
    "track_start_cost",
    "track_end_cost",
    "segment_start_cost",
    "segment_end_cost",
    "no_splitting_cost",
)


def link_by_laptrack(frames: Iterable[FrameOverlaps], gap: int) -> LinkedCells:
    """Link the cells of a position; parameters as of `link_by_overlap`.

    Raises
    ------
    SettingsError
        If LapTrack is not installed.
    """
    try:
        from laptrack import LapTrack
    except ImportError as error:
        raise SettingsError(
            f"The linker laptrack needs the package laptrack ({error}). Install it "
            "(pip install 'cypose-dask[laptrack]'), or take the linker overlap."
        ) from error
    held = list(frames)
    if not any(len(frame.areas) for frame in held):  # it takes no movie without cells
        return link_by_overlap(held, gap)
    cost, most = _cost_between(held), 1 - _LEAST_SHARE
    # By default the costs of the alternatives are a percentile of the costs at hand, which forbids
    # divisions where few cells divide.
    alternatives: dict[str, Any] = dict.fromkeys(_ALTERNATIVES, most)
    tracker = LapTrack(
        metric=cost,
        cutoff=most,
        gap_closing_metric=cost,
        gap_closing_cutoff=most if gap else False,
        gap_closing_max_frame_count=gap + 1,  # from the last frame before it to the first after
        splitting_metric=cost,
        splitting_cutoff=most,
        **alternatives,
    )
    places = [_places(i, len(frame.areas)) for i, frame in enumerate(held)]
    return _linked(held, tracker.predict(places))


def _places(number: int, cells: int) -> np.ndarray:
    """Return what stands for coordinates: the number of the frame, and a label; (N, 2)."""
    return np.stack([np.full(cells, number), np.arange(1, cells + 1)], axis=1)


def _cost_between(frames: list[FrameOverlaps]) -> Callable[[np.ndarray, np.ndarray], float]:
    number = {frame.t: i for i, frame in enumerate(frames)}
    share: dict[tuple[int, ...], float] = {
        (number[t], before, i, after): pixels / int(frame.areas[after - 1])
        for i, frame in enumerate(frames)
        for t, overlaps in frame.before.items()
        for before, after, pixels in overlaps.rows()
    }

    def cost(one: np.ndarray, other: np.ndarray) -> float:
        # LapTrack asks for links in the order of time, and for divisions against it.
        earlier, later = sorted((tuple(map(int, one)), tuple(map(int, other))))
        return 1.0 - share.get((*earlier, *later), 0.0)

    return cost


def _linked(frames: list[FrameOverlaps], tree: Any) -> LinkedCells:
    """Follow LapTrack's tree, whose nodes are (number of the frame, number of the cell)."""
    track: dict[tuple[int, int], int] = {}
    origins: dict[int, tuple[int | None, int | None]] = {}
    cells = [(i, k) for i, frame in enumerate(frames) for k in range(len(frame.areas))]
    for cell in cells:
        before = next(iter(tree.predecessors(cell)), None)
        if before is not None and tree.out_degree(before) == 1:
            track[cell] = track[before]
        else:
            track[cell] = len(origins)
            origins[len(origins)] = (None if before is None else track[before], None)
    t = np.array([frames[i].t for i, _ in cells], np.int64)
    area = np.concatenate([np.zeros(0, np.int64), *(frame.areas for frame in frames)])
    return LinkedCells.numbered(t, np.array([track[c] for c in cells], np.int64), area, origins)
