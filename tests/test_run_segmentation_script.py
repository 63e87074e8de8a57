"""`scripts/run_segmentation.py` takes CyPose's own flags."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from conftest import ROOT


@pytest.fixture
def script(client):
    """Run the script as a user would, on the tests' cluster."""

    def run(*args):
        return subprocess.run(
            [sys.executable, ROOT / "scripts" / "run_segmentation.py", *map(str, args)],
            env={**os.environ, "DASK_SCHEDULER_ADDRESS": client.scheduler.address},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_command_of_cyposes_page(script, nd2_path, model_path, expected_labels, tmp_path):
    done = script(
        "--input_file", nd2_path, "--output_file", tmp_path / "mask_name", "--model", model_path,
        "--start_frame", 1, "--end_frame", 4,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "0 (Brightfield)" in done.stdout
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "mask_name.tif"), expected_labels[1:4])


@pytest.mark.parametrize(
    ("model", "channels"),
    [("cyano-rods", None), ("default", None), ("cyto3", (0,)), ("m/cypose-33047-2ch", (0, 1))],
)
def test_channels_are_cyposes(model, channels, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from run_segmentation import channels_of

    assert channels_of(model) == channels


def test_every_flag(script, nd2_path, expected_labels, tmp_path):
    done = script(
        "--input_file", nd2_path, "--output_file", tmp_path / "mask_name", "--model", "cyano-rods",
        "--no-gpu", "--start_frame", 1, "--end_frame", 3, "--debug", "--no-denoise",
        "-flow_threshold", 0.75,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "mask_name.tif"), expected_labels[1:3])
    assert tifffile.imread(tmp_path / "mask_name.flow.tif").shape == (2, 2, 64, 64)
    probs = tifffile.imread(tmp_path / "mask_name.prob.tif")
    assert 0 <= probs.min() <= probs.max() <= 1


def test_size_niter_and_threshold_change_labels(script, nd2_path, synthetic, model_path, tmp_path):
    from cellpose.models import CellposeModel

    done = script(
        "--input_file", nd2_path, "--output_file", tmp_path / "a.tif", "--size", 16, "--niter", 60,
        "--flow_threshold", 0.3, "--start_frame", 4,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    masks, *_ = CellposeModel(pretrained_model=model_path).eval(
        synthetic.frames[4, 0], channels=[0, 0], diameter=16, niter=60, flow_threshold=0.3
    )
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), masks)


def test_a_mistyped_model_is_an_error(script, nd2_path, tmp_path):
    done = script(
        "--input_file", nd2_path, "--output_file", tmp_path / "a.tif", "--model", "./models/nope"
    )
    assert done.returncode == 2
    assert "No model is called './models/nope'" in done.stderr


def test_denoise_without_its_weights_names_file_and_folder(script, nd2_path, tmp_path, monkeypatch):
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(tmp_path))
    done = script("--input_file", nd2_path, "--output_file", tmp_path / "a.tif", "--denoise")
    assert done.returncode == 2
    assert "'denoise_cyto3'" in done.stderr
    assert str(tmp_path) in done.stderr


@pytest.mark.parametrize(
    ("given", "tif"),
    [("mask", "mask.tif"), ("m.tif", "m.tif"), ("m.TIFF", "m.TIFF"), ("m.v2", "m.v2.tif")],
)
def test_a_name_without_suffix_gets_tif(given, tif):
    from cypose_dask.results import tif_name

    assert str(tif_name(given)) == tif
