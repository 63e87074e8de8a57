"""Kill -9 of everything, for real: what was done is kept, and the rest continues to the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

COMMAND = [sys.executable, "-c", "from cypose_dask.cli import main; main()", "segment"]


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_interrupted_run_says_how_to_go_on(name, nd2_path, tmp_path):
    tif, journal = tmp_path / "m.tif", tmp_path / "m.journal.jsonl"
    arguments = [str(nd2_path), "-o", str(tif), "--frames-per-block", "1", "--workers", "1"]
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not journal.exists():
        time.sleep(0.02)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 4
    assert "Run the same command again to continue" in err
    assert not tif.exists()


@pytest.mark.slow
def test_a_killed_group_continues_to_the_same_tif(nd2_path, expected_labels, tmp_path):
    tif, journal = tmp_path / "m.tif", tmp_path / "m.journal.jsonl"
    arguments = [str(nd2_path), "-o", str(tif), "--frames-per-block", "1", "--workers", "1"]
    run_until(2, arguments, journal)
    done = journal.read_text().splitlines()
    assert 2 <= len(done) < 5
    assert not tif.exists()
    finished = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert len(journal.read_text().splitlines()) == 5
    assert journal.read_text().splitlines()[: len(done)] == done
    np.testing.assert_array_equal(tifffile.imread(tif), expected_labels)
