"""What earlier runs leave behind: their tasks, half a store, a journal that knows more."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import tifffile

from cypose_dask.errors import ResultError, RunError, RunStoppedError, SettingsError
from cypose_dask.results import Status, export_debug_tifs, export_tif, open_result
from cypose_dask.results.naming import journal_of, lock_of
from cypose_dask.results.writing import write_status
from cypose_dask.run import lock, segment, verify
from cypose_dask.run.journal import Journal
from cypose_dask.settings import RunOptions, Settings

ONE = RunOptions(frames_per_block=1)
DEBUG = RunOptions(frames_per_block=2, debug=True)
ARRAYS = ("labels/cells/0", "flows", "cellprob")


def labels_of(result):
    return np.asarray(result.labels()[:, 0])


def remove_shard(path, name, index):
    (file,) = (f for f in (path / "0" / name / "c" / str(index)).rglob("*") if f.is_file())
    file.unlink()


@pytest.fixture(scope="module")
def finished(movie, client, tmp_path_factory):
    """A finished result with flows, in a folder to be copied."""
    path = tmp_path_factory.mktemp("finished") / "m.zarr"
    return segment(movie, path, client=client, options=DEBUG).path


@pytest.fixture
def path(finished, tmp_path):
    """A copy of the finished result, to be spoiled."""
    shutil.copytree(finished, tmp_path / "m.zarr")
    shutil.copy(journal_of(finished), tmp_path)
    return tmp_path / "m.zarr"


def test_a_task_of_a_dead_client_changes_nothing_in_the_next_result(movie, client, tmp_path):
    """With a scheduler of its own, a killed client's tasks go on."""
    from cypose_dask.run.plan import make_plan
    from cypose_dask.run.worker import BlockTask, segment_block

    path = tmp_path / "m.zarr"
    settings, others = Settings(cellprob_threshold=-2.0), Settings(cellprob_threshold=3.0)
    plan = make_plan(movie, settings, ONE, client=client)
    late = BlockTask.of(plan, segment(movie, path, settings, client=client, options=ONE))
    result = segment(movie, path, others, client=client, options=replace(ONE, restart=True))
    before = labels_of(result)
    frames = plan.network_input.blocks(2, 3, 0, 1)
    with pytest.raises(ResultError, match="made anew"):
        frames.map_blocks(segment_block, late, dtype=object, meta=np.empty((0,) * 6)).compute(
            scheduler="sync"
        )
    np.testing.assert_array_equal(labels_of(open_result(path)), before)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_lost_file_is_refused_found_and_made_again(name, movie, client, path, finished):
    remove_shard(path, name, 1)
    export = export_tif if name == ARRAYS[0] else export_debug_tifs
    with pytest.raises(ResultError, match=rf"0/{name} has no file for the block of t=2"):
        export(path, path.with_name("m.tif"))
    assert any(f"no file of {name}" in str(finding) for finding in verify(path, frames=0))
    lines = len(list(Journal(journal_of(path)).read()))
    result = segment(movie, path, client=client, options=DEBUG)
    assert len(list(Journal(journal_of(path)).read())) == lines + 1
    for array in ("labels", "flows", "cellprob"):
        same = getattr(open_result(finished), array)()[:]
        np.testing.assert_array_equal(getattr(result, array)()[:], same)
    assert not [finding for finding in verify(path, frames=0) if finding.is_fault]


def test_a_stop_with_a_lost_file_leaves_its_frames_pending(movie, client, path):
    for index in range(3):
        remove_shard(path, "flows", index)
    stop = Event()
    stop.set()
    with pytest.raises(RunStoppedError, match="with 0 of 5 frames done"):
        segment(movie, path, client=client, options=DEBUG, stop=stop)
    assert (open_result(path).status() == Status.PENDING).all()


