"""Files and folders appear whole or not at all."""

import errno
import json
import os

import pytest

from cypose_dask.errors import ResultError
from cypose_dask.results import atomic
from cypose_dask.results.atomic import whole_file, whole_folder, write_json


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "x.tif"
    with whole_file(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
        assert partial.name.endswith(".partial")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt(), ValueError()])
def test_a_failed_file_leaves_nothing_and_keeps_the_older_one(tmp_path, error):
    path = tmp_path / "x.tif"
    path.write_text("older")
    with pytest.raises(type(error)), whole_file(path) as partial:  # noqa: PT012
        partial.write_text("half")
        raise error
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_synced_before_it_gets_its_name_and_its_folder_after(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(atomic, "fsync_path", lambda p: done.append((p.name, path.exists())))
    path = tmp_path / "x.tif"
    with whole_file(path) as partial:
        partial.write_text("whole")
    assert done == [(partial.name, False), (tmp_path.name, True)]


def test_two_writers_of_one_file_do_not_share_a_temporary_name(tmp_path):
    with whole_file(tmp_path / "x") as first, whole_file(tmp_path / "x") as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert (tmp_path / "x").read_text() == "1"


def test_a_folder_in_the_place_of_a_file_is_refused_before_any_work(tmp_path):
    with pytest.raises(ResultError, match="is a folder"), whole_file(tmp_path):
        pytest.fail("work began")


def test_a_folder_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "x.zarr"
    with whole_folder(path) as partial:
        (partial / "inside").mkdir(parents=True)
        assert not path.exists()
    assert (path / "inside").is_dir()
    assert list(tmp_path.iterdir()) == [path]


def test_everything_in_a_folder_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(atomic, "fsync_path", lambda p: synced.append((p.name, path.exists())))
    path = tmp_path / "x.zarr"
    with whole_folder(path) as partial:
        (partial / "inside").mkdir(parents=True)
        (partial / "inside" / "file").touch()
    before = {(name, False) for name in ("inside", "file", partial.name)}
    assert set(synced) == before | {(tmp_path.name, True)}


def test_a_failed_folder_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "x") as partial:  # noqa: PT012
        partial.mkdir()
        (partial / "file").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.touch()])
def test_an_existing_folder_is_refused_before_any_work(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(ResultError, match="exists already"), whole_folder(tmp_path / "x"):
        pytest.fail("work began")


def test_json_is_written_whole(tmp_path):
    write_json(tmp_path / "x.json", {"µ": [1, 2.5, None]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"µ": [1, 2.5, None]}
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"no": object()})
    assert list(tmp_path.iterdir()) == [tmp_path / "x.json"]
    assert json.loads((tmp_path / "x.json").read_text()) == {"µ": [1, 2.5, None]}


def test_folders_that_cannot_be_synced_are_left_but_files_are_not(tmp_path, monkeypatch):
    def refuse(handle):
        raise OSError(errno.EINVAL, "network disk")

    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "fsync", refuse)
    atomic.fsync_path(tmp_path)
    with pytest.raises(OSError, match="network disk"):
        atomic.fsync_path(tmp_path / "file")
