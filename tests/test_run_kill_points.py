"""Kill -9 of anything at any moment: what was done is kept, the rest is done to the same labels.

A moment is a number of journal lines, or the shard of a block that the journal does not have yet.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile

from cypose_dask.engine import usable_cores
from cypose_dask.errors import RunError
from cypose_dask.movies import open_movie
from cypose_dask.results import Status, open_result
from cypose_dask.run import connect, segment
from cypose_dask.settings import RunOptions
from helpers.cluster_processes import (
    Cluster,
    kill_group,
    no_hang,
    running,
    running_cluster,
    wait_until,
    worker_processes,
)
from helpers.small_movies import labels_of_movie, serial_labels, write_small_movie

SEGMENT = [sys.executable, "-c", "from cypose_dask.cli import main; main()", "segment"]
N_FRAMES = 40
# As `RunOptions.blocks_in_flight` says.
IN_FLIGHT_PER_THREAD = 3


@dataclass(frozen=True)
class Place:
    """Where a run writes, and how far it has come."""

    movie: Path
    tif: Path

    @property
    def store(self) -> Path:
        return self.tif.with_suffix(".zarr")

    def command(self, *where: object) -> list[str]:
        output = ["-o", self.tif, "--frames-per-block", "1"]
        return [*map(str, [*SEGMENT, self.movie, *output, *where])]

    def lines(self) -> list[str]:
        """Return the whole lines of the journal; a torn one has no end."""
        journal = self.tif.with_suffix(".journal.jsonl")
        text = journal.read_text() if journal.exists() else ""
        return text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]

    def shards(self) -> set[int]:
        """Return the blocks whose shard is in its place."""
        chunks = self.store / "0" / "labels" / "cells" / "0" / "c"
        return {int(path.parents[2].name) for path in chunks.glob("*/*/*/*") if path.is_file()}

    def finish(self, *where: object) -> None:
        """Run the same command again, to its end."""
        done = subprocess.run(
            self.command(*where), capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr


def assert_whole(place: Place, before: list[str]) -> None:
    """All labels are the serial ones, and no block that the journal had was done again."""
    expected = labels_of_movie(N_FRAMES)
    result = open_result(place.store)
    np.testing.assert_array_equal(np.asarray(result.labels()[:, 0]), expected)
    np.testing.assert_array_equal(tifffile.imread(place.tif), expected)
    assert (result.status() == Status.DONE).all()
    assert place.lines()[: len(before)] == before
    blocks = Counter(json.loads(line)["block"]["start"] for line in place.lines())
    assert blocks == dict.fromkeys(range(N_FRAMES), 1)


def done_in_vain(place: Place) -> int:
    """Return how many blocks were written that the journal does not have; they are done again."""
    journalled = {json.loads(line)["block"]["start"] for line in place.lines()}
    return len(place.shards() - journalled)


def after_lines(n: int) -> Callable[[Place], bool]:
    return lambda place: len(place.lines()) >= n


def after_shard(n: int) -> Callable[[Place], bool]:
    """The shard of block n is written; its line, which takes the client some ms, is not."""
    return lambda place: (place.store / f"0/labels/cells/0/c/{n}/0/0/0").exists()


AFTER_A_LINE = pytest.param(after_lines(1), id="after 1 line")
BEFORE_ITS_LINE = pytest.param(after_shard(15), id="between shard and line")


def slow(moment: Any) -> Any:
    """Leave a moment to the slow suite."""
    return pytest.param(*moment.values, id=moment.id, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def small_movie(tmp_path_factory):
    serial_labels()  # converts the model once for all processes
    return write_small_movie(tmp_path_factory.mktemp("small") / "movie.nd2", N_FRAMES)


@pytest.fixture
def place(small_movie, tmp_path):
    return Place(small_movie, tmp_path / "m.tif")


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """A cluster of one worker that outlives the clients that are killed."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@contextmanager
def interrupted(place: Place, moment: Callable[[Place], bool], *where: object):
    """Start a run and stop there at a moment; the caller does the harm."""
    err = place.tif.with_suffix(".err")
    with err.open("w") as stderr, running(place.command(*where), stderr=stderr) as client:
        wait_until(lambda: moment(place) or client.poll() is not None, every_s=0.001)
        assert client.poll() is None, f"it ended before it could be killed: {err.read_text()}"
        yield client


def lost_blocks_are_few(place: Place, threads: int = 1) -> list[str]:
    """Look at what a killed run left; return the journal's lines."""
    before = place.lines()
    assert len(before) < N_FRAMES
    assert not place.tif.exists()
    assert done_in_vain(place) <= IN_FLIGHT_PER_THREAD * threads
    return before


@pytest.mark.parametrize("moment", [AFTER_A_LINE, slow(BEFORE_ITS_LINE)])
def test_a_killed_group_loses_only_the_blocks_in_flight(moment, place):
    with interrupted(place, moment, "--workers", "1") as client:
        kill_group(client.pid)
        client.wait()
    before = lost_blocks_are_few(place, usable_cores())
    place.finish("--workers", "1")
    assert_whole(place, before)


@pytest.mark.parametrize("moment", [slow(AFTER_A_LINE), BEFORE_ITS_LINE])
def test_a_killed_client_loses_only_the_blocks_in_flight(moment, place, lasting):
    where = ("--scheduler-file", lasting.scheduler_file)
    with interrupted(place, moment, *where) as client:
        client.kill()
        client.wait()
    before = lost_blocks_are_few(place)
    place.finish(*where)
    assert_whole(place, before)


