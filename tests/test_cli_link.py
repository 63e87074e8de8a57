"""``cypose-dask link`` and ``segment --link``."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cypose_dask.results import Status
from helpers.handed_on import hand_on
from helpers.results import write_result

FAILED = int(Status.FAILED)


def test_link_says_what_it_found_and_where(cli, tmp_path):
    made = hand_on(tmp_path, counts=[1, 1, 1, 1])
    code, out, err = cli("link", made.result.path)
    assert code == 0
    assert out.splitlines() == [
        "linked    1 track of 1 lineage, 0 divisions",
        f"tracks    {tmp_path / 'movie_tracks.parquet'}",
        f"lineages  {tmp_path / 'movie_lineages.csv'}",
        f"growth    {tmp_path / 'movie_growth.csv'}",
    ]
    assert err == ""


def test_link_names_the_frames_that_it_passed_over_and_what_is_unknown(cli, tmp_path):
    labels = np.ones((3, 1, 1, 8, 9), np.uint32)
    status = np.array([[1], [FAILED], [1]], np.uint8)
    write_result(tmp_path / "movie.zarr", labels, status=status, interval_s=None)
    code, out, err = cli("link", tmp_path / "movie.zarr", "--gap", 0)
    assert code == 1
    assert "1 track of 1 lineage" in out
    assert "does not say its time between frames; columns that need it are empty" in err
    assert "p=0, t 1: failed, passed over" in err


def test_tracks_are_exported(cli, tmp_path):
    made = hand_on(tmp_path, counts=[1, 1, 1, 1])
    code, _, err = cli("export", made.result.path, "--to", "ctc")
    assert code == 2
    assert "cypose-dask link" in err
    assert cli("link", made.result.path)[0] == 0
    assert cli("export", made.result.path, "--to", "ctc")[0] == 0
    assert cli("export", made.result.path, "--ids", "track")[0] == 0


@pytest.mark.parametrize("name", ["movie.nd2", "no.zarr"])
def test_what_is_no_result_is_refused(cli, tmp_path, nd2_path, name):
    (tmp_path / "movie.nd2").symlink_to(nd2_path)
    code, _, err = cli("link", tmp_path / name)
    assert code == 2
    assert name in err


def test_segment_links_on_request(cli, tmp_path, nd2_path):
    code, out, _ = cli("segment", nd2_path, "-o", tmp_path / "labels.tif", "--link")
    assert code == 0
    assert f"growth    {tmp_path / 'labels_growth.csv'}" in out
    curves = pd.read_csv(tmp_path / "labels_growth.csv")
    assert sorted(set(curves["t"])) == list(range(5))
