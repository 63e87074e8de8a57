"""`explain`: Cellpose, called as it says, gives the labels of the result."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cypose_dask.engine import segment_frames
from cypose_dask.errors import ResultError
from cypose_dask.likeness import equal_calls
from cypose_dask.movies import open_movie
from cypose_dask.results import export_seg_npy
from cypose_dask.run import make_plan, segment
from cypose_dask.settings import Settings
from helpers.handed_on import hand_on
from helpers.weights import write_weights

PLACE = (4, 0, 0)
SETTINGS = {
    "defaults": {},
    "numbers": {"diameter": 14.0, "niter": 33.7, "flow_threshold": 0.2, "cellprob_threshold": -2.0,
                "min_size_px": 40},
    "no checks": {"flow_threshold": 0.0, "min_size_px": -1, "cellprob_threshold": -5.0},
    "another channel": {"channels": (1,)},
    "two channels": {"channels": (1, 0)},
    "mean": {"channels": "mean", "diameter": 25.0},
    "percentiles": {"percentiles": (5.0, 90.0)},
    "inverted": {"invert": True},
    "raw": {"normalize": "none"},
}  # fmt: skip
PYTHON_ALONE = {
    "intensities": {"normalize": (300.0, 20_000.0)},
    "intensities of two": {"channels": (0, 1), "normalize": (300.0, 20_000.0, 200.0, 9_000.0)},
    "movie": {"normalize": "movie"},
    "percentiles, inverted": {"percentiles": (5.0, 90.0), "invert": True},
}


@pytest.fixture(autouse=True)
def pristine_cellpose():
    """`eval` edits Cellpose's normalisation defaults; each comparison starts from the same."""
    from cellpose import models

    before = dict(models.normalize_default)
    yield
    models.normalize_default.clear()
    models.normalize_default.update(before)


def planned(movie, **settings):
    """Plan, and labels of one frame by it."""
    plan = make_plan(movie, Settings(**settings))
    frame = plan.network_input.read_frame(*PLACE)
    return plan, segment_frames(frame[np.newaxis], plan.model, plan.settings).labels[0]


def run_python(code: str) -> np.ndarray:
    names: dict = {}
    exec(compile(code, "explained", "exec"), names)
    return names["masks"]


@pytest.mark.parametrize("name", [*SETTINGS, *PYTHON_ALONE])
def test_the_python_call_gives_the_labels(name, movie):
    plan, labels = planned(movie, **(SETTINGS | PYTHON_ALONE)[name])
    calls = equal_calls(plan.to_dict(), PLACE)
    np.testing.assert_array_equal(run_python(calls.python), labels)
    assert labels.max() > 0 or name == "raw"


@pytest.mark.parametrize("name", SETTINGS)
def test_the_command_gives_the_labels(name, movie, tmp_path, monkeypatch):
    from cellpose import __main__

    plan, labels = planned(movie, **SETTINGS[name])
    image = tmp_path / "a frame.tif"
    frame = plan.network_input.read_frame(*PLACE)
    if plan.settings.channels == "mean":
        frame = frame.mean(axis=0, keepdims=True, dtype=np.float32)
    tifffile.imwrite(image, frame.squeeze(), photometric="minisblack")
    command = equal_calls(plan.to_dict(), PLACE, str(image)).command
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "cellpose"]
    monkeypatch.setattr(sys, "argv", words[2:])
    __main__.main()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a frame_cp_masks.tif"), labels)


def test_the_settings_differ(movie):
    """Without this the comparisons would hold whatever the calls say."""
    seen = [planned(movie, **options)[1] for options in SETTINGS.values()]
    for i, labels in enumerate(seen):
        assert all((labels != other).any() for other in seen[:i])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (PYTHON_ALONE["intensities"], "takes no intensities"),
        (PYTHON_ALONE["movie"], "takes no intensities"),
        (PYTHON_ALONE["percentiles, inverted"], "drops --invert"),
        ({"niter": 0.5}, "less than one step"),
    ],
)
def test_what_the_command_cannot_say_is_said_in_words(movie, settings, words):
    calls = equal_calls(planned(movie, **settings)[0].to_dict(), PLACE)
    assert calls.command is None
    assert words in " ".join(calls.unsaid)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "millionths"),
        ({"normalize": "movie"}, "once over the whole movie"),
        ({"diameter": "estimate"}, "measured once for the movie"),
        ({"skip_empty": True}, "left out"),
    ],
)
def test_what_differs_is_said_in_words(movie, settings, words):
    notes = " ".join(equal_calls(make_plan(movie, Settings(**settings)).to_dict()).notes)
    assert words in notes
    reference = make_plan(movie, Settings(engine="reference")).to_dict()
    assert words not in " ".join(equal_calls(reference).notes)


