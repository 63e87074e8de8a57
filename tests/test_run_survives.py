"""Workers that die, disks that hesitate, people who press Ctrl-C: nothing done is lost."""

from __future__ import annotations

import errno
from threading import Event

import numpy as np
import pytest
from distributed.comm import CommClosedError

from cypose_dask.errors import DeviceMemoryError, RunError, RunStoppedError
from cypose_dask.results import Status, open_result
from cypose_dask.results.naming import journal_of
from cypose_dask.run import alone, connect, retry, segment
from cypose_dask.run.journal import Journal
from cypose_dask.run.record import BlockRecord
from cypose_dask.settings import RunOptions
from helpers.faulty import deadly, flaky

ONE = RunOptions(frames_per_block=1)


def labels_of(result):
    return np.asarray(result.labels()[:, 0])


@pytest.fixture
def threads():
    """A cluster of one thread of this process."""
    with connect(processes=False, workers=1) as client:
        yield client


@pytest.mark.parametrize("frames_per_block", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_a_frame_that_kills_its_worker_fails_alone(
    frames_per_block, movie, expected_labels, tmp_path
):
    doomed = deadly(movie, tmp_path, 2)
    with connect(workers=2) as client:
        result = segment(
            doomed,
            tmp_path / "m.zarr",
            client=client,
            options=RunOptions(frames_per_block=frames_per_block),
        )
    assert result.status()[:, 0].tolist() == [1, 1, Status.FAILED, 1, 1]
    good = [0, 1, 3, 4]
    np.testing.assert_array_equal(labels_of(result)[good], expected_labels[good])
    assert not labels_of(result)[2].any()
    (reason,) = Journal(journal_of(result.path)).reasons().values()
    assert "was ended by SIGKILL (most likely the machine ran out of memory)" in reason
    # Two workers, and a child.
    assert len((tmp_path / "deaths-2").read_text()) == 3


@pytest.mark.slow
def test_a_block_that_kills_workers_even_alone_fails_and_the_run_ends(movie, tmp_path, monkeypatch):
    from cypose_dask.run.worker import BlockTask

    together = BlockTask.of
    monkeypatch.setattr(BlockTask, "of", lambda plan, store, alone: together(plan, store))
    with connect(workers=2) as client:
        result = segment(
            deadly(movie, tmp_path, 2), tmp_path / "m.zarr", client=client, options=ONE
        )
    # Blocks that wait on a worker that dies are blamed with it, and are not given a child here.
    assert result.status()[2, 0] == Status.FAILED
    assert (result.status() != Status.PENDING).all()
    reasons = Journal(journal_of(result.path)).reasons()
    assert reasons[2, 0, 0].startswith("KilledWorker")


@pytest.mark.slow
def test_frames_alone_have_the_labels_of_frames_together(
    movie, client, expected_labels, tmp_path, monkeypatch
):
    from cypose_dask.run.stream import Stream

    begin = Stream._begin
    monkeypatch.setattr(Stream, "_begin", lambda *args: begin(*args, alone=True))
    result = segment(movie, tmp_path / "m.zarr", client=client)
    np.testing.assert_array_equal(labels_of(result), expected_labels)


def test_a_child_that_cannot_start_fails_its_frames_with_a_reason(
    movie, threads, tmp_path, monkeypatch
):
    from cypose_dask.run.stream import Stream

    begin = Stream._begin
    monkeypatch.setattr(Stream, "_begin", lambda *args: begin(*args, alone=True))
    monkeypatch.setattr(alone, "_COMMAND", [alone.sys.executable, "-c", "raise SystemExit(3)"])
    result = segment(movie, tmp_path / "m.zarr", client=threads)
    assert (result.status() == Status.FAILED).all()
    assert all("code 3" in why for why in Journal(journal_of(result.path)).reasons().values())


def test_a_disk_that_hesitates_costs_a_moment(
    movie, threads, expected_labels, tmp_path, monkeypatch
):
    monkeypatch.setattr(retry, "_WAITS_S", (0.0, 0.0))
    result = segment(flaky(movie, tmp_path, 1, 3), tmp_path / "m.zarr", client=threads)
    assert (tmp_path / "failed-3").exists()
    np.testing.assert_array_equal(labels_of(result), expected_labels)


@pytest.mark.parametrize(("number", "calls"), [(errno.EIO, 4), (errno.ENOSPC, 1), (errno.EROFS, 1)])
def test_only_what_may_pass_is_tried_again(number, calls, monkeypatch):
    monkeypatch.setattr(retry, "_WAITS_S", (0.0, 0.0, 0.0))
    seen = []

    def fails():
        seen.append(1)
        raise OSError(number, "no")

    with pytest.raises(OSError, match="no"):
        retry.patiently(fails)
    assert len(seen) == calls


def test_errors_of_our_own_are_not_tried_again():
    from cypose_dask.errors import MovieNotFoundError

    seen = []

    def fails():
        seen.append(1)
        raise MovieNotFoundError("gone")

    with pytest.raises(MovieNotFoundError):
        retry.patiently(fails)
    assert len(seen) == 1


def test_a_run_that_is_asked_to_stop_keeps_what_it_did_and_continues(
    movie, threads, expected_labels, tmp_path
):
    from cypose_dask.run import worker
    from cypose_dask.run.stream import Stream

    path, stop, cancelled = tmp_path / "m.zarr", Event(), Event()
    write, cancel, begun = worker.write_block, Stream._cancel, []

    def write_the_others_late(*args):
        begun.append(args)
        assert len(begun) == 1 or cancelled.wait(60)
        return write(*args)

    def say_cancelled(stream, keys):
        cancel(stream, keys)
        cancelled.set()

    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(worker, "write_block", write_the_others_late)
        patched.setattr(Stream, "_cancel", say_cancelled)
        with pytest.raises(RunStoppedError, match=r"on request with [1-3] of 5 frames done"):
            segment(
                movie, path, client=threads, options=ONE, progress=lambda *_: stop.set(), stop=stop
            )
    first = [record.block for record in Journal(journal_of(path)).read()]
    assert np.count_nonzero(open_result(path).status()) == len(first) < 5
    result = segment(movie, path, client=threads)
    blocks = [record.block for record in Journal(journal_of(path)).read()]
    assert len(blocks) == len(set(blocks)) == 5
    np.testing.assert_array_equal(labels_of(result), expected_labels)


def test_what_was_under_way_when_a_stop_was_asked_for_is_kept(movie, tmp_path, expected_labels):
    from cypose_dask.run import worker

    path, stop, real = tmp_path / "m.zarr", Event(), worker.write_block

    def stop_while_writing(*args):
        stop.set()
        return real(*args)

    patch = pytest.MonkeyPatch()
    with connect(processes=False, workers=1) as threads, patch.context() as patched:
        patched.setattr(worker, "write_block", stop_while_writing)
        with pytest.raises(RunStoppedError):
            segment(movie, path, client=threads, options=ONE, stop=stop)
    assert open_result(path).status()[0, 0] == Status.DONE


def test_a_restart_on_the_same_cluster_computes_again(movie, threads, tmp_path, expected_labels):
    from cypose_dask.run import worker

    kept, real = [], worker.write_block

    def remember(*args):
        kept.append(args)
        return real(*args)

    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(worker, "write_block", remember)
        for options in (ONE, RunOptions(frames_per_block=1, restart=True)):
            result = segment(movie, tmp_path / "m.zarr", client=threads, options=options)
    assert len(kept) == 10
    np.testing.assert_array_equal(labels_of(result), expected_labels)


def test_a_stop_while_failed_frames_are_tried_again_is_a_stop(movie, threads, tmp_path):
    path, stop = tmp_path / "m.zarr", Event()
    segment(movie, path, client=threads, options=ONE)
    journal = Journal(journal_of(path))
    for record in list(journal.read()):
        journal.append(BlockRecord.failed(record.block, 1, "cosmic ray"))
    with pytest.raises(RunStoppedError, match="of 5 frames done"):
        segment(movie, path, client=threads, progress=lambda *_: stop.set(), stop=stop)


def test_a_stop_at_the_last_block_is_no_failure(movie, threads, tmp_path):
    stop = Event()
    result = segment(
        movie, tmp_path / "m.zarr", client=threads, progress=lambda *_: stop.set(), stop=stop,
        options=RunOptions(frames_per_block=5),
    )  # fmt: skip
    assert (result.status() == Status.DONE).all()


def test_a_cluster_that_loses_its_last_worker_is_an_error(movie, tmp_path, expected_labels):
    from distributed import Client, LocalCluster

    path, options = tmp_path / "m.zarr", RunOptions(frames_per_block=1, wait_for_workers_s=1.0)
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
        pytest.raises(RunError, match=r"no worker for 1 s.*run the same command again"),
    ):
        segment(movie, path, client=client, options=options, progress=lambda *_: cluster.scale(0))
    with connect(processes=False, workers=1) as threads:
        np.testing.assert_array_equal(
            labels_of(segment(movie, path, client=threads)), expected_labels
        )


