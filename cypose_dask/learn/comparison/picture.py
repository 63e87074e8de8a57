"""The frame on which models differ most, with the outlines of each, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cypose_dask.learn.comparison.compare import ModelComparison
from cypose_dask.learn.frames.features import window_shares
from cypose_dask.results.preview import captioned, overlay, save_sheet

__all__ = ["save_comparison"]

_COLUMNS = 4
# Larger frames are cut to the square of this side with the most cells, or outlines vanish.
_LARGEST_PX = 512


def save_comparison(comparison: ModelComparison, path: str | Path) -> Path:
    """Draw the frame alone, the truth where there is one, and the outlines of each model.

    Parameters
    ----------
    comparison : ModelComparison
    path : str or Path
        The PNG. Models are in the order of their ranks; the first channel of each is drawn.

    Returns
    -------
    Path

    Raises
    ------
    ResultError
        If `path` is a folder.
    """
    panels = list(_panels(comparison))
    rows = [panels[i : i + _COLUMNS] for i in range(0, len(panels), _COLUMNS)]
    save_sheet(_stacked([_side_by_side(row) for row in rows]), path)
    return Path(path)


def _panels(comparison: ModelComparison) -> Iterator[NDArray[np.uint8]]:
    shot, labels = comparison.example.shot, comparison.example.labels
    part = _part([*labels, *([] if shot.truth is None else [shot.truth])])
    first = _channel(shot.frames[0], comparison.scores[0].variant.settings.channels)[part]
    yield captioned(overlay(first, np.zeros_like(labels[0][part])), shot.name)
    if shot.truth is not None:
        yield captioned(overlay(first, shot.truth[part]), f"truth: {_cells(shot.truth)}")
    for score, found in zip(comparison.scores, labels, strict=True):
        channel = _channel(shot.frames[0], score.variant.settings.channels)[part]
        place = "" if score.rank is None else f"{score.rank}. "
        caption = f"{place}{score.variant.name}: {_cells(found)}"
        yield captioned(overlay(channel, found[part]), caption)


def _cells(labels: NDArray[Any]) -> str:
    count = len(np.unique(labels[labels > 0]))
    return f"{count} cell{'' if count == 1 else 's'}"


def _channel(frame: NDArray[Any], channels: Any) -> NDArray[Any]:
    if isinstance(channels, tuple):
        return frame[int(channels[0])]
    return frame.mean(axis=0)


def _part(labels: Sequence[NDArray[Any]]) -> tuple[slice, slice]:
    """Return the square of a large frame where most cells are."""
    rows, columns = labels[0].shape
    side = min(rows, columns, _LARGEST_PX)
    if (side, side) == (rows, columns):
        return slice(None), slice(None)
    covered = np.mean([one > 0 for one in labels], axis=0, dtype=np.float32)
    shares = window_shares(covered, side)
    y, x = np.unravel_index(int(shares.argmax()), shares.shape)
    return slice(int(y), int(y) + side), slice(int(x), int(x) + side)


def _side_by_side(row: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.concatenate(row, axis=1)


def _stacked(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    width = max(row.shape[1] for row in rows)
    white = [((0, 0), (0, width - row.shape[1]), (0, 0)) for row in rows]
    return np.concatenate(
        [np.pad(row, pad, constant_values=255) for row, pad in zip(rows, white, strict=True)]
    )
