"""A long run whose workers die all the time: the labels are the serial ones, memory stays flat."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

from cypose_dask.results import Status, open_result
from cypose_dask.run.clusters.own import CONFIGURATION
from helpers.cluster_processes import Cluster, running, running_cluster, worker_processes
from helpers.small_movies import labels_of_movie, serial_labels, write_small_movie

SEGMENT = [sys.executable, "-c", "from cypose_dask.cli import main; main()", "segment"]
KILL_EVERY_S = 30.0
LOOK_EVERY_S = 0.25
# What `connect` sets for clusters of its own: Dask's profiles and logs would grow by 6 kB a frame.
SHORT_LOGS = {
    f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": str(value)
    for name, value in CONFIGURATION.items()
    if not isinstance(value, dict)
}
# Between the thirds of a run allocators and thread pools keep a few MB more. A leak of 10 kB a
# frame (a label image has 4) is 66 MB in the client, and a third of it in one of three workers:
# 30 and 10 % of what they have.
MOST_GROWTH = 1.06


@dataclass
class Memory:
    """Private memory of each role (client, scheduler, workers) against the blocks done."""

    samples: list[tuple[int, str, int]] = field(default_factory=list)

    def look(self, done: int, roles: dict[str, list[psutil.Process]]) -> None:
        for role, processes in roles.items():
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    self.samples.append((done, role, anonymous_bytes(process.pid)))

    def thirds(self, role: str) -> tuple[int, int]:
        """Return the largest of the first and of the last third of the blocks, bytes."""
        mine = [(done, size) for done, name, size in self.samples if name == role]
        blocks = max(done for done, _ in mine)
        first = max(size for done, size in mine if done <= blocks / 3)
        return first, max(size for done, size in mine if done > 2 * blocks / 3)


def anonymous_bytes(pid: int) -> int:
    """Memory that is the process's own; pages of mapped files come and go as the system likes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        raise psutil.NoSuchProcess(pid) from None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


@dataclass
class Soak:
    """One run of the command line, and what is done to its workers."""

    cluster: Cluster
    movie: Path
    tif: Path
    seed: int
    memory: Memory = field(default_factory=Memory)
    kills: int = 0
    seconds: float = 0.0

    @property
    def journal(self) -> Path:
        return self.tif.with_suffix(".journal.jsonl")

    def lines(self) -> list[bytes]:
        return self.journal.read_bytes().splitlines() if self.journal.exists() else []

    def run(self, *, kill_after: list[float], by_lines: bool = False) -> None:
        """Run to the end; kill a worker at each of these moments, in seconds or journal lines."""
        chance, due, begun = random.Random(self.seed), list(kill_after), time.monotonic()
        command = [*SEGMENT, str(self.movie), "-o", str(self.tif), "--frames-per-block", "10",
                   "--scheduler-file", str(self.cluster.scheduler_file)]  # fmt: skip
        err = self.tif.with_suffix(".err")
        with err.open("w") as stderr, running(command, stderr=stderr) as client:
            while client.poll() is None:
                done = len(self.lines())
                if due and due[0] <= (done if by_lines else time.monotonic() - begun):
                    self.kills += self.kill_one(chance)
                    due.pop(0)
                self.memory.look(done, self.roles(client))
                time.sleep(0.02 if by_lines else LOOK_EVERY_S)
            assert client.returncode == 0, err.read_text()
        self.seconds = time.monotonic() - begun

    def roles(self, client: psutil.Process) -> dict[str, list[psutil.Process]]:
        """Return whom to weigh: of the workers the one that lives all the time."""
        spared = worker_processes(self.cluster.nannies[0])
        return {"client": [client], "scheduler": [self.cluster.scheduler], "worker": spared}

    def kill_one(self, chance: random.Random) -> bool:
        """Kill -9 one of the workers that are not spared, unless none of them is up just now."""
        workers = [w for nanny in self.cluster.nannies[1:] for w in worker_processes(nanny)]
        if not workers:
            return False
        chance.choice(workers).kill()
        return True


def assert_whole(soak: Soak, n_frames: int) -> None:
    """All labels are the serial ones, in the arrays and in the TIF, and no block was done twice."""
    expected = labels_of_movie(n_frames)
    result = open_result(soak.tif.with_suffix(".zarr"))
    np.testing.assert_array_equal(np.asarray(result.labels()[:, 0]), expected)
    np.testing.assert_array_equal(tifffile.imread(soak.tif), expected)
    assert (result.status() == Status.DONE).all()
    blocks = Counter(json.loads(line)["block"]["start"] for line in soak.lines())
    assert blocks == dict.fromkeys(range(0, n_frames, 10), 1)


@pytest.fixture
def soak_of(tmp_path):
    """Make a movie of so many frames, and start three workers for it, one of which is spared."""
    serial_labels()  # converts the model, which would be the peak of the workers' memory

    def make(n_frames: int, seed: int) -> Soak:
        movie = write_small_movie(tmp_path / "movie.nd2", n_frames)
        return Soak(cluster, movie, tmp_path / "m.tif", seed)

    with running_cluster(tmp_path, workers=3, environment=SHORT_LOGS) as cluster:
        yield make


@pytest.mark.slow
def test_killed_workers_cost_no_label_and_no_second_line(soak_of):
    soak = soak_of(400, seed=1)
    soak.run(kill_after=[3, 20], by_lines=True)
    assert soak.kills == 2
    assert_whole(soak, 400)


@pytest.mark.slow
def test_10000_frames_with_dying_workers_equal_the_serial_labels_in_flat_memory(soak_of):
    n_frames, chance = 10_000, random.Random(7)
    soak = soak_of(n_frames, seed=7)
    moments = np.cumsum([chance.expovariate(1 / KILL_EVERY_S) for _ in range(1000)])
    soak.run(kill_after=list(moments))
    thirds = {role: soak.memory.thirds(role) for role in ("client", "scheduler", "worker")}
    megabytes = {role: [size >> 20 for size in sizes] for role, sizes in thirds.items()}
    print(f"{n_frames / soak.seconds:.0f} frames/s, {soak.kills} kills, MB by thirds {megabytes}")
    assert soak.kills >= 2
    assert_whole(soak, n_frames)
    for role, (first, last) in thirds.items():
        assert last < MOST_GROWTH * first, role
