"""Files that are damaged, change while they are read, or are larger than the machine."""

import logging
import os
import subprocess
import sys
import tracemalloc
from itertools import islice

import numpy as np
import pytest
import tifffile
import zarr

from cypose_dask.errors import MovieError
from cypose_dask.movies import open_movie
from cypose_dask.movies.source import FrameSource
from cypose_dask.results import Status
from cypose_dask.run import connect, make_plan, segment
from cypose_dask.run.journal import Journal
from cypose_dask.run.memory import block_bytes
from cypose_dask.settings import RunOptions, Settings
from helpers.nd2_writer import write_nd2
from helpers.stamps import stamped

ONE_BY_ONE = RunOptions(frames_per_block=1, blocks_in_flight=1)


def write_long(path, frames, size=8):
    """Write very many tiny frames as one contiguous ImageJ hyperstack."""
    shape = (frames, size, size)
    tifffile.imwrite(path, shape=shape, dtype=np.uint16, imagej=True, metadata={"axes": "TYX"})
    return path


# ---- damage ---------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_an_nd2_whose_end_is_zeros_is_refused(tmp_path, share):
    path = tmp_path / "a.nd2"
    write_nd2(path, stamped(T=5)[:, 0, 0, 0], "TYX")
    data = path.read_bytes()
    kept = int(len(data) * share)
    path.write_bytes(data[:kept] + bytes(len(data) - kept))
    with pytest.raises(MovieError, match="complete ND2"):
        open_movie(path, allow_damaged=True)


