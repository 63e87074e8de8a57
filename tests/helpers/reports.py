"""Results with a journal, as a run leaves them, and what a report's page is made of."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np

from cypose_dask.results import Status
from cypose_dask.results.naming import journal_of
from cypose_dask.run.journal import Journal
from cypose_dask.run.plan import Block
from cypose_dask.run.record import BlockRecord, FrameRecord
from helpers.results import write_result

STAGES = {"read": 0.25, "forward": 1.5}


def disks(t=6, p=1, *, side=40, cells=4) -> np.ndarray:
    """Labels (T, P, 1, Y, X): squares of 5 x 5 px on a grid, away from the border."""
    labels = np.zeros((t, p, 1, side, side), np.uint32)
    for i in range(cells):
        y, x = 3 + 8 * (i // 4), 3 + 8 * (i % 4)
        labels[..., y : y + 5, x : x + 5] = i + 1
    return labels


def frame_record(labels, t, *, status=Status.DONE, **changes) -> FrameRecord:
    """What a worker says of one frame (Y, X) of labels."""
    if status != Status.DONE:
        return FrameRecord(t=t, z=0, status=int(status), **{"error": "lightning"} | changes)
    seen = {
        "cells": int(labels.max()),
        "covered_area": float((labels > 0).mean()),
        "mean_cellprob": 5.0 + t / 10,
        "flow_error": 0.1,
        "focus": 0.2,
        "seconds": STAGES,
    }
    return FrameRecord(t=t, z=0, status=1, **seen | changes)


def journaled(path, labels, *, odd=None, zarr_is_behind=False, start_frame=0, **changes):
    """Write labels (T, P, 1, Y, X) as a result with a journal.

    `odd` holds changes of frame records by (t, p) of the result.
    """
    odd = odd or {}
    count, positions = labels.shape[:2]
    path.parent.mkdir(exist_ok=True)
    status = np.zeros((count, 1), np.uint8) if zarr_is_behind else None
    result = write_result(path, labels, start_frame=start_frame, status=status, **changes)
    frames_per_block = result.layout.frames_per_block
    journal = Journal(journal_of(path))
    for p in range(positions):
        for first in range(0, count, frames_per_block):
            stop = min(first + frames_per_block, count)
            frames = tuple(
                frame_record(labels[t, p, 0], t + start_frame, **odd.get((t, p), {}))
                for t in range(first, stop)
            )
            block = Block(p, first + start_frame, stop + start_frame)
            journal.append(
                BlockRecord(block=block, frames=frames, checksum="ab", begun=1e9, seconds=2.0)
            )
    return result


class Page(HTMLParser):
    """A page's tags with their attributes, and the text in them."""

    def __init__(self, path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def having(self, name: str) -> list[str]:
        """Values of an attribute, wherever it is."""
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]

    def of_class(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.tags if name in (attrs.get("class") or "").split()]
