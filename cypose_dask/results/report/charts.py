"""Which curves a report draws, and where their numbers come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from cypose_dask.results.report.content import Content, Shot
from cypose_dask.results.report.curves import Curve, Series

__all__ = ["charts"]

_JOURNAL = "every frame, from the journal"
_RESULT = "every frame, from the result"
_PICTURED = "pictured frames, from their labels"


def charts(content: Content) -> Iterator[Curve]:
    """Return the curves of a report, the unknown ones too."""
    area, unit = _area_unit(content.layout.pixel_size_um)
    yield _recorded(content, "cells", "Cell count", unit="")
    yield _covered(content)
    yield _measured(content, "Median cell area", unit, lambda shot: area * shot.sizes.median_area)
    yield _recorded(content, "mean_cellprob", "Mean cell probability", unit="logit inside cells")
    yield _recorded(content, "flow_error", "Flow error", unit="median of the cells")
    yield _recorded(content, "focus", "Focus", unit="variance of the Laplacian / variance")


def _area_unit(pixel_size_um: float | None) -> tuple[float, str]:
    return (pixel_size_um**2, "µm²") if pixel_size_um else (1.0, "px")


def _covered(content: Content) -> Curve:
    recorded = _recorded(content, "covered_area", "Covered area", unit="% of the frame", scale=100)
    if recorded.is_known:
        return recorded
    pixels = content.layout.height * content.layout.width
    return _measured(
        content, recorded.title, recorded.unit, lambda shot: 100 * shot.sizes.areas.sum() / pixels
    )


def _recorded(content: Content, name: str, title: str, *, unit: str, scale: float = 1) -> Curve:
    times = np.arange(content.layout.frames) + content.start_frame
    values = scale * content.numbers.over_time(name)
    names = content.layout.position_names
    series = tuple(Series(n, times, v) for n, v in zip(names, values, strict=True))
    source = _RESULT if name == "cells" else _JOURNAL
    planes = {True: "", False: "; sum of the planes" if name == "cells" else "; mean of the planes"}
    note = source + planes[content.layout.planes == 1]
    return Curve(title=title, unit=unit, series=series, dotted=False, note=note)


def _measured(content: Content, title: str, unit: str, measure: Callable[[Shot], float]) -> Curve:
    """Return a curve of the frames that are pictured and have labels."""
    series = tuple(
        _of_position(content, p, measure) for p in range(len(content.layout.position_names))
    )
    return Curve(title=title, unit=unit, series=series, dotted=True, note=_PICTURED)


def _of_position(content: Content, position: int, measure: Callable[[Shot], float]) -> Series:
    done = content.numbers.done[position]
    shots = [
        shot
        for shot in content.shots
        if shot.place[1] == position and done[shot.place[0], shot.place[2]]
    ]
    times = np.array([shot.place[0] for shot in shots], int) + content.start_frame
    values = np.array([measure(shot) for shot in shots], float)
    return Series(content.layout.position_names[position], times, values)
