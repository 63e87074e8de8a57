"""Kill -9 of everything, for real: what was done is kept, and the rest continues to the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import tifffile

from helpers.cluster_processes import wait_until, worker_processes

COMMAND = [sys.executable, "-c", "from cypose_dask.cli import main; main()", "segment"]


@pytest.fixture(scope="module")
def long_path(synthetic, tmp_path_factory):
    """A movie that goes on while signals travel: the synthetic frames, again and again."""
    path = tmp_path_factory.mktemp("long") / "movie.tif"
    frames = np.tile(synthetic.frames[:, 0], (20, 1, 1))
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TYX"})
    return path


def run_until(lines, arguments, journal):
    """Start a run in a process group of its own and kill the group at so many journal lines."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], start_new_session=True, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
            break
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize(
    "how",
    [
        ("SIGINT", os.killpg, 1),
        pytest.param(("SIGTERM", os.killpg, 1), marks=pytest.mark.slow),
        pytest.param(("SIGTERM", os.kill, 1), marks=pytest.mark.slow),
        pytest.param(("SIGINT", os.killpg, 2), marks=pytest.mark.slow),
    ],
    ids=["Ctrl-C", "SIGTERM to all", "SIGTERM to the client", "Ctrl-C twice"],
)
def test_an_interrupted_run_keeps_its_blocks_and_says_how_to_go_on(how, long_path, tmp_path):
    name, send, times = how
    tif, journal = tmp_path / "m.tif", tmp_path / "m.journal.jsonl"
    arguments = [str(long_path), "-o", str(tif), "--frames-per-block", "1", "--workers", "1"]
    process = subprocess.Popen(
        [*COMMAND, *arguments], start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not journal.exists():
        time.sleep(0.02)
    for _ in range(times):
        send(process.pid, getattr(signal, name))
        time.sleep(0.2)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 4, err
    assert "un the same command again to continue" in err
    assert "Traceback" not in err
    assert not tif.exists()
    assert not (tmp_path / "m.lock").exists()
    assert times == 2 or "stopped on request" in err


def test_an_interrupt_while_workers_start_is_a_stop(long_path, tmp_path):
    process = subprocess.Popen(
        [*COMMAND, str(long_path), "-o", str(tmp_path / "m.tif"), "--workers", "2"],
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: worker_processes(psutil.Process(process.pid)))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 4, err
    assert "stopped on request with 0 of 100 frames done" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_killed_group_continues_to_the_same_tif(long_path, expected_labels, tmp_path):
    tif, journal = tmp_path / "m.tif", tmp_path / "m.journal.jsonl"
    arguments = [str(long_path), "-o", str(tif), "--frames-per-block", "1", "--workers", "1"]
    run_until(2, arguments, journal)
    done = journal.read_text().splitlines()
    assert 2 <= len(done) < 100
    assert not tif.exists()
    finished = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert len(journal.read_text().splitlines()) == 100
    assert journal.read_text().splitlines()[: len(done)] == done
    np.testing.assert_array_equal(tifffile.imread(tif), np.tile(expected_labels, (20, 1, 1)))