@pytest.mark.slow
def test_a_restored_frame(movie, tmp_path):
    import torch
    from cellpose.resnet_torch import CPnet

    torch.manual_seed(0)
    path = tmp_path / "denoise_test"
    torch.save(CPnet([1, 32, 64, 128, 256], 1, sz=3).state_dict(), path)
    plan = make_plan(movie, Settings(denoise=str(path), diameter=20, percentiles=(3, 97)))
    frame = plan.network_input.read_frame(*PLACE)
    ours = segment_frames(frame[np.newaxis], plan.model, plan.settings).labels[0]
    calls = equal_calls(plan.to_dict(), PLACE)
    np.testing.assert_array_equal(run_python(calls.python), ours)
    assert "by name alone" in " ".join(calls.unsaid)


@pytest.mark.parametrize("inputs", [1, 3])
def test_networks_of_other_inputs(movie, tmp_path, inputs):
    path = write_weights(tmp_path / "net", inputs=inputs)
    settings = {"model": str(path), "channels": (0,), "cellprob_threshold": -9.0}
    plan, labels = planned(movie, **settings, diameter=30.0)
    calls = equal_calls(plan.to_dict(), PLACE)
    assert f"nchan={inputs}" in calls.python
    np.testing.assert_array_equal(run_python(calls.python), labels)
    assert ("--all_channels" in (calls.command or "")) == (inputs == 1)


def test_networks_of_one_input_fail_in_cellpose_at_another_scale(movie, tmp_path):
    path = write_weights(tmp_path / "net", inputs=1)
    plan = make_plan(movie, Settings(model=str(path), channels=(0,), diameter=20.0))
    calls = equal_calls(plan.to_dict(), PLACE)
    assert "one input" in " ".join(calls.unsaid)
    assert "one input" in " ".join(calls.notes)
    with pytest.raises(ValueError, match="axes"):
        run_python(calls.python)


def test_built_in_models_go_by_their_name(movie):
    plan = make_plan(movie).to_dict()
    plan["model"] |= {"kind": "built-in", "name": "cyto3", "path": "/models/cyto3"}
    calls = equal_calls(plan)
    assert "model_type='cyto3'" in calls.python
    assert "--pretrained_model cyto3 " in calls.command
    assert "--use_gpu" in equal_calls(plan | {"device": "cuda"}).command


def test_what_is_no_plan_is_refused():
    with pytest.raises(ResultError, match="does not say how it was made"):
        equal_calls({"settings": {}})


# ---- the command -----------------------------------------------------------------------------


def test_what_is_printed_can_be_run(movie, nd2_path, tmp_path, cli, monkeypatch):
    from cellpose import __main__

    result = segment(movie, tmp_path / "x.zarr", Settings(end_frame=2, diameter=16))
    code, python, _ = cli("explain", result.path, "--python", "--frame", 1)
    assert code == 0
    np.testing.assert_array_equal(run_python(python), result.labels()[1, 0])
    export_seg_npy(result, tmp_path / "gui", frames=[1])
    _, command, _ = cli("explain", result.path, "--command", "--frame", 1)
    monkeypatch.chdir(tmp_path / "gui")
    monkeypatch.setattr(sys, "argv", shlex.split(command)[2:])
    __main__.main()
    theirs = tifffile.imread(tmp_path / "gui" / "x_p000_t0001_cp_masks.tif")
    np.testing.assert_array_equal(theirs, result.labels()[1, 0])


def test_everything_is_printed_with_headings(tmp_path, cli):
    result = hand_on(tmp_path).result
    code, out, err = cli("explain", result.path)
    assert (code, err) == (0, "")
    heads = ["# Cellpose's command line", "# Python", "# What differs"]
    assert [line for line in out.splitlines() if line in heads] == heads
    assert "python -m cellpose --image_path movie_p000_t0000.tif" in out


def test_a_frame_that_is_not_there_is_refused(tmp_path, cli):
    result = hand_on(tmp_path).result
    code, _, err = cli("explain", result.path, "--frame", 99)
    assert code == 2
    assert "has no frame 99" in err


def test_the_movie_is_opened_as_it_was_read(tmp_path):
    path = Path(tmp_path / "x.tif")
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 999, (3, 40, 40), np.uint16))
    plan = make_plan(open_movie(path, axes="CYX"), Settings(channels=(2,)))
    assert "axes='CYX'" in equal_calls(plan.to_dict()).python
