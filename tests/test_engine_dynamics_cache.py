"""What the dynamics load, and that a machine compiles them once."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import importlib, json, pkgutil, sys
import numpy as np
from numba.core.dispatcher import Dispatcher
from cypose_dask.engine import dynamics
from cypose_dask.settings import Settings

seed, threads, channels_last = json.loads(sys.argv[1])
rng = np.random.default_rng(seed)
flows = rng.standard_normal((60, 50, 2)).astype(np.float32)
flows = flows.transpose(2, 0, 1)
flows = flows if channels_last else flows.copy()
chosen = Settings(niter=200 + seed, flow_threshold=0.4)
labels, errors = dynamics.labels_from_flows(
    flows, np.ones((60, 50), np.float32), chosen, threads=threads
)
names = [m.name for m in pkgutil.iter_modules(dynamics.__path__)]
modules = [importlib.import_module(f"{dynamics.__name__}.{name}") for name in names]
kernels = {
    f"{k.__module__}.{k.__name__}": k
    for m in modules for k in vars(m).values() if isinstance(k, Dispatcher)
}
print(json.dumps({
    "cells": errors.size,
    "hits": sum(sum(k.stats.cache_hits.values()) for k in kernels.values()),
    "compiled": [n for n, k in kernels.items() if k.stats.cache_misses],
    "not_kept": [n for n, k in kernels.items() if k.stats.cache_path is None],
    "heavy": [m for m in ("torch", "cellpose", "fastremap", "fill_voids") if m in sys.modules],
}))
"""


def in_a_new_process(folder, *, seed, threads, channels_last):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([seed, threads, channels_last])],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    first = in_a_new_process(folder, seed=1, threads=1, channels_last=True)
    second = in_a_new_process(folder, seed=2, threads=3, channels_last=False)
    return first, second


@pytest.mark.slow
def test_a_second_process_compiles_nothing_whatever_its_frames_are_like(processes):
    first, second = processes
    assert first["cells"] > 0 < second["cells"]
    assert first["hits"] == 0 < second["hits"]
    assert len(first["compiled"]) > 10
    assert second["compiled"] == second["not_kept"] == []


def test_neither_torch_nor_cellpose_is_loaded(processes):
    assert [process["heavy"] for process in processes] == [[], []]
