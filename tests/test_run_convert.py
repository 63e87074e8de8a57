"""Converting on clusters that fail."""

from __future__ import annotations

import time

import numpy as np
import pytest
import tifffile

from cypose_dask.errors import RunError
from cypose_dask.movies import open_movie
from cypose_dask.run import connect, convert, convert_movie
from helpers.cluster_processes import wait_until
from helpers.faulty import deadly


def test_a_conversion_that_kills_its_workers_is_an_error_and_leaves_nothing(movie, tmp_path):
    with (
        connect(workers=1) as client,
        pytest.raises(RunError, match=r"workers died while it was converted.*run again"),
    ):
        convert_movie(deadly(movie, tmp_path, 2), tmp_path / "out" / "m.zarr", client=client)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch):
    """Its workers, which write on for a while, do not make the folder again."""
    import distributed

    path, out = tmp_path / "movie.tif", tmp_path / "out"
    noise = np.random.default_rng(0).integers(0, 9999, (240, 512, 512), np.uint16)
    tifffile.imwrite(path, noise, imagej=True, metadata={"axes": "TYX"})

    def interrupt(futures):
        wait_until(lambda: any(file.is_file() for file in out.rglob("c/*/*/*/*/*")))
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "_SHARD_BYTES", 20 * noise[0].nbytes)
    monkeypatch.setattr(distributed, "wait", interrupt)
    with connect(workers=1) as client:
        with pytest.raises(KeyboardInterrupt):
            convert_movie(open_movie(path), out / "m.zarr", client=client)
        assert list(out.iterdir()) == []
        time.sleep(1.0)
        assert list(out.iterdir()) == []


def test_workers_that_do_not_start_are_an_error(monkeypatch):
    import distributed

    def fail(**_):
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(distributed, "LocalCluster", fail)
    with pytest.raises(RunError, match=r"could not be started .*Nanny.*--workers"), connect():
        pass
