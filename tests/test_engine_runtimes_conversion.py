"""Converted networks on disk."""

import logging
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cypose_dask.engine.runtimes import conversion, convert_network, open_runtime
from cypose_dask.engine.runtimes.fold import fold
from cypose_dask.errors import ModelError
from cypose_dask.models import resolve_model

# Opens a bundled model in this runtime, in a process of its own, and runs one tile.
SCRIPT = """
import logging, sys
logging.basicConfig(level="INFO", format="%(message)s")
import numpy as np
from cypose_dask.engine.runtimes import open_runtime
from cypose_dask.models import ModelSpec
spec = ModelSpec(**eval(sys.argv[1]))
runtime = open_runtime(spec, "openvino", threads=1)
output, _ = runtime(np.ones((1, spec.network_inputs, 16, 16), "f4"))
print(repr(float(output.sum())), *sorted(m for m in ("torch", "cellpose") if m in sys.modules))
telemetry = [m for m in sys.modules.items() if m[0].startswith("openvino_telemetry")]
assert all(module is None for _, module in telemetry), telemetry
"""


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("CYPOSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def spec():
    return resolve_model("cyano-rods")


def start(spec):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, repr(spec.to_dict())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process) -> str:
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return out.strip()


def files(cache):
    return [path.name for path in (cache / "networks").iterdir()]


def test_a_process_that_finds_the_conversion_imports_neither_torch_nor_cellpose(cache, spec):
    path = convert_network(spec)
    output, _ = open_runtime(spec, "openvino", threads=1)(np.ones((1, 2, 16, 16), np.float32))
    assert said(start(spec)) == repr(float(output.sum()))
    assert files(cache) == [path.name]
    assert spec.sha256 in path.name


def test_converting_needs_torch_but_not_cellpose(cache, spec):
    assert said(start(spec)).split()[1:] == ["torch"]


@pytest.mark.slow
def test_several_processes_may_convert_at_once(cache, spec):
    results = [said(process) for process in [start(spec) for _ in range(2)]]
    assert len({result.split()[0] for result in results}) == 1
    assert files(cache) == [conversion._place(spec).name]


def test_two_that_write_at_once_do_not_meet(cache, spec, monkeypatch, caplog):
    folded = conversion.folded_weights(spec)
    path = conversion._place(spec)
    path.unlink()
    both = threading.Barrier(2, timeout=30)
    monkeypatch.setattr(os, "fsync", lambda descriptor: both.wait())
    writers = [threading.Thread(target=conversion._write, args=(path, folded)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert files(cache) == [path.name]
    assert conversion._read(path).keys() == folded.keys()
    assert not caplog.records


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "another"])
def test_a_damaged_conversion_is_made_again(cache, spec, damage):
    path = convert_network(spec)
    whole = path.read_bytes()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "changed":
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    else:
        path.write_bytes(b"not an archive" * 100)
    assert convert_network(spec) == path
    assert path.read_bytes() == whole


def test_a_conversion_is_read_not_repeated(cache, spec, monkeypatch):
    convert_network(spec)
    monkeypatch.setattr(conversion, "_convert", None)
    convert_network(spec)


def test_a_folder_that_cannot_be_written_warns_and_still_runs(cache, spec, caplog):
    (cache / "networks").write_text("a file, where a folder is expected")
    with caplog.at_level(logging.WARNING):
        output, _ = open_runtime(spec, "openvino", threads=1)(np.ones((1, 2, 16, 16), np.float32))
    assert np.isfinite(output).all()
    assert "Set CYPOSE_CACHE" in caplog.text


def test_a_failed_write_leaves_nothing(cache, spec, monkeypatch, caplog):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    convert_network(spec)
    assert files(cache) == []
    assert "No space left" in caplog.text


def test_a_missing_file_is_named(cache, spec):
    gone = replace(spec, path="/nowhere/net", sha256="0" * 64)
    with pytest.raises(ModelError, match="/nowhere/net cannot be read"):
        convert_network(gone)


def test_a_transformer_is_not_converted(cache, spec):
    with pytest.raises(ModelError, match="only U-Nets"):
        convert_network(replace(spec, backbone="transformer"))


@pytest.mark.slow
def test_folding_reads_every_weight(spec):
    """Each number of the file reaches the folded network."""
    import torch

    state = torch.load(spec.path, weights_only=True)
    exact = {key: tensor.double().numpy() for key, tensor in state.items()}
    plain = fold(exact)
    ignored = ("num_batches_tracked", "diam_mean", "diam_labels")
    for key in exact:
        if key.endswith(ignored):
            continue
        changed = fold({**exact, key: exact[key] + 0.5})
        assert any(not np.array_equal(changed[name], plain[name]) for name in plain), key
