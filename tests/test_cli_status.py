"""``cypose-dask status``: what the zarr and the journal know, and which frames have no labels."""

from __future__ import annotations

import json
import logging
import os
import shutil

import numpy as np
import pytest

from cypose_dask.results import Status, open_result
from cypose_dask.results.naming import journal_of, lock_of
from cypose_dask.results.writing import write_status
from cypose_dask.run.journal import Journal
from cypose_dask.run.lock import locked
from cypose_dask.run.plan import Block
from cypose_dask.run.record import BlockRecord, FrameRecord
from helpers.results import make_labels, write_result

ERRORS = {Status.FAILED: "RuntimeError: lightning", Status.DAMAGED: "the file ends early"}


def journal_line(first, statuses, *, position=0, cells=7):
    """A record of a block of one plane that begins at frame `first` of the movie."""
    frames = tuple(
        FrameRecord(t=first + i, z=0, status=s, error=ERRORS.get(s), cells=cells * (s == 1))
        for i, s in enumerate(statuses)
    )
    block = Block(position, first, first + len(statuses))
    return BlockRecord(block=block, frames=frames, checksum="ab")


def write_run(path, statuses, *, in_zarr=(), positions=1):
    """A result of one position in blocks of one frame: its journal, and what the zarr has of it."""
    count = len(statuses)
    stored = np.array([*in_zarr, *[0] * (count - len(in_zarr))], np.uint8)[:, None]
    labels = make_labels(t=count, p=positions)
    cells = np.full((count, 1), 7) * (stored == Status.DONE)
    write_result(path, labels, status=stored, cells=cells, frames_per_block=1)
    for t, status in enumerate(statuses):
        if status:
            Journal(journal_of(path)).append(journal_line(t, [status]))
    return path


def status_json(cli, *args):
    code, out, _ = cli("status", *args, "--json")
    return code, json.loads(out)


def test_a_whole_result_is_shown_and_the_exit_code_is_0(cli, tmp_path):
    path = write_run(tmp_path / "m.zarr", [1, 1, 1], in_zarr=[1, 1, 1])
    code, out, err = cli("status", path)
    assert code == 0
    assert "3 done, 0 pending, 0 failed, 0 damaged; 21 cells" in out
    assert str(path) in out
    assert "none goes on" in out
    assert err == ""


def test_the_journal_of_a_killed_run_knows_more_than_its_zarr(cli, tmp_path):
    path = write_run(tmp_path / "m.zarr", [1, 1, 2, 3, 0], in_zarr=[1])
    code, (found,) = status_json(cli, path)
    assert code == 1
    (position,) = found["positions"]
    assert position["done"] == 2
    assert (position["pending"], position["failed"], position["damaged"]) == (1, 1, 1)
    assert position["cells"] == 14


def test_frames_that_the_journal_lacks_are_as_the_zarr_says(cli, tmp_path):
    path = write_run(tmp_path / "m.zarr", [0, 0, 2], in_zarr=[1, 3])
    _, (found,) = status_json(cli, path)
    (position,) = found["positions"]
    assert (position["done"], position["failed"], position["damaged"]) == (1, 1, 1)
    assert position["cells"] == 7


def test_failed_and_damaged_frames_are_listed_with_their_reasons(cli, tmp_path):
    path = write_run(tmp_path / "m.zarr", [1, 2, 3])
    code, _, err = cli("status", path)
    assert code == 1
    assert "2 frames have no labels" in err
    assert "t=1 position=0 z=0: failed: RuntimeError: lightning" in err
    assert "t=2 position=0 z=0: damaged: the file ends early" in err
    assert "--allow-incomplete" in err


def test_a_long_list_is_cut_on_the_terminal_and_whole_in_json(cli, tmp_path):
    path = write_run(tmp_path / "m.zarr", [2] * 12)
    _, _, err = cli("status", path)
    assert "t=9 " in err
    assert "t=10 " not in err
    assert "--json lists all of them" in err
    _, (found,) = status_json(cli, path)
    assert [frame["t"] for frame in found["frames_not_done"]] == list(range(12))
    assert found["frames_not_done"][3] == {
        "t": 3, "position": 0, "z": 0, "status": "failed", "reason": ERRORS[Status.FAILED],
    }  # fmt: skip


def test_frames_are_numbered_as_in_the_movie(cli, tmp_path):
    path = tmp_path / "m.zarr"
    pending = np.zeros((3, 1), np.uint8)
    write_result(path, make_labels(t=3), status=pending, start_frame=20, frames_per_block=1)
    Journal(journal_of(path)).append(journal_line(21, [2]))
    _, (found,) = status_json(cli, path)
    assert found["positions"][0]["failed"] == 1
    assert found["frames_not_done"][0]["t"] == 21
    assert found["frames_not_done"][0]["reason"] == ERRORS[Status.FAILED]


