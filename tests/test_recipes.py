"""The scripts for clusters are run as they are, and give the labels of a serial run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from conftest import ROOT
from cypose_dask.movies import open_movie
from cypose_dask.run import connect, segment
from cypose_dask.run.clusters import own
from cypose_dask.settings import RunOptions
from helpers import real_slurm
from helpers.cluster_processes import running, wait_until
from helpers.killed_runs import SmallRun
from helpers.small_movies import labels_of_movie, serial_labels, write_small_movie

RECIPES = ROOT / "scripts" / "clusters"
ONE_MACHINE = RECIPES / "one_machine.sh"
ALLOCATION = RECIPES / "allocation.sbatch"
N_FRAMES = 40
# So long that a signal comes before the end.
MANY_FRAMES = 200
# What `nanny.pre-spawn-environ` is for Dask's own workers: scripts set threads, Dask the rest.
ELSEWHERE = {"distributed.nanny.pre-spawn-environ"}

# Starts each task of a step here, as one node with room for all of them.
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
for ((i = 0; i < SLURM_NTASKS; i++)); do "$@" & done
wait
"""


@pytest.mark.parametrize("recipe", [ONE_MACHINE, ALLOCATION], ids=lambda path: path.name)
def test_recipes_set_what_our_own_clusters_set(recipe):
    found = dict(re.findall(r"^export (DASK_\w+)=(\S+)$", recipe.read_text(), re.M))
    expected = {
        f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": str(value)
        for name, value in own.CONFIGURATION.items()
        if name not in ELSEWHERE
    }
    assert found == expected


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
    """Small movies by their length."""
    serial_labels()  # converts the model once for all processes
    folder = tmp_path_factory.mktemp("small")
    return {n: write_small_movie(folder / f"{n}.nd2", n) for n in (N_FRAMES, MANY_FRAMES)}


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The folder of this environment's commands, and one for those that are pretended, on PATH."""
    commands = tmp_path / "commands"
    commands.mkdir()
    here = os.pathsep.join([str(commands), str(Path(sys.executable).parent)])
    monkeypatch.setenv("PATH", here, prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    return commands


@pytest.fixture
def small_run(movies, tmp_path):
    return SmallRun(movies[N_FRAMES], tmp_path / "m.tif", N_FRAMES)


@pytest.fixture
def long_run(movies, tmp_path):
    return SmallRun(movies[MANY_FRAMES], tmp_path / "m.tif", MANY_FRAMES)


@contextmanager
def started(command):
    """Run a recipe; what it has started, in groups of their own, does not survive it."""
    with running(command) as script:
        try:
            yield script
        finally:
            for process in script.children(recursive=True) if script.is_running() else ():
                process.kill()


def finished(command):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def ports(process):
    listening = [c for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    return [connection.laddr.ip for connection in listening]


@pytest.mark.slow
def test_one_machine_is_a_scheduler_and_workers_until_it_is_told_to_stop(small_run, path, tmp_path):
    file = tmp_path / "s.json"
    command = ["bash", str(ONE_MACHINE), "-w", "2", "-t", "1", "-f", str(file)]
    with started(command) as script:
        wait_until(file.exists)
        with connect(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=60)
            processes = script.children(recursive=True)
            assert {ip for process in processes for ip in ports(process)} == {"127.0.0.1"}
            assert list(client.nthreads().values()) == [1, 1]
            told = client.run(lambda: os.environ["OMP_NUM_THREADS"]).values()
            assert set(told) == {str(max(1, os.cpu_count() // 2))}
            options = RunOptions(frames_per_block=1)
            store = tmp_path / "m.zarr"
            result = segment(open_movie(small_run.movie), store, client=client, options=options)
        np.testing.assert_array_equal(result.labels()[:, 0], labels_of_movie(N_FRAMES))
        assert len(small_run.workers()) == 2
        script.send_signal(signal.SIGINT)
        wait_until(lambda: script.poll() is not None)
        assert not any(is_alive(process) for process in processes)
        assert not file.exists()


def is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_one_machine_runs_a_command_and_ends_with_its_exit_code(path, tmp_path):
    told = (
        'echo "$DASK_SCHEDULER_ADDRESS"; grep -c "$DASK_SCHEDULER_ADDRESS" scheduler.json; exit 7'
    )
    done = finished(["bash", ONE_MACHINE, "-w", "1", "bash", "-c", told])
    assert done.returncode == 7
    assert re.fullmatch(r"tcp://127.0.0.1:\d+\n1\n", done.stdout)
    assert not (tmp_path / "scheduler.json").exists()


def test_one_machine_without_dask_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    done = finished(["bash", ONE_MACHINE, "true"])
    assert done.returncode == 2
    assert "dask is not on PATH" in done.stderr


def interrupt(command, run, harm):
    """Start a recipe, do something after a few blocks, and return its exit code."""
    with started(command) as script:
        wait_until(lambda: len(run.lines()) >= 5 or script.poll() is not None)
        assert script.poll() is None, "it ended before anything was done to it"
        harm(script)
        wait_until(lambda: script.poll() is not None)
        return script.returncode


@pytest.mark.slow
def test_one_machine_hands_a_stop_to_its_command_and_the_same_line_continues(long_run, path):
    command = ["bash", str(ONE_MACHINE), "-w", "2", "cypose-dask", "segment", *long_run.arguments]
    assert interrupt(command, long_run, lambda script: script.terminate()) == 4
    before = long_run.lines()
    assert 5 <= len(before) < MANY_FRAMES
    done = finished(command)
    assert done.returncode == 0, done.stderr
    long_run.assert_whole(before)


@pytest.fixture
def pretended_job(path, monkeypatch):
    """The variables of a job of two tasks, and an srun that starts them here."""
    srun = path / "srun"
    srun.write_text(SRUN)
    srun.chmod(0o755)
    for name, value in {"JOB_ID": "17", "NTASKS": "2", "CPUS_PER_TASK": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)


def leftovers(folder):
    return [path for path in folder.iterdir() if path.name.startswith(".cypose")]


@pytest.mark.slow
def test_an_allocation_is_one_encrypted_cluster(small_run, pretended_job, tmp_path):
    done = finished(["bash", ALLOCATION, *small_run.arguments])
    assert done.returncode == 0, done.stderr
    small_run.assert_whole([])
    assert all(worker.startswith("tls://") for worker in small_run.workers())
    assert leftovers(tmp_path) == []


@pytest.mark.slow
def test_an_allocation_that_comes_to_its_end_is_continued_by_the_next(
    long_run, pretended_job, tmp_path
):
    command = ["bash", str(ALLOCATION), *long_run.arguments]
    keys = []

    def end(script):
        (folder,) = leftovers(tmp_path)
        keys.append(folder.stat().st_mode & 0o077)
        script.terminate()

    assert interrupt(command, long_run, end) == 4
    assert keys == [0]
    assert leftovers(tmp_path) == []
    before = long_run.lines()
    assert 5 <= len(before) < MANY_FRAMES
    done = finished(command)
    assert done.returncode == 0, done.stderr
    long_run.assert_whole(before)


@pytest.fixture
def one_node(path, tmp_path, monkeypatch):
    """A real SLURM with room for two tasks."""
    if not real_slurm.is_there():
        pytest.skip("SLURM is not installed, or may not be started by this user")
    with real_slurm.one_node(tmp_path, cores=2) as configuration:
        monkeypatch.setenv("SLURM_CONF", str(configuration))
        yield


def submitted(run):
    """Return the command that submits a job of two tasks and waits for its end."""
    # TERM comes 300 s before the end, and SLURM looks once a minute.
    size = ["--ntasks=2", "--cpus-per-task=1", "--mem-per-cpu=3G", "--time=20"]
    return ["sbatch", "--wait", *size, str(ALLOCATION), *run.arguments]


@pytest.mark.slow
def test_a_real_allocation_that_is_ended_is_continued_by_the_next(one_node, long_run, tmp_path):
    def end(_):
        told = ["squeue", "--noheader", "--format=%A"]
        (job,) = subprocess.run(told, capture_output=True, text=True).stdout.split()
        subprocess.run(["scancel", "--batch", "--signal=TERM", job], check=True)

    command = submitted(long_run)
    assert interrupt(command, long_run, end) == 4
    assert leftovers(tmp_path) == []
    before = long_run.lines()
    assert 5 <= len(before) < MANY_FRAMES
    done = finished(command)
    assert done.returncode == 0, [path.read_text() for path in tmp_path.glob("slurm-*.out")]
    long_run.assert_whole(before)
