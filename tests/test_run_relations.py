"""Labels do not depend on blocks, workers, clusters or interruption; and they are Cellpose's."""

from __future__ import annotations

import numpy as np
import pytest

from cypose_dask.movies import open_movie
from cypose_dask.results import Status
from cypose_dask.results.naming import journal_of
from cypose_dask.run import connect, segment, segment_lazy
from cypose_dask.settings import RunOptions, Settings
from helpers.nd2_writer import write_nd2


def labels_of(result, position=0):
    return np.asarray(result.labels(position)[:, 0])


@pytest.mark.parametrize("frames_per_block", [1, 2, 5, None])
def test_labels_equal_eval_whatever_the_block_length(
    frames_per_block, movie, client, expected_labels, tmp_path
):
    options = RunOptions(frames_per_block=frames_per_block)
    result = segment(movie, tmp_path / "m.zarr", client=client, options=options)
    np.testing.assert_array_equal(labels_of(result), expected_labels)
    assert (result.status() == Status.DONE).all()
    np.testing.assert_array_equal(result.cells()[:, 0], expected_labels.max((1, 2)))


def test_labels_do_not_depend_on_the_cluster(movie, expected_labels, tmp_path):
    with connect(processes=False, workers=1) as threads:
        result = segment(movie, tmp_path / "m.zarr", client=threads)
    np.testing.assert_array_equal(labels_of(result), expected_labels)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_labels_do_not_depend_on_the_number_of_workers(workers, movie, expected_labels, tmp_path):
    with connect(workers=workers) as cluster:
        result = segment(movie, tmp_path / "m.zarr", client=cluster)
    np.testing.assert_array_equal(labels_of(result), expected_labels)


class StopError(Exception):
    """Stands for anything that ends a run between two blocks."""


@pytest.mark.parametrize("blocks_before", [1, 3])
def test_a_run_that_was_cut_continues_to_the_same_labels(
    blocks_before, movie, client, expected_labels, tmp_path
):
    path, done = tmp_path / "m.zarr", []

    def stop(record, *_):
        done.append(record.block)
        if len(done) == blocks_before:
            raise StopError

    one_by_one = RunOptions(frames_per_block=1)
    with pytest.raises(StopError):
        segment(movie, path, client=client, options=one_by_one, progress=stop)
    again = []
    result = segment(movie, path, client=client, progress=lambda r, *_: again.append(r.block))
    assert not set(done) & set(again)
    assert len(done) + len(again) == 5
    np.testing.assert_array_equal(labels_of(result), expected_labels)


def test_a_whole_result_is_not_computed_again(movie, client, tmp_path):
    segment(movie, tmp_path / "m.zarr", client=client)
    seen = []
    segment(movie, tmp_path / "m.zarr", client=client, progress=lambda *a: seen.append(a))
    assert seen == []


def test_frame_range_takes_those_frames(movie, client, expected_labels, tmp_path):
    settings = Settings(start_frame=1, end_frame=4)
    result = segment(movie, tmp_path / "m.zarr", settings, client=client)
    np.testing.assert_array_equal(labels_of(result), expected_labels[1:4])


def test_lazy_labels_equal_eval_and_slice_like_an_array(movie, client, expected_labels):
    labels = segment_lazy(movie.frames, Settings(channels=(0,)))
    assert labels.shape == (5, 1, 1, 64, 64)
    assert labels.dtype == np.uint32
    np.testing.assert_array_equal(labels[:, 0, 0].compute(), expected_labels)
    np.testing.assert_array_equal(labels[3, 0, 0, 10:50].compute(), expected_labels[3, 10:50])


def test_lazy_labels_can_be_stored(movie, client, expected_labels, tmp_path):
    import dask.array as da
    import zarr

    target = zarr.create_array(
        tmp_path / "own.zarr", shape=(5, 1, 1, 64, 64), chunks=(1, 1, 1, 64, 64), dtype="uint32"
    )
    da.store(segment_lazy(movie.frames, Settings(channels=(0,))), target, lock=False)
    np.testing.assert_array_equal(target[:, 0, 0], expected_labels)


@pytest.fixture(scope="module")
def grid_movie(synthetic, tmp_path_factory):
    """T 2, P 2, Z 2, C 2: every (t, p, z) is another frame of the synthetic movie."""
    order = np.array([[[0, 1], [2, 3]], [[4, 3], [1, 2]]])  # (t, p, z)
    path = tmp_path_factory.mktemp("grid") / "grid.nd2"
    write_nd2(path, synthetic.frames[order], axes="TPZCYX", channels=["BF", "Chl"])
    return open_movie(path), order


