"""What a run would take, tried on a few frames: how that relates to the run itself."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cypose_dask.engine import largest_gpu_bytes
from cypose_dask.errors import MovieError, ResultMismatchError, RunError, SettingsError
from cypose_dask.movies import open_movie
from cypose_dask.results import export_debug_tifs, export_tif
from cypose_dask.run import connect, estimate, segment, workers_until
from cypose_dask.run.estimation import _evenly, _gathered, _submit
from cypose_dask.run.sampling import time_blocks
from cypose_dask.settings import RunOptions, Settings
from helpers.cluster_processes import running_cluster
from helpers.small_movies import write_small_movie

SETTINGS = Settings(channels=(0,))


@pytest.fixture(scope="module")
def found(movie, client):
    return estimate(movie, SETTINGS, client=client)


def files_below(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def bytes_below(path):
    return sum(file.stat().st_size for file in path.rglob("c/**/*") if file.is_file())


def test_the_estimate_is_of_the_whole_cluster(found, movie, client):
    assert found.workers == 2
    assert found.threads == sum(client.nthreads().values())
    assert found.frames_left == found.plan.n_frames == movie.info.sizes["T"]
    assert found.blocks_left == len(list(found.plan.blocks()))
    assert found.seconds_left == found.frames_left / found.frames_per_s > 0
    assert found.frames_timed >= 2 * found.threads


def test_memory_is_that_of_a_worker_and_of_a_block(found):
    assert 10e6 < found.memory_bytes < 10e9
    assert 0 < found.block_bytes < found.memory_bytes
    assert found.gpu_bytes is None


@pytest.mark.parametrize("debug", [False, True])
def test_the_disk_that_is_estimated_is_what_a_run_takes(debug, movie, client, tmp_path):
    options = RunOptions(debug=debug)
    found = estimate(movie, SETTINGS, client=client, options=options)
    result = segment(movie, tmp_path / "m.zarr", SETTINGS, client=client, options=options)
    tifs = export_tif(result, tmp_path / "m.tif")
    tifs += export_debug_tifs(result, tmp_path / "m.tif") if debug else []
    real = bytes_below(tmp_path / "m.zarr") + sum(tif.stat().st_size for tif in tifs)
    # Every file has a head, of which a run of five frames has one, and a trial one in each block.
    assert real / 3 < found.disk_bytes < 3 * real


def test_nothing_is_written_but_in_temporary_folders_that_go(nd2_path, tmp_path, monkeypatch):
    movies, temporary = tmp_path / "movies", tmp_path / "temporary"
    movies.mkdir()
    temporary.mkdir()
    (movies / "m.nd2").write_bytes(nd2_path.read_bytes())
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.chdir(movies)
    before = files_below(movies)
    with connect(processes=False) as client:
        estimate(open_movie("m.nd2"), SETTINGS, client=client, store="m.zarr")
    assert files_below(movies) == before
    assert not [path for path in temporary.iterdir() if path.name.startswith("cypose-")]


def test_only_what_is_left_of_a_result_counts(client, tmp_path):
    opened = open_movie(write_small_movie(tmp_path / "m.nd2", 12))
    options, store = RunOptions(frames_per_block=5), tmp_path / "m.zarr"
    segment(opened, store, client=client, options=options)
    journal = tmp_path / "m.journal.jsonl"
    before = journal.read_text()
    forget_all_but(store, journal, start=5)
    left = estimate(opened, client=client, store=store)
    assert (left.frames_left, left.blocks_left) == (7, 2)
    whole = estimate(opened, client=client, store=store, options=RunOptions(restart=True))
    assert whole.frames_left == 12
    assert left.disk_bytes < whole.disk_bytes
    journal.write_text(before)
    done = estimate(opened, client=client, store=store)
    assert (done.frames_left, done.seconds_left, workers_until([done], 1)) == (0, 0, 0)


def forget_all_but(store, journal, *, start):
    """Make a result look as after a kill: the status is written by the client, at times."""
    from cypose_dask.results import open_result
    from cypose_dask.results.writing import write_status

    lines = journal.read_text().splitlines(keepends=True)
    (kept,) = [line for line in lines if json.loads(line)["block"]["start"] == start]
    journal.write_text(kept)
    result = open_result(store)
    nothing = np.zeros_like(result.status(0))
    write_status(store, 0, nothing, nothing.astype(np.uint32))


def test_a_result_of_another_plan_is_refused(movie, client, tmp_path):
    segment(movie, tmp_path / "m.zarr", SETTINGS, client=client)
    before = files_below(tmp_path)
    with pytest.raises(ResultMismatchError, match="diameter"):
        estimate(movie, SETTINGS.replace(diameter=9), client=client, store=tmp_path / "m.zarr")
    assert files_below(tmp_path) == before


def test_what_a_run_would_refuse_is_refused(movie, client):
    with pytest.raises(SettingsError, match="frames along T"):
        estimate(movie, SETTINGS.replace(end_frame=99), client=client)


def test_frames_that_cannot_be_segmented_are_no_speed(tmp_path):
    from helpers.nd2_writer import write_nd2

    frames = np.full((3, 32, 32), np.nan, np.float32)
    path = write_nd2(tmp_path / "m.nd2", frames, axes="TYX")
    with connect(processes=False) as client, pytest.raises(MovieError, match="none of the frames"):
        estimate(open_movie(path), client=client)


def test_blocks_are_tried_as_a_run_makes_them(found, tmp_path):
    """The labels of the trial are those of the run: the same size to the byte."""
    plan = found.plan
    sizes = {b: time_blocks(plan, [b]).stored_bytes for b in list(plan.blocks())[:3]}
    with connect(processes=False) as client:
        segment(plan.movie, tmp_path / "m.zarr", SETTINGS, client=client,
                options=RunOptions(frames_per_block=plan.frames_per_block))  # fmt: skip
    for index, size in enumerate(sizes.values()):
        shard = tmp_path / "m.zarr" / "0" / "labels" / "cells" / "0" / "c" / str(index)
        assert size == sum(f.stat().st_size for f in shard.rglob("*") if f.is_file())


def test_a_position_is_timed_on_its_own_frames(tmp_path, client):
    from helpers.nd2_writer import write_nd2
    from helpers.small_movies import distinct_frames

    frames = distinct_frames()[:2, 0]
    both = np.stack([np.zeros_like(frames), frames])  # the first position is empty
    path = write_nd2(tmp_path / "m.nd2", both.swapaxes(0, 1), axes="TPYX")
    plan = estimate(open_movie(path), client=client).plan
    empty, full = (next(b for b in plan.blocks() if b.position == p) for p in (0, 1))
    assert time_blocks(plan, [empty]).stored_bytes < time_blocks(plan, [full]).stored_bytes


@pytest.mark.parametrize(("there", "count"), [(1, 4), (3, 2), (7, 7), (100, 6)])
def test_blocks_are_spread_over_all(there, count):
    chosen = _evenly(range(there), count)
    assert len(chosen) == count
    assert (chosen[0], chosen[-1]) == (0, there - 1)
    assert len(set(chosen)) == min(there, count)


@pytest.mark.slow
def test_a_worker_that_is_lost_is_an_error(tmp_path):
    with (
        running_cluster(tmp_path) as cluster,
        connect(scheduler_file=str(cluster.scheduler_file)) as client,
    ):
        client.wait_for_workers(1)
        threads = client.nthreads()
        (worker,) = threads
        future = _submit(client, worker, os._exit, 1)
        with pytest.raises(RunError, match="was lost while it segmented"):
            _gathered([future], client, threads)


def test_only_cuda_tells_what_it_held(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    assert [largest_gpu_bytes(device) for device in ("cpu", "mps", "cuda")] == [None, None, 7]


SOME = st.fixed_dictionaries(
    {
        "frames_left": st.integers(0, 10**6),
        "blocks_left": st.integers(1, 10**5),
        "workers": st.integers(1, 64),
        "frames_per_s": st.floats(0.01, 1000),
    }
)
TIME = st.floats(1, 1e7)


@given(fields=SOME, less=TIME, more=TIME)
def test_more_time_never_needs_more_workers(found, fields, less, more):
    less, more = sorted((less, more))
    one = replace(found, **fields)
    assert workers_until([one], more) <= workers_until([one], less) <= one.blocks_left


@given(fields=SOME, seconds=TIME)
def test_so_many_workers_are_in_time_and_one_fewer_is_not(found, fields, seconds):
    one = replace(found, **fields)
    number = workers_until([one], seconds)
    work = one.seconds_left * one.workers
    if number < one.blocks_left:
        assert work <= number * seconds * (1 + 1e-9)
    assert not number or work > (number - 1) * seconds * (1 - 1e-9)


@given(fields=SOME, seconds=TIME)
def test_twice_the_frames_take_twice_the_time(found, fields, seconds):
    one = replace(found, **fields)
    two = replace(one, frames_left=2 * one.frames_left, blocks_left=2 * one.blocks_left)
    assert two.seconds_left == pytest.approx(2 * one.seconds_left)
    assert workers_until([one, one], seconds) == workers_until([two], seconds)


@given(fields=SOME, seconds=TIME)
def test_faster_workers_are_fewer(found, fields, seconds):
    one = replace(found, **fields)
    fast = replace(one, frames_per_s=2 * one.frames_per_s)
    assert workers_until([fast], seconds) <= workers_until([one], seconds)
