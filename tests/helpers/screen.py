"""A screen for tests of windows: the one there is, or one that nobody sees."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess

import pytest


def need_screen() -> None:
    """Let `DISPLAY` name a screen until this process ends; the test skips where none can be."""
    if os.environ.get("DISPLAY"):
        return
    if not shutil.which("Xvfb"):
        pytest.skip("no screen, and no Xvfb")
    process = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", "1400x900x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    # Not earlier: Qt ends a process whose screen is gone.
    atexit.register(process.kill)
    os.environ["DISPLAY"] = f":{process.stdout.readline().strip()}"
