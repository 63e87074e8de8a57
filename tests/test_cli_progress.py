"""What a run says while it goes on, for people, for programs and for later."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest
import tifffile

from cypose_dask.cli.pace import Pace
from cypose_dask.cli.progress import duration, make_reporter
from cypose_dask.run.plan import Block
from cypose_dask.run.record import BlockRecord, FrameRecord


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def plan_of(frames):
    return SimpleNamespace(n_frames=frames, device="cpu")


def block_of(frames, *, worker="w", forward=0.0, error=None):
    records = tuple(
        FrameRecord(t=t, z=0, status=1, error=error, seconds={"forward": forward})
        for t in range(frames)
    )
    return BlockRecord(block=Block(0, 0, frames), frames=records, checksum="", worker=worker)


def test_frames_of_earlier_runs_are_done_and_tell_nothing_of_the_speed():
    clock = Clock()
    pace = Pace(1, clock)
    pace.plan("a", plan_of(100))
    clock.now += 10
    pace.block("a", block_of(5), done=65)  # sixty were there before
    assert (pace.done, pace.computed, pace.frames_per_s) == (65, 5, 0.5)
    assert pace.left_s == 35 / 0.5


def test_movies_that_are_not_opened_yet_take_as_long_as_the_others():
    clock = Clock()
    pace = Pace(4, clock)
    for name in "ab":
        pace.plan(name, plan_of(10))
    clock.now += 5
    pace.block("a", block_of(10), done=10)
    assert pace.left_s == (10 + 2 * 10) / 2.0


def test_nothing_is_foretold_before_the_first_block():
    pace = Pace(1, Clock())
    assert (pace.frames_per_s, pace.left_s, pace.busy) == (0.0, None, 0.0)
    pace.plan("a", plan_of(10))
    assert (pace.frames_per_s, pace.left_s, pace.busy) == (0.0, None, 0.0)


def test_the_busy_share_is_a_workers_own():
    clock = Clock()
    pace = Pace(1, clock)
    pace.plan("a", plan_of(10))
    clock.now += 10
    for worker in ("one", "two"):
        pace.block("a", block_of(4, worker=worker, forward=2.0), done=4)
    assert pace.busy == pytest.approx(0.8)


def test_failed_frames_are_counted():
    pace = Pace(1, Clock())
    pace.plan("a", plan_of(10))
    pace.block("a", block_of(3, error="cosmic ray"), done=3)
    assert pace.failed == 3


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (750, "12 min 30 s"),
        (12_000, "3 h 20 min"), (187_200, "2 d 4 h"),
    ],
)  # fmt: skip
def test_times_are_said_in_two_units(seconds, words):
    assert duration(seconds) == words


@pytest.fixture
def folder(synthetic, tmp_path):
    path = tmp_path / "in"
    path.mkdir()
    for name in "ab":
        tifffile.imwrite(
            path / f"{name}.tif", synthetic.frames[:, 0], imagej=True, metadata={"axes": "TYX"}
        )
    (path / "c.tif").write_bytes(b"no movie")
    return path


@pytest.fixture
def run(cli, client, folder, tmp_path):
    where = ("--scheduler", client.scheduler.address, "-o", tmp_path / "out")
    return lambda *more: cli("segment", folder, *where, "--frames-per-block", "2", *more)


def test_json_is_all_there_is_on_standard_output(run, tmp_path):
    code, out, _ = run("--progress", "json", "--preview")
    assert code == 1
    events = [json.loads(line) for line in out.splitlines()]
    assert events[0]["event"] == "cluster"
    kinds = [event["event"] for event in events]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "cluster": 1, "plan": 2, "block": 6, "outcome": 3,
    }  # fmt: skip
    last = [event for event in events if event["event"] == "block"][-1]
    assert (last["done"], last["frames"], last["movies"], last["failed"]) == (10, 10, 3, 0)
    assert last["seconds_left"] >= 0
    ends = {event["movie"][-5:]: event for event in events if event["event"] == "outcome"}
    assert ends["a.tif"]["whole"]
    assert ends["a.tif"]["tif"] == [str(tmp_path / "out" / "a_cp_masks.tif")]
    assert not ends["c.tif"]["whole"]
    assert "not a" in ends["c.tif"]["error"] or ends["c.tif"]["error"]


def test_lines_say_how_far_all_movies_are(run):
    code, out, err = run("--progress", "lines")
    assert code == 1
    assert "10 of 10 frames" in out
    assert "2 of 3 movies are whole." in out
    assert err.count("c.tif") == 2


def test_none_says_only_what_failed(run):
    code, out, err = run("--progress", "none")
    assert code == 1
    assert out.splitlines() == ["2 of 3 movies are whole."]
    assert "failed " in err
    assert "c.tif" in err


def test_a_bar_counts_all_movies_at_once(monkeypatch, capsys):
    bar = make_reporter("bar", 2)
    for name in "ab":
        plan = plan_of(10)
        plan.describe = lambda: ["movie"]
        bar.plan(name, plan)
    bar.block("a", block_of(4), done=4, total=10)
    bar.block("b", block_of(3, error="cosmic ray"), done=3, total=10)
    assert (bar._bar.n, bar._bar.total) == (7, 20) or bar._bar.disable
    assert bar._remarks() == ["movie 1 of 2", "3 failed"]
    bar.close()


def test_each_result_has_a_log_that_a_second_run_continues(run, tmp_path):
    run()
    log = tmp_path / "out" / "a.log"
    lines = log.read_text().splitlines()
    assert sum("block p0" in line for line in lines) == 3
    assert "run begins" in lines[0]
    assert lines[-1].endswith("cells")
    assert "run ends: 5 frames, " in lines[-1]
    assert not (tmp_path / "out" / "c.log").exists()
    run()
    assert log.read_text().splitlines()[: len(lines)] == lines
    assert log.read_text().count("run begins") == 2


def test_warnings_reach_the_logs_of_movies_under_way(tmp_path):
    from cypose_dask.cli.run_log import RunLog
    from cypose_dask.run import Source

    movies = [Source(str(tmp_path / f"{name}.tif")) for name in "ab"]
    plan = SimpleNamespace(describe=lambda: ["movie     a"])
    with RunLog(movies, tmp_path) as log:
        log.plan(movies[0].path, plan)
        logging.getLogger("cypose_dask.run.feed").warning("block %s is odd", "p0")
    logging.getLogger("cypose_dask.run.feed").warning("too late")
    text = (tmp_path / "a.log").read_text()
    assert "warning: block p0 is odd" in text
    assert "too late" not in text
    assert not (tmp_path / "b.log").exists()


def test_a_log_that_cannot_be_written_ends_no_run(tmp_path, caplog):
    from cypose_dask.cli.run_log import RunLog
    from cypose_dask.run import Source

    (movie,) = [Source(str(tmp_path / "a.tif"))]
    (tmp_path / "a.log").mkdir()
    plan = SimpleNamespace(describe=lambda: ["movie     a"])
    with RunLog([movie], tmp_path) as log:
        log.plan(movie.path, plan)
        log.block(movie.path, block_of(1), 1, 1)
    assert caplog.text.count("a.log cannot be written") == 1
