"""``cypose-dask measure``."""

from __future__ import annotations

import pandas as pd

from cypose_dask.results import Status
from helpers.handed_on import hand_on

DONE, FAILED = int(Status.DONE), int(Status.FAILED)


def test_measure_writes_a_table_and_says_where(cli, tmp_path):
    made = hand_on(tmp_path, counts=[1, 2, 3, 4])
    code, out, err = cli("measure", made.result.path)
    path = tmp_path / "movie_cells.parquet"
    assert (code, err) == (0, "")
    assert out.splitlines() == ["measured  10 cells, not linked", f"table     {path}"]
    assert len(pd.read_parquet(path)) == 10


def test_measure_names_the_frames_without_rows(cli, tmp_path):
    made = hand_on(tmp_path, counts=[1, 2, 3, 4], status=[DONE, FAILED, DONE, DONE])
    code, out, err = cli("measure", made.result.path, "-o", tmp_path / "x.csv", "--workers", 1)
    assert code == 1
    assert "8 cells" in out
    assert "p=0, t 1: failed, no rows" in err


def test_measure_needs_the_movie_unless_told(cli, tmp_path):
    made = hand_on(tmp_path)
    made.movie.unlink()
    code, _, err = cli("measure", made.result.path)
    assert code != 0
    assert "--movie" in err
    assert cli("measure", made.result.path, "--no-intensities")[0] == 0


def test_measure_refuses_other_endings(cli, tmp_path):
    made = hand_on(tmp_path)
    code, _, err = cli("measure", made.result.path, "-o", tmp_path / "x.txt")
    assert code != 0
    assert "ends in .csv or .parquet" in err