def test_workers_do_not_outlive_the_client_that_started_them(place):
    """They would write into the result of the run that continues it."""
    with interrupted(place, after_lines(5), "--workers", "1") as client:
        workers = worker_processes(client)
        assert len(workers) == 1
        client.kill()
        client.wait()
        wait_until(lambda: not any(is_alive(worker) for worker in workers))


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_killed_worker_costs_nothing_but_time(place, lasting):
    with interrupted(place, after_lines(3), "--scheduler-file", lasting.scheduler_file) as client:
        (worker,) = lasting.workers
        worker.kill()
        wait_until(lambda: client.poll() is not None)
        assert client.returncode == 0, place.tif.with_suffix(".err").read_text()
    assert_whole(place, [])


def test_a_killed_scheduler_is_an_error_and_the_run_goes_on_elsewhere(place, tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    with running_cluster(tmp_path / "first") as cluster:
        where = ("--scheduler-file", cluster.scheduler_file)
        with interrupted(place, after_lines(3), *where) as client:
            cluster.scheduler.kill()
            wait_until(lambda: client.poll() is not None)
        assert client.returncode == 4
        assert "run the same command again" in place.tif.with_suffix(".err").read_text().lower()
        before = lost_blocks_are_few(place)
    with running_cluster(tmp_path / "second") as cluster:
        place.finish("--scheduler-file", cluster.scheduler_file)
    assert_whole(place, before)


@pytest.mark.slow
def test_a_scheduler_that_is_lost_while_a_run_is_planned_is_an_error_too(place, tmp_path):
    def planning(place: Place) -> bool:
        return place.tif.with_suffix(".lock").exists()

    with running_cluster(tmp_path) as cluster:
        with interrupted(place, planning, "--scheduler-file", cluster.scheduler_file) as client:
            cluster.scheduler.kill()
            wait_until(lambda: client.poll() is not None)
        assert client.returncode == 4, place.tif.with_suffix(".err").read_text()


@pytest.mark.slow
def test_a_cluster_without_workers_is_an_error_after_a_while(place, tmp_path):
    options = RunOptions(frames_per_block=1, wait_for_workers_s=2)

    def kill_all(*_: object) -> None:
        for nanny in cluster.nannies:
            kill_group(nanny.pid)

    with (
        running_cluster(tmp_path) as cluster,
        connect(scheduler_file=str(cluster.scheduler_file)) as client,
        no_hang(90),
    ):
        client.wait_for_workers(1)
        movie = open_movie(place.movie)
        with pytest.raises(RunError, match="no worker for 2 s"):
            segment(movie, place.store, client=client, options=options, progress=kill_all)
    before = lost_blocks_are_few(place)
    place.finish("--workers", "1")
    assert_whole(place, before)


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_an_error_after_a_while(place, tmp_path, monkeypatch):
    from cypose_dask.run import watch

    monkeypatch.setattr(watch, "_ANSWER_S", 2.0)
    monkeypatch.setattr(watch, "_LOOK_EVERY_S", 0.2)
    options = RunOptions(frames_per_block=1)
    movie = open_movie(place.movie)
    with (
        running_cluster(tmp_path) as cluster,
        no_hang(90),
        connect(scheduler_file=str(cluster.scheduler_file)) as client,
        pytest.raises(RunError, match=r"scheduler does not answer.*run the same command again"),
    ):
        segment(
            movie, place.store, client=client, options=options,
            progress=lambda *_: cluster.scheduler.suspend(),
        )  # fmt: skip
    before = lost_blocks_are_few(place)
    place.finish("--workers", "1")
    assert_whole(place, before)


VICTIMS = ("client", "worker", "scheduler", "group")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_any_sequence_of_kills_ends_in_the_same_labels(seed, place, tmp_path):
    """Up to four runs are hit, each at a moment of its own; the last one is left in peace."""
    chance = random.Random(seed)
    before: list[str] = []
    for attempt in range(chance.randint(1, 4)):
        folder = tmp_path / f"cluster {attempt}"
        folder.mkdir()
        with running_cluster(folder, workers=2) as cluster:
            hit(place, cluster, chance)
        assert place.lines()[: len(before)] == before
        before = place.lines()
        if place.tif.exists():
            break
    place.finish("--workers", "1")
    assert_whole(place, before)


def hit(place: Place, cluster: Cluster, chance: random.Random) -> None:
    """Kill one of the processes of a run at a random moment, and wait for what comes of it."""
    victim, target = chance.choice(VICTIMS), len(place.lines()) + chance.randint(0, 14)
    moment = chance.choice([after_lines(target), after_shard(min(target, N_FRAMES - 1))])
    where = ("--scheduler-file", cluster.scheduler_file)
    with running(place.command(*where)) as client:
        wait_until(lambda: moment(place) or client.poll() is not None, every_s=0.001)
        if victim == "worker":
            for worker in cluster.workers[:1]:
                worker.kill()
        elif victim == "scheduler":
            cluster.scheduler.kill()
        else:
            client.kill()
        if victim == "group":
            for process in (cluster.scheduler, *cluster.nannies):
                kill_group(process.pid)
        wait_until(lambda: client.poll() is not None)
        expected = {"worker": {0}, "scheduler": {0, 4}}.get(victim, {0, -9})
        assert client.returncode in expected, victim
