"""The parts of `scripts/benchmark_cluster.py`: each yields the lines of one table."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

from benchmarks import gemm
from benchmarks.parts import Bench
from benchmarks.sleeping import blocks_that_sleep, nap_s
from cypose_dask import open_movie, segment
from cypose_dask.results.naming import journal_of
from cypose_dask.run import connect
from cypose_dask.run.clusters.own import CONFIGURATION
from cypose_dask.settings import RunOptions
from helpers.cluster_processes import running, running_cluster, wait_until
from helpers.small_movies import write_small_movie

__all__ = ["second_worker", "simulated"]

TESTS = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    "PYTHONPATH": str(TESTS),
    **{
        f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": str(value)
        for name, value in CONFIGURATION.items()
        if not isinstance(value, dict)
    },
}


@dataclass
class Usage:
    """Wall and processor time of one run, s; processor time by process."""

    wall: float
    busy: dict[str, float]

    def share(self, name: str) -> float:
        """Return processor time over wall, in percent of one core."""
        return 100 * self.busy[name] / self.wall


@contextmanager
def measured(**processes: psutil.Process) -> Iterator[Usage]:
    """Measure a ``with`` block, and what some processes do meanwhile."""
    usage = Usage(0.0, {})
    before = {name: _busy_s(process) for name, process in processes.items()}
    begun = time.perf_counter()
    yield usage
    usage.wall = time.perf_counter() - begun
    usage.busy = {name: _busy_s(process) - before[name] for name, process in processes.items()}


def _busy_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _cluster(folder: Path, workers: int) -> Iterator[tuple[Any, psutil.Process]]:
    """Start a scheduler and workers of one thread; yield a client and the scheduler's process."""
    folder.mkdir(parents=True)
    with running_cluster(folder, workers=workers, environment=ENVIRONMENT) as cluster:
        file = cluster.scheduler_file
        wait_until(lambda: file.stat().st_size)  # it is there before it is written
        with connect(scheduler_file=str(file)) as client:
            if workers:
                client.wait_for_workers(workers)
            yield client, cluster.scheduler


@dataclass
class _Side:
    """A cluster of single-threaded workers, its client, and what it has taken."""

    client: Any
    scheduler: psutil.Process
    store: Path
    turns: list[Usage] = field(default_factory=list)

    def run(self, path: Path, bench: Bench) -> np.ndarray:
        """Segment a movie into a fresh result; return the labels (T, Z, Y, X)."""
        movie, options = open_movie(path), RunOptions(restart=True)
        with measured(scheduler=self.scheduler, client=psutil.Process()) as usage:
            result = segment(movie, self.store, bench.settings, client=self.client, options=options)
        self.turns.append(usage)
        return np.asarray(result.labels())


def second_worker(bench: Bench) -> Iterator[str]:
    """What a second worker brings, against what a second process brings to a matrix product.

    The first round warms up and does not count.
    """
    path = bench.movie("scaling", bench.frames)
    products = []
    with ExitStack() as stack, gemm.processes(2) as pool:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        one, two = (
            _Side(*stack.enter_context(_cluster(folder / str(n), n)), folder / f"{n}.zarr")
            for n in (1, 2)
        )
        for _ in range(bench.rounds + 1):
            alone, together = one.run(path, bench), two.run(path, bench)
            products.append(sum(gemm.rates_at_once(pool, 2)) / gemm.rates_at_once(pool, 1)[0])
    gains = [a.wall / b.wall for a, b in zip(one.turns, two.turns, strict=True)]
    quotients = [mine / best for mine, best in zip(gains, products, strict=True)]
    yield "| second worker | second process of a matrix product | quotient |"
    yield "|---|---|---|"
    middle = [statistics.median(values[1:]) for values in (gains, products, quotients)]
    yield f"| {middle[0]:.2f} times | {middle[1]:.2f} times | {100 * middle[2]:.0f} % |"
    yield ""
    yield f"rounds: {', '.join(f'{100 * one:.0f} %' for one in quotients[1:])} (in their order)"
    for name in ("scheduler", "client"):
        share = statistics.median(turn.share(name) for turn in two.turns[1:])
        yield f"processor time of the {name}, of the wall time: {share:.2f} %"
    wall = statistics.median(turn.wall for turn in two.turns[1:])
    yield f"{bench.n_frames} frames on two workers: {wall:.1f} s"
    yield f"labels of one and two workers: {'equal' if (alone == together).all() else 'NOT EQUAL'}"


def simulated(n_frames: int, workers: int, block_seconds: list[float]) -> Iterator[str]:
    """A run on more workers than there are cores: real plan, graphs, scheduler and journal.

    Only the pixels are missing: a block sleeps. The scheduler is a process of its own; the workers
    share another one.
    """
    yield f"| a block takes | blocks/s | efficiency on {workers} workers | {_BUSY} |"
    yield "|---|---|---|---|"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        movie = open_movie(write_small_movie(folder / "movie.nd2", n_frames))
        client, scheduler = stack.enter_context(_cluster(folder / "cluster", 0))
        host = stack.enter_context(_sleepers(client.scheduler.address, workers))
        client.wait_for_workers(workers, timeout=120)
        processes = {"scheduler": scheduler, "client": psutil.Process(), "workers": host}
        for number, seconds in enumerate(block_seconds):
            store = folder / f"{number}.zarr"
            with blocks_that_sleep(seconds), measured(**processes) as usage:
                segment(movie, store, client=client)
            yield _row(journal_of(store), usage, seconds, workers)


_BUSY = "busy: scheduler, client, all workers"


@contextmanager
def _sleepers(address: str, count: int) -> Iterator[psutil.Process]:
    command = [sys.executable, "-m", "benchmarks.sleeping", address, str(count)]
    with running(command, {**ENVIRONMENT, "PYTHONUNBUFFERED": "1"}) as process:
        yield process


def _row(journal: Path, usage: Usage, seconds: float, workers: int) -> str:
    """Return how near a run came to workers that never wait."""
    blocks = [json.loads(line)["block"] for line in journal.read_text().splitlines()]
    ideal = sum(nap_s(block["start"], seconds) for block in blocks) / workers
    busy = ", ".join(f"{usage.share(name):.0f} %" for name in usage.busy)
    rate = len(blocks) / usage.wall
    return f"| {seconds:g} s | {rate:.0f} | {100 * ideal / usage.wall:.0f} % | {busy} |"


def cores_text() -> str:
    """Say on how many cores all of this ran."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start"