def test_a_stop_before_the_first_block_begins_none(movie, client, tmp_path):
    stop = Event()
    stop.set()
    with pytest.raises(RunStoppedError, match="with 0 of 5 frames done"):
        segment(movie, tmp_path / "m.zarr", client=client, options=ONE, stop=stop)
    assert not journal_of(tmp_path / "m.zarr").exists()


def test_an_export_knows_what_the_journal_knows(cli, path, finished):
    """A client that was killed wrote its journal, and not yet the zarr's status."""
    zeros = np.zeros((5, 1))
    write_status(path, 0, zeros.astype(np.uint8), zeros.astype(np.uint32))
    code, _, err = cli("export", path, "-o", path.with_name("m.tif"), "--allow-incomplete")
    assert (code, err) == (0, "")
    np.testing.assert_array_equal(
        tifffile.imread(path.with_name("m.tif")), labels_of(open_result(finished))
    )


def test_a_whole_result_can_be_exported_from_a_folder_that_nobody_may_write(path, monkeypatch):
    from cypose_dask.run import state

    monkeypatch.setattr(state, "locked", None)
    monkeypatch.setattr(state, "write_status", None)
    state.catch_up(open_result(path))


def test_a_store_needs_its_ending(movie, client, tmp_path):
    """Otherwise m and m.zarr would share a journal."""
    with pytest.raises(SettingsError, match=r"named m; name it m\.zarr"):
        segment(movie, tmp_path / "m", client=client)


@pytest.mark.parametrize("content", ["", "{", None])
def test_a_result_whose_metadata_are_broken_can_be_begun_again(content, movie, client, path):
    if content is None:
        (path / "zarr.json").unlink()
    else:
        (path / "zarr.json").write_text(content)
    with pytest.raises(ResultError, match="no result of cypose-dask"):
        segment(movie, path, client=client, options=DEBUG)
    result = segment(movie, path, client=client, options=replace(DEBUG, restart=True))
    assert (result.status() == Status.DONE).all()


def test_a_folder_of_somebody_else_is_never_deleted(movie, client, path):
    shutil.rmtree(path)
    (path / "0" / "labels" / "cells").mkdir(parents=True)
    (path / "zarr.json").write_text(json.dumps({"attributes": {"ome": {}}}))
    with pytest.raises(ResultError, match="not deleted"):
        segment(movie, path, client=client, options=replace(DEBUG, restart=True))
    assert (path / "zarr.json").exists()
    assert journal_of(path).exists()


def test_a_run_that_lost_its_lock_leaves_the_status_to_the_next_one(movie, client, tmp_path):
    path = tmp_path / "m.zarr"

    def lose_it(*_):
        (held,) = holders
        held.lost = True

    holders, patch = [], pytest.MonkeyPatch()
    take = lock.Lock.take
    with patch.context() as patched:
        patched.setattr(lock.Lock, "take", lambda self: (holders.append(self), take(self)))
        with pytest.raises(RunError, match="taken this result over"):
            segment(movie, path, client=client, options=ONE, progress=lose_it)
    assert len(list(Journal(journal_of(path)).read())) >= 1
    assert not open_result(path).status().any()


def test_a_disk_without_room_for_the_lock_says_so_and_leaves_none(movie, client, tmp_path):
    def full(self, owner):
        raise OSError(errno.ENOSPC, "No space left on device")

    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(lock, "_text", lambda owner: full(None, owner))
        with pytest.raises(RunError, match=r"could not be made .*No space left.* -o"):
            segment(movie, tmp_path / "m.zarr", client=client)
    assert not lock_of(tmp_path / "m.zarr").exists()


def test_a_clock_that_is_set_kills_no_owner(monkeypatch):
    import psutil

    owner = lock.Owner.this_run()
    born = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: born(self) + 3600)
    assert owner.lives()


def test_a_process_name_with_brackets_has_a_beginning(monkeypatch):
    import psutil

    text = "17 (odd) name (3) S " + " ".join(str(n) for n in range(4, 53))
    monkeypatch.setattr(Path, "read_text", lambda self: text)
    assert lock._born(psutil.Process()) == "22"