def test_each_position_has_its_own_counts(cli, tmp_path):
    path = tmp_path / "m.zarr"
    result = write_result(path, make_labels(t=2, p=2))
    write_status(path, 1, np.array([[1], [0]], np.uint8), np.array([[5], [0]], np.uint32))
    code, (found,) = status_json(cli, path)
    assert code == 1
    assert [p["done"] for p in found["positions"]] == [2, 1]
    assert [p["name"] for p in found["positions"]] == list(result.layout.position_names)
    assert found["positions"][1]["cells"] == 5


def test_several_results_and_folders_of_them_are_shown_once(cli, tmp_path):
    first = write_run(tmp_path / "a.zarr", [1], in_zarr=[1])
    second = write_run(tmp_path / "deep" / "b.zarr", [1, 0])
    (tmp_path / "movie.zarr").mkdir()  # no result
    code, found = status_json(cli, tmp_path, first)
    assert [f["result"] for f in found] == [str(first), str(second)]
    assert [f["whole"] for f in found] == [True, False]
    assert code == 1


def test_a_result_whose_metadata_are_lost_is_not_passed_over(cli, tmp_path):
    good = write_run(tmp_path / "a.zarr", [1], in_zarr=[1])
    bad = write_run(tmp_path / "b.zarr", [1], in_zarr=[1])
    (bad / "zarr.json").write_bytes(b"")
    code, out, err = cli("status", tmp_path)
    assert code == 1
    assert str(good) in out
    assert "1 done" in out
    assert "b.zarr: no result of cypose-dask" in err
    _, found = status_json(cli, tmp_path)
    assert "no result" in found[1]["error"]


def test_a_folder_without_results_is_an_error(cli, tmp_path):
    code, _, err = cli("status", tmp_path)
    assert code == 2
    assert "holds no result" in err


def test_a_run_that_goes_on_is_shown_and_one_that_died_is_not(cli, tmp_path):
    path = write_run(tmp_path / "m.zarr", [1, 0])
    with locked(path):
        alive = json.loads(lock_of(path).read_text())
        assert f"process {os.getpid()} on " in cli("status", path)[1]
        assert status_json(cli, path)[1][0]["run"].startswith(f"process {os.getpid()} on ")
    lock_of(path).write_text(json.dumps({**alive, "pid": 2**22 + 1}))
    assert status_json(cli, path)[1][0]["run"] is None


def test_a_torn_line_is_no_trouble(cli, tmp_path, caplog):
    path = write_run(tmp_path / "m.zarr", [1, 2])
    with journal_of(path).open("a") as file:
        file.write('{"block": {"pos')
    with caplog.at_level(logging.CRITICAL):
        _, (found,) = status_json(cli, path)
    assert (found["positions"][0]["done"], found["positions"][0]["failed"]) == (1, 1)


STRAYS = {
    "later than the last": journal_line(9, [1]),
    "before the first": journal_line(-1, [1]),
    "another position": journal_line(0, [1], position=3),
    "a position before the first": journal_line(0, [1], position=-1),
    "an unknown status": journal_line(0, [9]),
    "negative cells": journal_line(0, [1], cells=-1),
    "too many cells": journal_line(0, [1], cells=2**32),
    "text for a position": BlockRecord(block=Block("../x", 0, 1), frames=(), checksum=""),
    "a list for a checksum": BlockRecord(block=Block(0, 0, 1), frames=(), checksum=[]),
    "text for a frame": BlockRecord(
        block=Block(0, 0, 1), frames=(FrameRecord(t="0", z=0, status=1),), checksum=""
    ),
}


@pytest.mark.parametrize("what", STRAYS)
def test_a_journal_of_something_else_is_refused(what, cli, tmp_path):
    path = write_run(tmp_path / "m.zarr", [1, 1])
    Journal(journal_of(path)).append(STRAYS[what])
    code, _, err = cli("status", path)
    assert code == 1
    assert "belongs to another result" in err


def test_names_inside_a_result_do_not_command_the_terminal(cli, tmp_path):
    path = tmp_path / "m.zarr"
    write_result(path, make_labels(t=1), position_names=("\x1b[2Jgone\n",))
    _, out, _ = cli("status", path)
    assert "\x1b" not in out
    assert "[2Jgone" in out


def test_status_changes_nothing(cli, tmp_path):
    path = write_run(tmp_path / "m.zarr", [1, 2, 0])
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    cli("status", path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    assert open_result(path).status().ravel().tolist() == [0, 0, 0]


def test_a_real_run_is_shown_with_movie_and_model(cli, movie, client, tmp_path):
    from cypose_dask.run import segment

    result = segment(movie, tmp_path / "m.zarr", client=client)
    code, (found,) = status_json(cli, tmp_path / "m.zarr")
    assert code == 0
    assert found["movie"] == movie.info.path
    assert found["model"] == result.attributes["plan"]["model"]["name"]
    assert len(found["model_sha256"]) == 64
    assert found["positions"][0]["cells"] == int(result.cells().sum())