@pytest.mark.parametrize("error", [TimeoutError(), CommClosedError("reset by peer")])
def test_a_record_that_does_not_come_is_waited_for_again(
    error, movie, threads, expected_labels, tmp_path, monkeypatch
):
    from distributed import Future

    real, lost = Future.result, []

    def slow_once(self, timeout=None):
        if str(self.key).startswith("('segment") and self.key not in lost:
            lost.append(self.key)
            raise error
        return real(self, timeout)

    monkeypatch.setattr(Future, "result", slow_once)
    result = segment(movie, tmp_path / "m.zarr", client=threads, options=ONE)
    assert len(lost) == 5
    assert len(list(Journal(journal_of(result.path)).read())) == 5
    np.testing.assert_array_equal(labels_of(result), expected_labels)


def test_a_device_without_room_for_a_tile_fails_the_block_and_not_the_run(
    movie, threads, expected_labels, tmp_path, monkeypatch
):
    from cypose_dask.run import frames

    real = frames.segment_group

    def full(images, *how):
        if any(np.array_equal(image, movie.read_frame(2)[:1]) for image in images):
            raise DeviceMemoryError("no room for a tile")
        return real(images, *how)

    with monkeypatch.context() as patch:
        patch.setattr(frames, "segment_group", full)
        result = segment(movie, tmp_path / "m.zarr", client=threads, options=ONE)
    assert result.status()[:, 0].tolist() == [1, 1, Status.FAILED, 1, 1]
    result = segment(movie, tmp_path / "m.zarr", client=threads)
    np.testing.assert_array_equal(labels_of(result), expected_labels)


@pytest.mark.parametrize("what", ["journal", "status"])
def test_a_full_disk_under_the_client_stops_the_run(
    what, movie, threads, expected_labels, tmp_path, monkeypatch
):
    from cypose_dask.run import feed

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "m.zarr"
    target = (feed.Journal, "append") if what == "journal" else (feed, "write_status")
    with monkeypatch.context() as patch:
        patch.setattr(*target, full)
        with pytest.raises(RunError, match=r"No space left.*run the same command again"):
            segment(movie, path, client=threads, options=ONE)
    np.testing.assert_array_equal(labels_of(segment(movie, path, client=threads)), expected_labels)


def test_a_result_whose_deletion_was_killed_is_begun_anew(
    movie, threads, expected_labels, tmp_path, monkeypatch
):
    from cypose_dask.run import begin

    path = tmp_path / "m.zarr"
    segment(movie, path, client=threads)
    with monkeypatch.context() as patch:
        patch.setattr(begin.shutil, "rmtree", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            segment(movie, path, client=threads, options=RunOptions(restart=True))
    assert not path.exists()
    result = segment(movie, path, client=threads)
    assert len(list(Journal(journal_of(path)).read())) == 5
    np.testing.assert_array_equal(labels_of(result), expected_labels)
