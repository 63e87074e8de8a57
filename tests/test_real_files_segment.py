"""Every real file goes through the command line, or is refused there, as real_files.toml says."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cypose_dask.cli import main
from cypose_dask.models import resolve_model

TABLE = tomllib.loads(Path(__file__).with_name("real_files.toml").read_text())["file"]
MOST_FRAMES = 3
# Frames are shrunk to one tile of the network: what is tested is the way, not the labels.
LARGEST_PX = 200


def name(entry):
    return f"{entry['path']}-{entry.get('options', '')}"


def command_line(entry, folder, source):
    options = dict(entry.get("options", {}))
    args = [f"--{key}={value}" for key, value in options.items() if key != "channels"]
    channels = options.get("channels", [0] if entry.get("sizes", [1] * 6)[3] > 1 else [])
    if channels:
        args.append("--channels=" + ",".join(map(str, channels)))
    return ["segment", str(source), "-o", str(folder / "labels.tif"), *args]


@pytest.fixture
def run(client, capsys):
    def run(args):
        with pytest.raises(SystemExit) as stopped:
            main([*args, "--scheduler", client.scheduler.address])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out + captured.err

    return run


@pytest.mark.parametrize("entry", [e for e in TABLE if e["outcome"] == "opens"], ids=name)
def test_real_file_is_segmented(entry, shared_data, run, tmp_path):
    t, p, z, _, y, x = entry["sizes"]
    frames = min(t, MOST_FRAMES)
    spec = resolve_model()
    diameter = max(spec.diameter, spec.diam_mean * max(y, x) / LARGEST_PX)
    args = command_line(entry, tmp_path, shared_data / entry["path"])
    code, said = run([*args, f"--end-frame={frames}", f"--diameter={diameter:.3f}"])
    if min(y, x) < 8:
        assert code == 1
        assert "at least 8 x 8" in said
        return
    assert code == 0, said
    labels = tifffile.imread(tmp_path / "labels.tif")
    assert labels.shape == (*(n for n in (frames, p, z) if n > 1), y, x)
    assert labels.dtype == np.uint16


@pytest.mark.parametrize("entry", [e for e in TABLE if e["outcome"] == "refused"], ids=name)
def test_real_file_is_refused(entry, shared_data, run, tmp_path):
    source = shared_data / entry["path"]
    if source.is_dir():
        pytest.skip("the command line takes the movies inside a folder")
    code, said = run(command_line(entry, tmp_path, source))
    assert code == 1
    for words in entry["words"]:
        assert words in said
    assert not (tmp_path / "labels.tif").exists()


@pytest.mark.slow
def test_a_real_time_lapse_is_segmented_at_its_own_size(shared_data, run, tmp_path):
    pattern = shared_data / "oufti_caulobacter_timelapse" / "phase_contrast" / "img*.tif"
    code, said = run(["segment", str(pattern), "-o", str(tmp_path), "--end-frame=20"])
    assert code == 0, said
    labels = tifffile.imread(tmp_path / "img_cp_masks.tif")
    assert labels.shape == (20, 200, 260)
    assert (labels.max((1, 2)) > 0).all()
