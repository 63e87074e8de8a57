"""Converting on clusters that fail."""

from __future__ import annotations

import pytest

from cypose_dask.errors import RunError
from cypose_dask.run import connect, convert_movie
from helpers.faulty import deadly


def test_a_conversion_that_kills_its_workers_is_an_error_and_leaves_nothing(movie, tmp_path):
    with (
        connect(workers=1) as client,
        pytest.raises(RunError, match=r"workers died while it was converted.*run again"),
    ):
        convert_movie(deadly(movie, tmp_path, 2), tmp_path / "out" / "m.zarr", client=client)
    assert list((tmp_path / "out").iterdir()) == []


def test_workers_that_do_not_start_are_an_error(monkeypatch):
    import distributed

    def fail(**_):
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(distributed, "LocalCluster", fail)
    with pytest.raises(RunError, match=r"could not be started .*Nanny.*--workers"), connect():
        pass
