"""What a run of `cypose-dask segment` on a small movie has left on the disk at a moment."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cypose_dask.results import Status, open_result
from helpers.small_movies import labels_of_movie

__all__ = ["SmallRun"]


@dataclass(frozen=True)
class SmallRun:
    """A run on a movie of `n_frames` frames, a block each, that writes `tif`."""

    movie: Path
    tif: Path
    n_frames: int

    @property
    def arguments(self) -> list[str]:
        """What `cypose-dask segment` is given."""
        return [str(self.movie), "-o", str(self.tif), "--frames-per-block", "1"]

    def lines(self) -> list[str]:
        """Return the whole lines of the journal; a torn one has no end."""
        journal = self.tif.with_suffix(".journal.jsonl")
        text = journal.read_text() if journal.exists() else ""
        return text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]

    def records(self) -> list[dict[str, Any]]:
        """Return the lines of the journal, read."""
        return [json.loads(line) for line in self.lines()]

    def workers(self) -> set[str]:
        """Return the addresses of the workers that finished a block."""
        return {record["worker"] for record in self.records()}

    def assert_whole(self, before: list[str]) -> None:
        """All labels are the serial ones, and no block that the journal had was done again."""
        expected, result = (
            labels_of_movie(self.n_frames),
            open_result(self.tif.with_suffix(".zarr")),
        )
        np.testing.assert_array_equal(np.asarray(result.labels()[:, 0]), expected)
        np.testing.assert_array_equal(tifffile.imread(self.tif), expected)
        assert (result.status() == Status.DONE).all()
        assert self.lines()[: len(before)] == before
        blocks = Counter(record["block"]["start"] for record in self.records())
        assert blocks == dict.fromkeys(range(self.n_frames), 1)
