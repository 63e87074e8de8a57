"""One run an output: who holds a lock, and when it may be taken over."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from threading import Event, Thread

import pytest

from cypose_dask.errors import ResultLockedError, RunError
from cypose_dask.results.naming import lock_of
from cypose_dask.run import lock as module
from cypose_dask.run import segment
from cypose_dask.run.lock import Lock, Owner, locked, owner_of


def check_until(lock, moment):
    while time.monotonic() < moment:
        lock.check()
        time.sleep(0.01)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "m.zarr"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.05)
    monkeypatch.setattr(module, "_SILENCE_S", 0.3)


def written_by(owner, store):
    lock_of(store).write_text(json.dumps(asdict(owner)))


def elsewhere():
    return Owner("other-host", 7, "other-host boot pid:[1]/7/1.00", "tokenofanother")


def zombie():
    """A process on this machine that has ended, and the owner that it was."""
    code = (
        "import json, dataclasses; from cypose_dask.run.lock import Owner;"
        "print(json.dumps(dataclasses.asdict(Owner.this_run())))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    return process, Owner(**json.loads(process.stdout.read()))


def dead_process():
    """An owner on this machine whose process has ended."""
    process, owner = zombie()
    process.communicate()
    assert process.returncode == 0
    return owner


def test_a_second_run_is_refused_and_told_by_whom(store):
    with locked(store), pytest.raises(ResultLockedError, match=r"m\.zarr is being .* process \d+"):
        Lock(lock_of(store)).take()


def test_a_lock_is_gone_after_its_run(store):
    with locked(store):
        assert owner_of(store).pid
        assert lock_of(store).exists()
    assert owner_of(store) is None
    assert list(store.parent.iterdir()) == []


def test_a_lock_is_gone_after_a_run_that_failed(store):
    with pytest.raises(ZeroDivisionError), locked(store):
        raise ZeroDivisionError
    assert not lock_of(store).exists()


def test_the_lock_of_a_dead_process_is_taken_over_at_once(store):
    written_by(dead_process(), store)
    assert owner_of(store) is None
    with locked(store):
        assert owner_of(store).lives()


def test_a_dead_process_whose_parent_has_not_looked_holds_no_lock(store):
    process, owner = zombie()
    until = time.monotonic() + 10
    while owner.lives() and time.monotonic() < until:
        time.sleep(0.01)
    written_by(owner, store)
    with locked(store):
        assert owner_of(store).pid != owner.pid
    process.communicate()


def test_a_lock_that_somebody_deleted_ends_no_run(store, quick, caplog):
    with locked(store) as lock:
        lock_of(store).unlink()
        until = time.monotonic() + 10
        while "this run goes on" not in caplog.text:
            assert time.monotonic() < until
            time.sleep(0.01)
        lock.check()


def test_a_process_that_has_the_number_of_a_dead_one_is_not_its_owner(store):
    mine = Owner.this_run()
    host, pid, born = mine.process.rsplit("/", 2)
    assert mine.lives()
    assert not replace(mine, process=f"{host}/{pid}/{float(born) - 99:.2f}").lives()


def test_a_silent_lock_of_another_machine_is_taken_over(store, quick):
    written_by(elsewhere(), store)
    assert owner_of(store) == elsewhere()  # at first sight nobody can tell
    with locked(store):
        assert owner_of(store).lives()


def test_a_beating_lock_of_another_machine_is_refused(store, quick):
    written_by(elsewhere(), store)
    ended = Event()

    def beat():
        count = 0
        while not ended.wait(0.02):
            count += 1
            written_by(replace(elsewhere(), beat=count), store)

    beating = Thread(target=beat)
    beating.start()
    try:
        with pytest.raises(ResultLockedError, match="process 7 on other-host"):
            Lock(lock_of(store)).take()
    finally:
        ended.set()
        beating.join()


@pytest.mark.parametrize("text", ["", "{", "[" * 10**5, '{"host": 1, "pid": 2, "process": 3}'])
def test_a_lock_that_is_no_lock_is_taken_over(text, store, quick):
    lock_of(store).write_text(text)
    assert owner_of(store) is None
    with locked(store):
        pass
    assert not lock_of(store).exists()


def test_a_lock_beats(store, quick):
    with locked(store):
        first = owner_of(store).beat
        until = time.monotonic() + 10
        while owner_of(store).beat == first:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_run_that_lost_its_lock_stops_and_leaves_the_other_alone(store, quick):
    with locked(store) as lock:
        lock.check()
        written_by(elsewhere(), store)
        with pytest.raises(RunError, match="another run has taken"):
            check_until(lock, time.monotonic() + 10)
    assert json.loads(lock_of(store).read_text())["token"] == "tokenofanother"


def test_of_many_that_find_a_dead_lock_one_takes_it(store):
    written_by(dead_process(), store)
    taken, refused, locks = [], [], [Lock(lock_of(store)) for _ in range(8)]

    def take(lock):
        try:
            lock.take()
            taken.append(lock)
        except ResultLockedError:
            refused.append(lock)

    threads = [Thread(target=take, args=(lock,)) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (1, 7)
    taken[0].release()
    assert list(store.parent.iterdir()) == []


def test_a_claim_that_was_left_behind_is_removed(store, quick):
    dead = dead_process()
    written_by(dead, store)
    lock_of(store).with_name(f"m.lock.{dead.token}.partial").touch()
    with locked(store):
        assert owner_of(store).lives()
    assert list(store.parent.iterdir()) == []


def test_segment_holds_the_lock(movie, client, tmp_path):
    seen = []

    def second(*_):
        with pytest.raises(ResultLockedError) as refused:
            segment(movie, tmp_path / "m.zarr", client=client)
        seen.append(str(refused.value))

    segment(movie, tmp_path / "m.zarr", client=client, progress=second)
    assert seen
    assert not lock_of(tmp_path / "m.zarr").exists()
