"""Before work, every worker is asked; what would fail a run is found, named and refused."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Timer

import psutil
import pytest

from cypose_dask.errors import RunError
from cypose_dask.models import resolve_model
from cypose_dask.run import connect, make_plan
from cypose_dask.run import preflight as room
from cypose_dask.run.preflight import Answer, Facts, Needs, Trial, asking, preflight, survey
from cypose_dask.run.preflight.compare import findings_of
from cypose_dask.settings import Settings
from helpers.cluster_processes import DASK, no_hang, running, running_cluster

FACTS = Facts(host="a", pid=1, versions=room.versions_here(), cores=1, memory_bytes=10**9)


def answer(where="tcp://a", facts=FACTS, **changes):
    facts = replace(facts, **changes) if changes else facts
    return Answer(where=where, threads=1, facts=facts)


def faults(findings):
    return [finding for finding in findings if finding.is_fault]


@pytest.fixture(scope="module")
def needs(movie, client, tmp_path_factory):
    """What a plan for the small movie needs, its result in a folder of its own."""
    return Needs.of(make_plan(movie, client=client), tmp_path_factory.mktemp("out"))


@contextmanager
def cluster_with_another_worker(folder, environment=None, prefix=()):
    """A cluster of an ordinary worker and one that is started differently: (client, its name)."""
    with running_cluster(folder) as cluster:
        where = ["--scheduler-file", str(cluster.scheduler_file), "--host", "127.0.0.1"]
        more = ["--name", "other", "--nthreads", "1", "--no-dashboard", "--no-nanny"]
        with (
            running([*prefix, DASK, "worker", *where, *more], environment),
            connect(scheduler_file=str(cluster.scheduler_file)) as client,
        ):
            client.wait_for_workers(2, timeout=60)
            workers = client.scheduler_info(n_workers=-1)["workers"]
            (other,) = [where for where, about in workers.items() if about["name"] == "other"]
            yield client, other


# A sound cluster


def test_a_sound_cluster_has_no_findings(client, needs):
    answers, findings = survey(client, needs)
    assert findings == []
    assert {one.where for one in answers} == set(client.nthreads())
    assert {one.facts.pid for one in answers} == set(client.run(os.getpid).values())


def test_what_a_plan_needs_is_tried(client, needs):
    for one in survey(client, needs)[0]:
        kinds = [trial.kind for trial in one.facts.trials]
        assert kinds == ["device", "runtime", "cache", "weights", "input", "output"]
        assert all(trial.seen for trial in one.facts.trials)


def test_nothing_is_left_in_the_folder_of_outputs(client, needs):
    survey(client, needs)
    assert list(needs.folders[0].iterdir()) == []


def test_the_fingerprints_versions_are_needed(movie, client, tmp_path):
    plan = make_plan(movie, client=client)
    versions = {n: str(v) for n, v in plan.fingerprint().items() if n.endswith("version")}
    needed = Needs.of(plan, tmp_path).versions
    assert {f"{name} version": version for name, version in needed.items()} == versions
    assert {"label", "cellpose"} <= needed.keys()


def test_needs_are_small_when_they_are_sent(needs):
    assert len(pickle.dumps(needs)) < 4000


@pytest.mark.parametrize(("runtime", "imported"), [("openvino", {"openvino"}), ("winograd", set())])
def test_workers_import_torch_for_torch_only(movie, tmp_path, runtime, imported):
    pytest.importorskip("openvino")
    with connect(workers=1) as client:
        needs = Needs.of(make_plan(movie, Settings(runtime=runtime), client=client), tmp_path)
        assert survey(client, needs)[1] == []
        loaded = client.run(lambda: {"torch", "openvino"} & sys.modules.keys())
        assert set.union(*loaded.values()) == imported


def test_threads_of_this_process_are_asked_too(needs):
    with connect(processes=False) as client:
        (one,), findings = survey(client, needs)
    assert (one.facts.pid, findings) == (os.getpid(), [])


def test_this_process_can_be_asked_without_a_cluster(needs):
    (one,), findings = survey(None, needs)
    assert (one.where, one.facts.pid, findings) == ("this machine", os.getpid(), [])


# Real differences


def test_a_package_of_another_version_is_a_fault(needs, tmp_path):
    """An older cellpose before the real one on the path of one worker."""
    about = tmp_path / "site" / "cellpose-1.2.3.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text("Metadata-Version: 2.1\nName: cellpose\nVersion: 1.2.3\n")
    other_path = {"PYTHONPATH": str(about.parents[1])}
    with cluster_with_another_worker(tmp_path, other_path) as (client, other):
        _, (finding,) = survey(client, needs)
        assert (finding.where, finding.found) == (other, "cellpose 1.2.3")
        assert finding.is_fault
        with pytest.raises(RunError, match=f"{other}: found cellpose 1.2.3; expected"):
            preflight(client, needs)


def test_a_worker_without_this_package_is_a_fault(needs, tmp_path):
    """It has a `cypose_dask` that is nothing but a name."""
    (tmp_path / "site" / "cypose_dask").mkdir(parents=True)
    (tmp_path / "site" / "cypose_dask" / "__init__.py").touch()
    other_path = {"PYTHONPATH": str(tmp_path / "site")}
    with cluster_with_another_worker(tmp_path, other_path) as (client, other):
        answers, findings = survey(client, needs)
    (fault,) = faults(findings)
    assert fault.where == other
    assert "no cypose-dask that understands this one" in fault.found
    assert isinstance(next(a for a in answers if a.where != other).facts, Facts)


def test_a_cache_that_takes_no_files_is_a_note(needs, tmp_path):
    nowhere = {"CYPOSE_CACHE": "/dev/null/cache"}
    with cluster_with_another_worker(tmp_path, nowhere) as (client, other):
        _, (note,) = survey(client, needs)
        assert (note.where, note.is_fault) == (other, False)
        assert "/dev/null/cache" in note.found
        preflight(client, needs)  # goes on


def mounted(command: str) -> list[str]:
    """Return what starts a process that sees other file systems than this one."""
    begin = ["unshare", "--mount", "sh", "-ec", f'{command}; exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*begin, "true"], check=False).returncode:
        pytest.skip("this user may mount nothing")
    return begin


def test_another_folder_under_the_same_path_is_a_fault(needs, tmp_path):
    folder = needs.folders[0]
    prefix = mounted(f"mount -t tmpfs none '{folder}'")
    with cluster_with_another_worker(tmp_path, prefix=prefix) as (client, other):
        _, (fault,) = survey(client, needs)
    assert (fault.where, fault.is_fault) == (other, True)
    assert f"{folder} is another folder" in fault.found


def test_a_folder_that_one_worker_may_not_write_is_a_fault(needs, tmp_path):
    folder = needs.folders[0]
    prefix = mounted(f"mount --bind '{folder}' '{folder}'; mount -o remount,ro,bind '{folder}'")
    with cluster_with_another_worker(tmp_path, prefix=prefix) as (client, other):
        _, (fault,) = survey(client, needs)
    assert (fault.where, fault.is_fault) == (other, True)
    assert "Read-only file system" in fault.found


def test_a_movie_and_weights_that_one_worker_does_not_see_are_faults(needs, tmp_path):
    seen_here = shutil.copytree(Path(needs.movies[0].path).parent, tmp_path / "in")
    weights = shutil.copy(needs.models[0].path, seen_here / "weights")
    movie = replace(needs.movies[0], path=str(seen_here / Path(needs.movies[0].path).name))
    local = replace(needs, movies=(movie,), models=(resolve_model(weights),))
    prefix = mounted(f"mount -t tmpfs none '{seen_here}'")
    with cluster_with_another_worker(tmp_path, prefix=prefix) as (client, other):
        answers, findings = survey(client, local)
        with pytest.raises(RunError) as refused:
            preflight(client, local)
    assert [finding.where for finding in findings] == [other, other]
    assert [str(seen_here) in finding.found for finding in findings] == [True, True]
    assert str(refused.value).count(other) == 2
    (sound,) = [one.facts for one in answers if one.where != other]
    assert not any(trial.error for trial in sound.trials)


def test_a_movie_of_another_size_is_a_fault(needs, client, tmp_path):
    longer = shutil.copy(needs.movies[0].path, tmp_path)
    with Path(longer).open("ab") as file:
        file.write(b"more")
    _, (fault,) = survey(client, replace(needs, movies=(replace(needs.movies[0], path=longer),)))
    assert "has changed since it was opened" in fault.found
    assert all(where in fault.where for where in client.nthreads())


def test_weights_that_were_changed_are_a_fault(needs, client, tmp_path):
    weights = tmp_path / "weights"
    weights.write_bytes(b"other")
    model = replace(needs.models[0], path=str(weights))
    _, (fault,) = survey(client, replace(needs, models=(model,)))
    assert f"{weights} has the SHA-256" in fault.found


@pytest.mark.parametrize("inside", ["missing", "file/below"])
def test_a_folder_that_cannot_be_written_here_is_a_fault(inside, needs, client, tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / inside
    answers, (fault,) = survey(client, replace(needs, folders=(folder,)))
    assert fault.where == "this machine"
    assert str(folder) in fault.found
    assert len(answers) == len(client.nthreads())  # the rest is asked all the same


def test_a_gpu_that_is_not_there_is_a_fault(needs, client):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("there is a GPU here")
    _, (fault,) = survey(client, replace(needs, gpu=True))
    assert "sees neither CUDA nor MPS" in fault.found


def test_a_cluster_without_workers_is_a_fault(needs, tmp_path):
    with (
        running_cluster(tmp_path, workers=0) as cluster,
        connect(scheduler_file=str(cluster.scheduler_file)) as client,
    ):
        answers, (fault,) = survey(client, needs)
    assert (answers, fault.found, fault.is_fault) == ([], "no worker", True)


# Time


@pytest.mark.slow
def test_a_frozen_worker_holds_up_none(needs, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "_WAY_S", 1.0)
    with cluster_with_another_worker(tmp_path) as (client, other):
        survey(client, needs)  # imports what it needs
        process = psutil.Process(client.run(os.getpid)[other])
        process.send_signal(signal.SIGSTOP)
        answers, (fault,) = survey(client, replace(needs, patience_s=2.0))
        process.send_signal(signal.SIGCONT)
    assert (fault.where, fault.found) == (other, "no answer within 3 s")
    assert [isinstance(one.facts, Facts) for one in answers].count(True) == 1


def test_a_worker_that_leaves_meanwhile_is_no_finding(needs, tmp_path):
    """Workers may come and go, and a run goes on without them."""
    with cluster_with_another_worker(tmp_path) as (client, other):
        process = psutil.Process(client.run(os.getpid)[other])
        process.send_signal(signal.SIGSTOP)  # it is asked and does not answer
        killer = Timer(1.0, process.kill)
        killer.start()
        with no_hang(20):
            answers, findings = survey(client, needs)
        killer.join()
    assert findings == []
    assert other not in {one.where for one in answers}
    assert len(answers) == 1


def test_a_disk_that_hangs_is_named(needs, client, tmp_path):
    """Reading a pipe that nobody writes waits for ever."""
    pipe = tmp_path / "weights"
    os.mkfifo(pipe)
    model = replace(needs.models[0], path=str(pipe))
    _, (fault,) = survey(client, replace(needs, models=(model,), patience_s=1.0))
    with pipe.open("wb"):  # lets the threads of the workers go
        pass
    assert f"the weights {pipe} did not answer within 1 s" in fault.found


# Comparing


def test_the_versions_that_count_are_faults_and_others_are_notes():
    other = FACTS.versions | {"torch": "1.0", "dask": "0.1"}
    fault, note = findings_of(
        [answer(versions=other)], Needs(versions={"torch": FACTS.versions["torch"]})
    )
    assert (fault.is_fault, fault.found) == (True, "torch 1.0")
    assert (note.is_fault, note.found) == (False, "dask 0.1")


def test_a_version_that_a_worker_does_not_tell_is_unknown():
    older = {name: v for name, v in FACTS.versions.items() if name != "label"}
    (fault,) = findings_of([answer(versions=older)], Needs(versions={"label": "1"}))
    assert fault.found == "label unknown"


def test_a_device_of_another_kind_is_a_fault():
    on_gpu = answer(trials=(Trial(kind="device", seen="mps"),))
    assert findings_of([on_gpu], Needs(device="mps")) == []
    (fault,) = findings_of([on_gpu], Needs(device="cuda"))
    assert "computes on mps" in fault.found


def test_memory_that_does_not_hold_a_block_is_a_fault():
    assert findings_of([answer()], Needs(block_bytes=10**9)) == []
    (fault,) = findings_of([answer()], Needs(block_bytes=10**9 + 1))
    assert fault.is_fault
    assert "1 GB of memory" in fault.found


def test_workers_with_the_same_finding_share_it():
    poor = [answer(f"tcp://{i}") for i in range(5)]
    (fault,) = findings_of(poor, Needs(block_bytes=10**10))
    assert fault.where == "tcp://0, tcp://1, tcp://2 and 2 more"


def test_all_faults_are_named_and_notes_are_logged(needs, client, monkeypatch, caplog):
    other = FACTS.versions | {"dask": "0.1"}
    worse = [answer(memory_bytes=1), answer("tcp://b", RunError("gone")), answer(versions=other)]
    monkeypatch.setattr(room, "ask", lambda *_: worse)
    with pytest.raises(RunError) as refused:
        preflight(client, replace(needs, versions={}))
    assert "tcp://a: found 1e-09 GB" in str(refused.value)
    assert "tcp://b: found gone" in str(refused.value)
    assert "dask" not in str(refused.value)
    assert "tcp://a: found dask 0.1" in caplog.text
