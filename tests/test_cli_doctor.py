"""``cypose-dask doctor`` as a user types it."""

from __future__ import annotations

import os

import pytest

from cypose_dask.run import preflight
from cypose_dask.run.preflight import doctor


@pytest.fixture
def where(client):
    return ("--scheduler", client.scheduler.address)


def lines_of(out, word):
    return [line[10:] for line in out.splitlines() if line.startswith(f"{word:<10}")]


def test_without_a_cluster_this_machine_is_examined(cli, monkeypatch):
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    code, out, err = cli("doctor")
    assert (code, err) == (0, "")
    (process,) = lines_of(out, "process")
    assert process.startswith("this machine (")
    assert f"pid {os.getpid()}" in process
    assert lines_of(out, "device") == ["cpu"]
    assert "cellpose 3." in lines_of(out, "versions")[0]
    assert lines_of(out, "examined") == ["this machine: no fault found"]


def test_every_worker_of_a_cluster_is_examined(cli, client, where, nd2_path, tmp_path):
    code, out, err = cli("doctor", nd2_path, "-o", tmp_path / "new" / "labels.tif", *where)
    assert (code, err) == (0, "")
    processes = lines_of(out, "process")
    assert sorted(line.split()[0] for line in processes) == sorted(client.nthreads())
    assert lines_of(out, "output") == [f"{tmp_path} (can be written)"]
    assert lines_of(out, "input")[0].startswith(str(nd2_path))
    assert lines_of(out, "examined") == [f"{len(processes)} workers: no fault found"]
    assert list(tmp_path.iterdir()) == []


def test_the_environment_names_a_cluster(cli, client, monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", client.scheduler.address)
    assert len(lines_of(cli("doctor")[1], "process")) == len(client.nthreads())


def test_workers_are_started_where_they_are_asked_for(cli):
    code, out, _ = cli("doctor", "--workers", "1")
    assert code == 0
    assert lines_of(out, "process")[0].startswith("tcp://127.0.0.1:")
    assert f"pid {os.getpid()})" not in out


@pytest.mark.parametrize(
    ("output", "folder"), [("labels", "labels"), ("labels.tif", ""), ("a/b", "")]
)
def test_the_folder_is_the_one_that_segment_would_write(output, folder, cli, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels.tif").touch()  # of an earlier run
    _, out, _ = cli("doctor", "-o", tmp_path / output)
    assert lines_of(out, "output") == [f"{tmp_path / folder} (can be written)"]


def test_a_movie_that_does_not_open_is_a_fault(cli, tmp_path, nd2_path):
    broken = tmp_path / "broken.nd2"
    broken.write_bytes(nd2_path.read_bytes()[:300])
    code, out, err = cli("doctor", broken, nd2_path)
    assert code == 1
    assert err.startswith(f"fault     {broken}: found that it would be refused")
    assert lines_of(out, "examined") == ["this machine: 1 fault found"]


def test_a_movie_that_needs_options_is_a_note(cli, nd2_path, monkeypatch):
    from cypose_dask.errors import SettingsError

    def refuse(*_, **__):
        raise SettingsError("channels: give some.")

    monkeypatch.setattr(doctor, "make_plan", refuse)
    code, out, err = cli("doctor", nd2_path)
    assert (code, err) == (0, "")
    assert "refused: channels: give some; expected" in lines_of(out, "note")[0]


def test_memory_for_the_movies_blocks_is_looked_for(cli, nd2_path, monkeypatch):
    monkeypatch.setattr(doctor, "block_bytes", lambda plan: 10**15)
    code, _, err = cli("doctor", nd2_path)
    assert code == 1
    assert "expected at least the 1e+06 GB that a block takes" in err


def test_a_gpu_that_is_demanded_and_not_there_is_a_fault(cli):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("there is a GPU here")
    code, out, err = cli("doctor", "--gpu")
    assert code == 1
    assert "sees neither CUDA nor MPS" in err
    assert lines_of(out, "device") == ["failed"]


def test_a_scheduler_that_is_not_there_is_a_fault(cli):
    code, _, err = cli("doctor", "--scheduler", "nonsense://")
    assert code == 1
    assert err.startswith("fault     No Dask scheduler answers at nonsense://")


def test_workers_that_are_alike_share_their_lines(cli, where, monkeypatch):
    code, out, _ = cli("doctor", *where)
    assert code == 0
    assert len(lines_of(out, "process")) == 2
    assert len(lines_of(out, "versions")) == 1


def test_a_worker_without_facts_is_a_fault(cli, client, where, monkeypatch):
    gone = preflight.Answer(where="tcp://gone", threads=1, facts=OSError("lost"))
    monkeypatch.setattr(preflight, "ask", lambda *_: [gone])
    code, out, err = cli("doctor", *where)
    assert code == 1
    assert "fault     tcp://gone: found OSError: lost; expected an answer within 30 s" in err
    assert lines_of(out, "examined") == ["1 worker: 1 fault found"]