@pytest.mark.parametrize("kind", ["nd2", "tif"])
def test_a_file_that_is_cut_while_it_is_open_kills_no_process(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    movie = stamped(T=4, Y=64, X=64)[:, 0, 0, 0]
    if kind == "nd2":
        write_nd2(path, movie, "TYX")
    else:
        tifffile.imwrite(path, movie, imagej=True, metadata={"axes": "TYX"})
    script = (
        "import os, sys\n"
        "from cypose_dask.errors import MovieError\n"
        "from cypose_dask.movies import open_movie\n"
        "movie = open_movie(sys.argv[1])\n"
        "movie.read_frame(3)\n"
        "os.truncate(sys.argv[1], 4096)\n"
        "try:\n    movie.read_frame(3)\n"
        "except MovieError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"a.{kind} has changed since it was opened: found 4096 bytes" in done.stdout


def test_a_file_that_changes_during_a_run_is_never_mixed(tmp_path, synthetic, expected_labels):
    path = tmp_path / "a.tif"
    frames = synthetic.frames[:, 0]
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TYX"})
    os.utime(path, ns=(1, 1))

    def replace_file(record, done, total):
        if record.block.start == 1:
            tifffile.imwrite(path, frames[::-1], imagej=True, metadata={"axes": "TYX"})

    with connect(processes=False, workers=1) as threads:
        result = segment(
            open_movie(path), tmp_path / "m.zarr", client=threads, options=ONE_BY_ONE,
            progress=replace_file,
        )  # fmt: skip
    done = result.status()[:, 0] == Status.DONE
    assert done[:2].all()
    assert not done[-1]
    np.testing.assert_array_equal(np.asarray(result.labels()[:, 0])[done], expected_labels[done])
    reasons = Journal(tmp_path / "m.journal.jsonl").reasons()
    assert "has changed since it was opened" in reasons[4, 0, 0]


@pytest.mark.parametrize("year", [1971, 2100])
def test_what_is_done_does_not_depend_on_clocks(tmp_path, synthetic, client, year, nd2_path):
    movie = open_movie(nd2_path)
    segment(movie, tmp_path / "m.zarr", client=client)
    moment = (year - 1970) * 365 * 86400
    for path in (*tmp_path.rglob("*"), tmp_path):
        os.utime(path, (moment, moment))
    again = []
    result = segment(movie, tmp_path / "m.zarr", client=client, progress=lambda *a: again.append(a))
    assert again == []
    assert (result.status() == Status.DONE).all()


# ---- axes -----------------------------------------------------------------------------------


def test_the_rule_for_pages_without_axes_is_printed(tmp_path, cli):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stamped(T=5, Y=32, X=32)[:, 0, 0, 0], metadata=None)
    code, out, _ = cli("info", path)
    assert code == 0
    assert "I taken as T: 5 frames" in out
    code, out, _ = cli("info", path, "--axes", "ZYX")
    assert code == 0
    assert "T 1, P 1, Z 5" in out


# ---- very long, very large ------------------------------------------------------------------


def test_a_hundred_thousand_frames_are_planned_without_reading_any(tmp_path, monkeypatch):
    """Time to the first block does not grow with the movie, nor does memory with the frames."""
    make_plan(open_movie(write_long(tmp_path / "short.tif", 10)))  # imports take memory, too
    movie = open_movie(write_long(tmp_path / "a.tif", 100_000))
    monkeypatch.setattr(FrameSource, "read", lambda *_: pytest.fail("a frame was read"))
    tracemalloc.start()
    try:
        plan = make_plan(movie)
        window = list(islice(plan.blocks(), 8))
        blocks = plan.network_input.blocks(
            window[0].start, window[-1].stop, frames_per_block=plan.frames_per_block
        )
        tasks = len(dict(blocks.__dask_graph__()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert plan.n_frames == 100_000
    assert plan.frames_per_block > 1
    assert tasks == 8
    assert peak < 100_000 * 10


def test_the_first_block_of_a_long_movie_needs_few_frames(tmp_path, monkeypatch):
    path = write_long(tmp_path / "a.tif", 100_000)
    movie, read = open_movie(path), []
    real = FrameSource.read
    monkeypatch.setattr(FrameSource, "read", lambda self, *at: read.append(at) or real(self, *at))

    class FirstBlockError(Exception):
        pass

    def first(record, done, total):
        assert record.block.start < 1000  # which of the threads is first is open
        assert total == 100_000
        raise FirstBlockError

    with connect(processes=False, workers=1) as threads, pytest.raises(FirstBlockError):
        segment(movie, tmp_path / "m.zarr", client=threads, progress=first)
    assert len(read) < 1000


@pytest.fixture
def huge(tmp_path):
    """One frame of 20,000 x 20,000 px, of which one chunk is stored."""
    array = zarr.create_array(
        tmp_path / "huge.zarr", shape=(1, 20_000, 20_000), chunks=(1, 500, 500), dtype="u2",
        dimension_names=["t", "y", "x"],
    )  # fmt: skip
    array[0, :500, :500] = 1
    return open_movie(tmp_path / "huge.zarr")


def test_a_frame_that_does_not_fit_into_memory_is_refused_before_any_work(huge, monkeypatch):
    monkeypatch.setattr(FrameSource, "read", lambda *_: pytest.fail("a frame was read"))
    monkeypatch.setattr("cypose_dask.run.plan.memory_here", lambda: 8 * 10**9)
    with pytest.raises(MovieError, match=r"20000 x 20000 px takes about .* GB.* has 8 GB"):
        make_plan(huge)
    monkeypatch.setattr("cypose_dask.run.plan.memory_here", lambda: 10**12)
    make_plan(huge)


def test_the_command_line_refuses_a_frame_that_does_not_fit(huge, cli, monkeypatch):
    monkeypatch.setattr("cypose_dask.run.plan.memory_here", lambda: 8 * 10**9)
    code, out, _ = cli("info", huge.info.path)
    assert code == 1
    assert "would be refused" in out
    assert "20000 x 20000 px takes about" in out


def test_blocks_that_do_not_fit_at_once_are_warned_about(huge, monkeypatch, caplog):
    monkeypatch.setattr("cypose_dask.run.plan.memory_here", lambda: 10**12)
    need = block_bytes(make_plan(huge))
    monkeypatch.setattr("cypose_dask.run.plan.memory_here", lambda: int(2.5 * need))
    monkeypatch.setattr("cypose_dask.run.plan.blocks_at_once", lambda client: 2)
    with caplog.at_level(logging.WARNING):
        make_plan(huge)
        assert not caplog.text
        monkeypatch.setattr("cypose_dask.run.plan.blocks_at_once", lambda client: 3)
        make_plan(huge)
    assert "Give --workers 2" in caplog.text


def test_the_estimate_grows_with_what_takes_memory(movie):
    plain = block_bytes(make_plan(movie))
    assert block_bytes(make_plan(movie, Settings(diameter=5))) > plain
    assert block_bytes(make_plan(movie, options=RunOptions(debug=True))) > plain
    assert block_bytes(make_plan(movie, options=RunOptions(frames_per_block=5))) > plain
