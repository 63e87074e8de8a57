"""Several movies are one stream of blocks: none waits for the end of another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import tifffile

from cypose_dask.errors import ModelError, RunError, RunStoppedError
from cypose_dask.results import open_result
from cypose_dask.run import Job, Watcher, connect, find_movies, segment_files, worker
from cypose_dask.run import directory as module
from cypose_dask.settings import RunOptions

ONE = RunOptions(frames_per_block=1)


@pytest.fixture(scope="module")
def threads():
    """A cluster in this process, so that tests can hold its blocks."""
    with connect(processes=False, workers=1) as client:
        yield client


@pytest.fixture
def folder(synthetic, tmp_path):
    """Three movies of five frames."""
    path = tmp_path / "in"
    path.mkdir()
    for name in "abc":
        tifffile.imwrite(
            path / f"{name}.tif", synthetic.frames[:, 0], imagej=True, metadata={"axes": "TYX"}
        )
    return path


def labels(folder, name):
    return tifffile.imread(folder / f"{name}_cp_masks.tif")


def hold(monkeypatch, decide):
    """Call `decide` with the store's name and the frame before a block is written."""
    write = worker.write_block

    def held(store, place, *rest):
        decide(Path(store).stem, place[1])
        return write(store, place, *rest)

    monkeypatch.setattr(worker, "write_block", held)


def locks(folder):
    return list(folder.glob("*.lock"))


def test_movies_together_have_the_labels_of_each_alone(folder, threads, tmp_path, expected_labels):
    outcomes = segment_files(find_movies([folder]), tmp_path, client=threads, job=Job(options=ONE))
    assert [Path(outcome.source).stem for outcome in outcomes] == ["a", "b", "c"]
    assert all(outcome.whole and outcome.frames == 5 for outcome in outcomes)
    for name in "abc":
        np.testing.assert_array_equal(labels(tmp_path, name), expected_labels)
    assert not locks(tmp_path)


def test_the_next_movie_begins_before_the_last_blocks_of_one_have_ended(
    folder, threads, tmp_path, monkeypatch
):
    begun = Event()

    def wait_for_the_next(name, frame):
        if name == "b":
            begun.set()
        if (name, frame) == ("a", 4):
            assert begun.wait(60), "b waits for the end of a"

    hold(monkeypatch, wait_for_the_next)
    outcomes = segment_files(find_movies([folder]), tmp_path, client=threads, job=Job(options=ONE))
    assert all(outcome.whole for outcome in outcomes)


def test_a_tif_is_written_while_other_movies_are_segmented(folder, threads, tmp_path, monkeypatch):
    from helpers.cluster_processes import wait_until

    told = []

    def wait_for_the_tif(name, frame):
        if (name, frame) == ("c", 4):
            wait_until((tmp_path / "a_cp_masks.tif").exists)
            wait_until(lambda: told)

    hold(monkeypatch, wait_for_the_tif)
    job = Job(options=ONE, watcher=Watcher(outcome=told.append))
    segment_files(find_movies([folder]), tmp_path, client=threads, job=job)
    assert sorted(Path(outcome.source).stem for outcome in told) == ["a", "b", "c"]


def test_a_movie_that_cannot_be_opened_fails_alone(folder, threads, tmp_path, expected_labels):
    (folder / "b.tif").write_bytes(b"no movie")
    outcomes = segment_files(find_movies([folder]), tmp_path, client=threads, job=Job(options=ONE))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    np.testing.assert_array_equal(labels(tmp_path, "c"), expected_labels)


def test_a_movie_whose_blocks_all_meet_an_error_fails_alone(
    folder, threads, tmp_path, monkeypatch, expected_labels
):
    def refuse(name, _):
        if name == "b":
            raise ModelError("weights of b are gone")

    hold(monkeypatch, refuse)
    outcomes = segment_files(find_movies([folder]), tmp_path, client=threads, job=Job(options=ONE))
    assert [outcome.error for outcome in outcomes] == [None, "weights of b are gone", None]
    np.testing.assert_array_equal(labels(tmp_path, "c"), expected_labels)
    assert not locks(tmp_path)


def test_a_stop_keeps_what_is_done_and_leaves_no_lock(folder, threads, tmp_path, expected_labels):
    stop = Event()

    def stop_in_b(source, *_):
        if Path(source).stem == "b":
            stop.set()

    one = replace(ONE, blocks_in_flight=1)
    job = Job(options=one, stop=stop, watcher=Watcher(block=stop_in_b))
    with pytest.raises(RunStoppedError, match=r"(frames|movies) done. Run the same command again"):
        segment_files(find_movies([folder]), tmp_path, client=threads, job=job)
    np.testing.assert_array_equal(labels(tmp_path, "a"), expected_labels)
    assert not (tmp_path / "c_cp_masks.tif").exists()
    assert not locks(tmp_path)
    segment_files(find_movies([folder]), tmp_path, client=threads, job=Job(options=one))
    np.testing.assert_array_equal(labels(tmp_path, "c"), expected_labels)


def test_an_error_of_the_cluster_while_a_movie_is_opened_ends_the_run(
    folder, threads, tmp_path, monkeypatch
):
    opened = module.open_feed

    def lose_the_cluster(movie, path, *args, **options):
        if path.stem == "c":
            raise RunError("the cluster is gone")
        return opened(movie, path, *args, **options)

    monkeypatch.setattr(module, "open_feed", lose_the_cluster)
    with pytest.raises(RunError, match="the cluster is gone"):
        segment_files(find_movies([folder]), tmp_path, client=threads, job=Job(options=ONE))
    assert not locks(tmp_path)
    assert open_result(tmp_path / "a.zarr").status().any()


def test_blocks_are_told_with_their_movie_in_this_thread(folder, threads, tmp_path):
    import threading

    told = []

    def hear(*what):
        told.append((threading.current_thread(), what))

    watcher = Watcher(
        plan=lambda source, plan: hear("plan", source, plan.n_frames),
        block=lambda source, record, done, total: hear("block", source, done, total),
        outcome=lambda outcome: hear("outcome", outcome.source),
    )
    job = Job(options=ONE, watcher=watcher)
    segment_files(find_movies([folder]), tmp_path, client=threads, job=job)
    assert {thread for thread, _ in told} == {threading.current_thread()}
    for name in "abc":
        of_movie = [what for _, what in told if Path(what[1]).stem == name]
        assert of_movie[0][0] == "plan"
        assert [what[2:] for what in of_movie[1:-1]] == [(n, 5) for n in range(1, 6)]
        assert of_movie[-1][0] == "outcome"
