"""One failure stays small, and a stopped run loses nothing."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from cypose_dask.errors import IncompleteResultError, ModelError, ResultError, RunError
from cypose_dask.movies import open_movie
from cypose_dask.results import Status, export_tif
from cypose_dask.results.naming import journal_of
from cypose_dask.run import connect, make_plan, segment
from cypose_dask.run.journal import Journal
from cypose_dask.run.plan import Block
from cypose_dask.run.record import BlockRecord, FrameRecord
from cypose_dask.run.tally import Tally
from cypose_dask.settings import RunOptions, Settings
from helpers.nd2_writer import write_nd2


def record(start=0, status=Status.DONE):
    frame = FrameRecord(t=start, z=0, status=status, cells=3, seconds={"read": 0.1})
    return BlockRecord(block=Block(0, start, start + 1), frames=(frame,), checksum="ab")


def test_journal_returns_what_was_written(tmp_path):
    journal = Journal(tmp_path / "x.journal.jsonl")
    assert list(journal.read()) == []
    journal.append(record(0))
    journal.append(record(1, Status.FAILED))
    assert list(journal.read()) == [record(0), record(1, Status.FAILED)]


def test_the_last_record_of_a_block_counts(movie):
    plan = make_plan(movie, options=RunOptions(frames_per_block=1))
    tally = Tally(plan.layout(), plan.start, [record(0, Status.FAILED), record(1, Status.DAMAGED)])
    assert not tally.is_finished(Block(0, 0, 1))
    assert tally.is_finished(Block(0, 1, 2))
    assert not tally.is_finished(Block(0, 1, 3))
    tally.add(record(0))
    assert tally.is_finished(Block(0, 0, 1))
    assert tally.n_reported == 2


@pytest.mark.parametrize("kept", range(1, 40, 7))
def test_a_torn_last_line_costs_only_itself(kept, tmp_path):
    journal = Journal(tmp_path / "x.journal.jsonl")
    journal.append(record(0))
    with journal.path.open("a") as file:
        file.write(json.dumps(record(1).to_dict())[:kept])
    assert list(journal.read()) == [record(0)]
    journal.append(record(2))
    assert list(journal.read()) == [record(0), record(2)]


def test_bytes_that_are_no_text_cost_only_their_line(tmp_path):
    journal = Journal(tmp_path / "x.journal.jsonl")
    journal.append(record(0))
    with journal.path.open("ab") as file:
        file.write(b"\xff\xfe\x00rubbish\n[1, 2]\n" + b"[" * 10**5 + b"\n")
    journal.append(record(1))
    assert list(journal.read()) == [record(0), record(1)]


@pytest.mark.parametrize("block", [Block(7, 0, 1), Block(0, -1, 0), Block(0, 5, 6)])
def test_a_record_of_another_movie_is_refused(block, movie):
    frame = FrameRecord(t=block.start, z=0, status=Status.DONE)
    stray = BlockRecord(block=block, frames=(frame,), checksum="")
    plan = make_plan(movie)
    with pytest.raises(ResultError, match="belongs to another result"):
        Tally(plan.layout(), plan.start, [stray])


def test_a_shard_that_was_lost_is_computed_again(movie, client, expected_labels, tmp_path):
    import shutil

    path = tmp_path / "m.zarr"
    segment(movie, path, client=client, options=RunOptions(frames_per_block=1))
    shutil.rmtree(path / "0" / "labels" / "cells" / "0" / "c" / "2")
    seen = []
    result = segment(movie, path, client=client, progress=lambda r, *_: seen.append(r.block))
    assert seen == [Block(0, 2, 3)]
    np.testing.assert_array_equal(np.asarray(result.labels()[:, 0]), expected_labels)


@pytest.fixture
def holed(synthetic, tmp_path):
    """The synthetic movie as ND2 without frame 1."""
    path = tmp_path / "holed.nd2"
    write_nd2(
        path, synthetic.frames, axes="TCYX", channels=["Brightfield", "Chl"], skip_frames=(1,)
    )
    return open_movie(path, allow_damaged=True)


def test_a_damaged_frame_fails_alone_and_is_not_empty(holed, client, expected_labels, tmp_path):
    result = segment(holed, tmp_path / "m.zarr", client=client)
    assert result.status()[:, 0].tolist() == [1, Status.DAMAGED, 1, 1, 1]
    good = [0, 2, 3, 4]
    np.testing.assert_array_equal(np.asarray(result.labels()[:, 0])[good], expected_labels[good])
    assert result.frames_not_done() == [(1, 0, 0, Status.DAMAGED)]
    with pytest.raises(IncompleteResultError, match=r"t=1 p=0 z=0 \(damaged\)"):
        export_tif(result, tmp_path / "m.tif")


def test_damaged_frames_are_not_tried_again(holed, client, tmp_path):
    segment(holed, tmp_path / "m.zarr", client=client)
    seen = []
    segment(holed, tmp_path / "m.zarr", client=client, progress=lambda *a: seen.append(a))
    assert seen == []


def test_a_frame_that_raises_fails_alone_and_is_tried_again(
    movie, expected_labels, tmp_path, monkeypatch
):
    from cypose_dask.engine import segment as engine

    real = engine.select_channels

    def fails_on_frame_2(frame, mean):
        if np.array_equal(frame[0], movie.read_frame(2)[0]):
            raise RuntimeError("cosmic ray")
        return real(frame, mean)

    path = tmp_path / "m.zarr"
    with connect(processes=False, workers=1) as threads:
        with monkeypatch.context() as patch:
            patch.setattr(engine, "select_channels", fails_on_frame_2)
            result = segment(movie, path, client=threads)
        assert result.status()[:, 0].tolist() == [1, 1, Status.FAILED, 1, 1]
        failed = [f for r in Journal(journal_of(path)).read() for f in r.frames if f.error]
        assert [(f.t, f.error) for f in failed] == [(2, "RuntimeError: cosmic ray")]
        result = segment(movie, path, client=threads)
    assert (result.status() == Status.DONE).all()
    np.testing.assert_array_equal(np.asarray(result.labels()[:, 0]), expected_labels)


def test_a_full_disk_stops_the_run_and_keeps_what_is_done(
    movie, expected_labels, tmp_path, monkeypatch
):
    from cypose_dask.run import worker

    real, path = worker.write_block, tmp_path / "m.zarr"

    def full(store, place, *rest):
        if place[1] == 3:
            raise OSError(28, "No space left on device")
        return real(store, place, *rest)

    one = RunOptions(frames_per_block=1, blocks_in_flight=1)
    with connect(processes=False, workers=1) as threads:
        with monkeypatch.context() as patch:
            patch.setattr(worker, "write_block", full)
            with pytest.raises(RunError, match=r"No space left on device.*run the same command"):
                segment(movie, path, client=threads, options=one)
        again = []
        result = segment(movie, path, client=threads, progress=lambda r, *_: again.append(r.block))
    assert Block(0, 0, 1) not in again
    np.testing.assert_array_equal(np.asarray(result.labels()[:, 0]), expected_labels)


def test_weights_that_workers_cannot_read_stop_the_run(movie, tmp_path, model_path, monkeypatch):
    from cypose_dask.engine import network

    weights = tmp_path / "weights"
    weights.write_bytes(open(model_path, "rb").read())  # noqa: PTH123, SIM115
    monkeypatch.setattr(network, "_loaded", {})
    with (
        connect(processes=False, workers=1) as threads,
        pytest.raises(ModelError, match="this worker cannot read"),
    ):
        segment(
            movie,
            tmp_path / "m.zarr",
            Settings(model=str(weights), channels=(0,)),
            client=threads,
            on_plan=lambda _: weights.unlink(),
        )


def test_a_movie_that_workers_cannot_open_fails_its_frames(nd2_path, expected_labels, tmp_path):
    import shutil

    path = Path(shutil.copy2(nd2_path, tmp_path / "copy.nd2"))
    with connect(processes=False, workers=1) as threads:
        result = segment(
            open_movie(path), tmp_path / "m.zarr", client=threads, on_plan=lambda _: path.unlink()
        )
        assert (result.status() == Status.FAILED).all()
        reasons = Journal(journal_of(result.path)).reasons().values()
        assert len(reasons) == 5
        assert all("copy.nd2" in why for why in reasons)
        shutil.copy2(nd2_path, path)
        result = segment(open_movie(path), tmp_path / "m.zarr", client=threads)
    np.testing.assert_array_equal(np.asarray(result.labels()[:, 0]), expected_labels)


@pytest.mark.slow
def test_a_lost_scheduler_is_an_error_and_not_an_end(movie, tmp_path, expected_labels):
    path = tmp_path / "m.zarr"

    def lose(*_):
        cluster.cluster.scheduler.stop()
        cluster.cluster.sync(cluster.cluster.scheduler.close)

    options = RunOptions(frames_per_block=1, blocks_in_flight=2)
    cluster_context = connect(processes=False, workers=1)
    cluster = cluster_context.__enter__()
    try:
        with pytest.raises(RunError, match="run the same command again"):
            segment(movie, path, client=cluster, options=options, progress=lose)
    finally:
        with suppress(Exception):  # a cluster without its scheduler closes badly
            cluster_context.__exit__(None, None, None)
    with connect(processes=False, workers=1) as threads:
        result = segment(movie, path, client=threads)
    np.testing.assert_array_equal(np.asarray(result.labels()[:, 0]), expected_labels)


def test_no_worker_in_time_is_an_error(movie, tmp_path):
    from distributed import Client, LocalCluster

    options = RunOptions(wait_for_workers_s=0.3)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as empty,
        pytest.raises(RunError, match="No worker came to"),
    ):
        segment(movie, tmp_path / "m.zarr", client=empty, options=options)
