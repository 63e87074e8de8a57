"""``cypose-dask verify`` as a user types it."""

from __future__ import annotations

import numpy as np
import pytest

from cypose_dask.results import export_tif
from cypose_dask.results.writing import write_block
from cypose_dask.run import segment


@pytest.fixture
def finished(movie, client, tmp_path):
    """A sound result and its TIF: the store's path."""
    export_tif(segment(movie, tmp_path / "m.zarr", client=client), tmp_path / "m.tif")
    return tmp_path / "m.zarr"


def test_a_sound_result_exits_with_0(cli, finished):
    code, out, err = cli("verify", finished, "--frames", "1", "--seed", "4")
    assert (code, err) == (0, "")
    assert out == f"verified  {finished}: no fault found\n"


def test_faults_are_lines_and_the_code_is_1(cli, finished):
    first = np.zeros((1, 1, 64, 64), np.uint32)
    write_block(finished, (0, 0), {"labels": first})
    code, out, err = cli("verify", finished, "--frames", "0")
    assert code == 1
    assert "3 faults found" in out
    lines = err.splitlines()
    assert [line.split()[0] for line in lines] == ["fault"] * 3
    assert "frame t=0 position=0 z=0: found labels up to 0; expected" in lines[0]
    assert "m.tif: found page 0" in err


def test_notes_are_shown_and_the_code_is_0(cli, finished, tmp_path):
    (tmp_path / "m.tif").unlink()
    code, out, err = cli("verify", finished, "--frames", "0")
    assert (code, err) == (0, "")
    assert out.startswith("note      ")
    assert "no TIF beside it" in out


def test_named_files_are_taken(cli, finished, nd2_path, tmp_path):
    (tmp_path / "m.tif").rename(tmp_path / "other.tif")
    code, out, _ = cli(
        "verify", finished, "--tif", tmp_path / "other.tif", "--movie", nd2_path, "--frames", "1"
    )
    assert code == 0
    assert "note" not in out
    code, _, err = cli("verify", finished, "--movie", tmp_path / "gone.nd2", "--frames", "1")
    assert code == 1
    assert "gone.nd2" in err


def test_what_is_not_there_is_wrong_usage(cli, tmp_path):
    code, _, err = cli("verify", tmp_path / "nothing.zarr")
    assert code == 2
    assert "does not exist" in err
