"""Frames without labels are named by position, plane and time."""

from __future__ import annotations

import numpy as np

from cypose_dask.results import Status
from cypose_dask.results.handoff import frames_without_labels
from cypose_dask.results.writing import write_status
from helpers.results import make_labels, write_result


def test_frames_without_labels_are_named_by_place_and_reason(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels(t=5, p=2, z=2), start_frame=10)
    assert frames_without_labels(result) == []
    status = np.ones((5, 2), np.uint8)
    status[1:4, 1], status[4, 0], status[4, 1] = Status.FAILED, Status.DAMAGED, Status.PENDING
    write_status(result.path, 1, status, result.cells(1))
    assert frames_without_labels(result) == [
        "p=1 z=0, t 14: damaged",
        "p=1 z=1, t 14: pending",
        "p=1 z=1, t 11-13: failed",
    ]
    assert frames_without_labels(result, [10, 12]) == ["p=1 z=1, t 12: failed"]