def test_positions_and_planes_keep_their_place(grid_movie, client, expected_labels, tmp_path):
    movie, order = grid_movie
    result = segment(movie, tmp_path / "g.zarr", client=client)
    for position in range(2):
        labels = np.asarray(result.labels(position)[:])
        np.testing.assert_array_equal(labels, expected_labels[order[:, position]])


def test_debug_keeps_the_flows_of_eval(movie, client, synthetic, model_path, tmp_path):
    from cellpose.models import CellposeModel

    result = segment(movie, tmp_path / "m.zarr", client=client, options=RunOptions(debug=True))
    frame = synthetic.frames[2, 0]
    _, (_, flows, cellprob), _ = CellposeModel(pretrained_model=model_path).eval(
        frame, channels=[0, 0], flow_threshold=0.75
    )
    np.testing.assert_allclose(result.flows()[2, 0], flows, rtol=0, atol=3e-5)
    np.testing.assert_allclose(result.cellprob()[2, 0], cellprob, rtol=0, atol=3e-5)


def test_each_block_is_one_task_and_its_record_is_small(movie, client, tmp_path):
    import cloudpickle

    from cypose_dask.run.execute import open_feed
    from cypose_dask.run.journal import Journal
    from cypose_dask.run.stream import Stream

    two = RunOptions(frames_per_block=2)
    feed = open_feed(movie, tmp_path / "m.zarr", Settings(), options=two, client=client)
    stream, blocks = Stream(client, two), list(feed.plan.blocks())
    before = set(client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks)))
    stream._begin(feed, blocks)
    records = client.gather([task.future for task in stream.pending.values()])
    feed.close()
    tasks = set(client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks)))
    assert len(tasks - before) == len(blocks) == len(records) == 3
    assert all(len(cloudpickle.dumps(record)) < 5000 for record in records)
    assert list(Journal(journal_of(tmp_path / "m.zarr")).read()) == []


def test_a_worker_loads_the_model_once_for_all_blocks_and_runs(movie, client, tmp_path):
    def loaded():
        from cypose_dask.engine import network

        return len(network._loaded)

    def forget():
        from cypose_dask.engine import network

        network._loaded.clear()

    client.run(forget)  # what other tests loaded
    segment(movie, tmp_path / "a.zarr", client=client, options=RunOptions(frames_per_block=1))
    segment(movie, tmp_path / "b.zarr", Settings(niter=20), client=client)
    assert set(client.run(loaded).values()) <= {0, 1}
    assert 1 in client.run(loaded).values()


def test_in_flight_blocks_are_bounded(movie, client, tmp_path):
    from cypose_dask.run.stream import Stream

    most, submit = 0, Stream._submit

    def watched(self, feeds):
        nonlocal most
        submit(self, feeds)
        most = max(most, len(self.pending))

    patch = pytest.MonkeyPatch()
    patch.setattr(Stream, "_submit", watched)
    options = RunOptions(frames_per_block=1, blocks_in_flight=2)
    with patch.context():
        segment(movie, tmp_path / "m.zarr", client=client, options=options)
    patch.undo()
    assert 0 < most <= 2


@pytest.fixture(scope="module")
def demo_movie(tmp_path_factory):
    """The movie of ``scripts/demo.sh``, as ND2 and as ImageJ TIF."""
    import subprocess
    import sys

    from conftest import ROOT

    folder = tmp_path_factory.mktemp("demo")
    script = ROOT / "scripts" / "make_demo_movie.py"
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    "options",
    [{}, {"diameter": 14.0, "flow_threshold": 0.4}, {"niter": 60.0}],
    ids=["defaults", "diameter and threshold", "niter"],
)
def test_demo_movie_labels_equal_eval(options, demo_movie, client, model_path, tmp_path):
    from cellpose.models import CellposeModel

    model = CellposeModel(pretrained_model=model_path)
    nd2, tif = (open_movie(demo_movie / f"movie.{kind}") for kind in ("nd2", "tif"))
    settings = Settings(start_frame=6, **options)
    masks = [
        model.eval(nd2.read_frame(t)[0], channels=[0, 0], **{"flow_threshold": 0.75, **options})[0]
        for t in (6, 7)
    ]
    assert np.max(masks) > 10
    for name, movie in (("nd2", nd2), ("tif", tif)):
        result = segment(movie, tmp_path / f"{name}.zarr", settings, client=client)
        np.testing.assert_array_equal(labels_of(result), masks)
