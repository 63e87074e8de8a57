"""`--like PROGRAM`: the labels are those of the program itself, when nobody says anything."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cypose_dask.engine import segment_frames
from cypose_dask.errors import SettingsError
from cypose_dask.likeness import PRESETS, preset
from cypose_dask.models import resolve_model
from cypose_dask.movies import open_movie
from cypose_dask.run import make_plan
from cypose_dask.settings import Settings
from helpers.gui_run import choose_and_run, start_gui, starting_texts, starting_values


def labels_like(program: str, image: Path, model: str | None = None) -> np.ndarray:
    """Labels of an image by the settings of a program, planned as a run plans them."""
    movie = open_movie(image, axes="CYX" if tifffile.imread(image).ndim == 3 else "YX")
    said = {"model": str(model)} if model else {}
    settings, _ = preset(program, model and str(model)).settle(said)
    plan = make_plan(movie, Settings(**settings))
    frame = plan.network_input.read_frame(0, 0, 0)
    return segment_frames(frame[np.newaxis], plan.model, plan.settings).labels[0]


@pytest.fixture(scope="module", params=[1, 2, 3], ids="{} channels".format)
def image(request, synthetic, tmp_path_factory) -> Path:
    """A frame as a TIF of one, two or three channels."""
    frame = synthetic.frames[-1]
    planes = [frame[0], frame[1], frame[0][::-1]][: request.param]
    path = tmp_path_factory.mktemp("image") / "frame.tif"
    stack = np.stack(planes) if request.param > 1 else planes[0]
    tifffile.imwrite(path, stack, photometric="minisblack")
    return path


@pytest.fixture
def cellpose_folder(tmp_path, monkeypatch, model_path) -> Path:
    """Cellpose's folder of models, in which the bundled weights are called cyto3, and mine."""
    from cellpose import models

    for name in ("cyto3", "mine"):
        shutil.copy(model_path, tmp_path / name)
    size_model = {"A": np.zeros((1, 256)), "smean": np.zeros(256), "diam_mean": 30.0, "ymean": 0.0}
    np.save(tmp_path / "size_cyto3.npy", size_model)
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(tmp_path))
    monkeypatch.setattr(models, "MODEL_DIR", tmp_path)
    (tmp_path / "gui_models.txt").write_text("mine\n")
    monkeypatch.setattr(models, "MODEL_LIST_PATH", str(tmp_path / "gui_models.txt"))
    before = dict(models.normalize_default)
    yield tmp_path
    models.normalize_default.update(before)


def run_cellpose(monkeypatch, image: Path, *flags: str) -> np.ndarray:
    """Run Cellpose's command line in this process and return the labels that it wrote."""
    from cellpose import __main__

    words = ["cellpose", "--image_path", str(image), "--save_tif", "--no_npy", *flags]
    monkeypatch.setattr(sys, "argv", words)
    __main__.main()
    return tifffile.imread(image.with_name("frame_cp_masks.tif"))


def test_cellposes_command_line_with_nothing_said(image, cellpose_folder, monkeypatch):
    theirs = run_cellpose(monkeypatch, image)
    np.testing.assert_array_equal(labels_like("cellpose-cli", image), theirs)


def test_cellposes_command_line_with_a_model(image, cellpose_folder, monkeypatch, model_path):
    theirs = run_cellpose(monkeypatch, image, "--pretrained_model", model_path)
    np.testing.assert_array_equal(labels_like("cellpose-cli", image, model_path), theirs)


@pytest.mark.slow
def test_cellposes_command_in_a_process_of_its_own(synthetic, cellpose_folder, tmp_path):
    image = tmp_path / "images" / "frame.tif"
    image.parent.mkdir()
    tifffile.imwrite(image, synthetic.frames[-1][0])
    words = [sys.executable, "-m", "cellpose", "--image_path", image, "--save_tif", "--no_npy"]
    subprocess.run(words, check=True, capture_output=True)
    theirs = tifffile.imread(image.with_name("frame_cp_masks.tif"))
    np.testing.assert_array_equal(labels_like("cellpose-cli", image), theirs)


def test_cellposes_python_with_nothing_said(image, model_path, cellpose_folder):
    from cellpose.models import CellposeModel

    frame = tifffile.imread(image)
    theirs = CellposeModel(pretrained_model=model_path).eval(frame)[0]
    np.testing.assert_array_equal(labels_like("cellpose-api", image, model_path), theirs)


def test_cellposes_gui_with_a_model_chosen(image, cellpose_folder):
    theirs = choose_and_run(start_gui(image), "mine")
    ours = labels_like("cellpose-gui", image, cellpose_folder / "mine")
    # The GUI stretches pixels to 0-255 first, which rounds their last bits otherwise.
    assert ours.max() == theirs.max() >= 4
    assert (ours != theirs).mean() < 1e-3


def test_the_button_of_cyto3(image, cellpose_folder):
    window = start_gui(image)
    window.compute_segmentation(model_name="cyto3")
    ours = labels_like("cellpose-gui", image)
    assert ours.max() == window.cellpix.max()
    assert (ours != window.cellpix[0]).mean() < 1e-3


def test_cypose_with_the_size_that_it_measured(synthetic, model_path, cellpose_folder, tmp_path):
    from cellpose.models import CellposeModel

    path, size = tmp_path / "frame.tif", 21.5
    tifffile.imwrite(path, synthetic.frames[-1], photometric="minisblack")
    # As run_segmentation.py calls it, with [1, 0] for a model file and its own flow threshold.
    theirs = CellposeModel(pretrained_model=model_path).eval(
        synthetic.frames[-1][0], diameter=size, channels=[1, 0], niter=None, flow_threshold=0.75
    )[0]
    settings, _ = preset("cypose", model_path).settle({"model": model_path, "diameter": size})
    plan = make_plan(open_movie(path, axes="CYX"), Settings(**settings))
    frame = plan.network_input.read_frame(0, 0, 0)
    ours = segment_frames(frame[np.newaxis], plan.model, plan.settings).labels[0]
    np.testing.assert_array_equal(ours, theirs)


def test_programs_differ_on_the_same_frame(synthetic, cellpose_folder, model_path, tmp_path):
    """Without this the comparisons would hold whatever the presets say."""
    path = tmp_path / "frame.tif"
    tifffile.imwrite(path, synthetic.frames[-1], photometric="minisblack")
    cli, api, gui = (
        labels_like(f"cellpose-{name}", path, model_path) for name in ("cli", "api", "gui")
    )
    for one, other in ((cli, api), (cli, gui), (api, gui)):
        assert (one != other).any()


# ---- where the numbers come from -------------------------------------------------------------


def test_defaults_of_cellposes_own_functions():
    import inspect

    from cellpose.cli import get_arg_parser
    from cellpose.models import Cellpose, CellposeModel

    cli = preset("cellpose-cli").settings
    flags = get_arg_parser().parse_args([])
    assert (flags.pretrained_model, flags.diameter, flags.min_size) == (
        cli["model"], cli["diameter"], cli["min_size_px"],
    )  # fmt: skip
    assert (flags.flow_threshold, flags.cellprob_threshold) == (
        cli["flow_threshold"], cli["cellprob_threshold"],
    )  # fmt: skip
    assert (flags.chan, flags.chan2, flags.niter, flags.norm_percentile) == (0, 0, 0, None)
    api = preset("cellpose-api").settings
    default = {n: p.default for n, p in inspect.signature(CellposeModel.eval).parameters.items()}
    for ours, theirs in (("flow_threshold",) * 2, ("cellprob_threshold",) * 2, ("niter",) * 2,
                         ("min_size_px", "min_size"), ("invert", "invert")):  # fmt: skip
        assert api[ours] == default[theirs]
    assert default["diameter"] is default["channels"] is None
    assert inspect.signature(Cellpose.eval).parameters["diameter"].default == cli["diameter"]


def test_the_gui_starts_with_the_presets_numbers():
    texts, values, gui = starting_texts(), starting_values(), preset("cellpose-gui").settings
    assert float(texts["flow_threshold"]) == gui["flow_threshold"]
    assert float(texts["cellprob_threshold"]) == gui["cellprob_threshold"]
    assert (int(texts["niter"]), gui["niter"]) == (0, None)
    assert tuple(values["norm_vals"]) == gui["percentiles"]
    assert (values["diameter"], values["min_size"]) == (gui["diameter"], gui["min_size_px"])
    assert values["resample"] is True


def test_the_gui_rounds_a_models_diameter(tmp_path, model_path):
    from helpers.weights import write_weights

    path = write_weights(tmp_path / "mine", diameters=(30.0, 21.23456))
    assert preset("cellpose-gui", str(path)).settings["diameter"] == 21.23
    assert preset("cellpose-gui", "cyto3").settings["diameter"] == 30.0


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_settings(name):
    settings = Settings(**preset(name).settings)
    assert settings.niter is None
    assert settings.min_size_px == 15


# ---- what is said by hand --------------------------------------------------------------------


def test_what_is_said_by_hand_wins_and_is_told():
    settled, notes = preset("cellpose-cli").settle({"diameter": 12.0, "flow_threshold": 0.4})
    assert (settled["diameter"], settled["model"]) == (12.0, "cyto3")
    assert [note for note in notes if "diameter is 12.0 as said by hand, not 30.0" in note]
    assert not [note for note in notes if "flow_threshold" in note]


def test_programs_without_a_model_say_so():
    assert "say --model" in " ".join(preset("cellpose-api").notes)
    assert "say --model" not in " ".join(preset("cellpose-api", "cyto3").notes)
    assert "2ch" in " ".join(preset("cypose", "models/cypose-33047-2ch").notes)


def test_an_unknown_program_is_refused_with_those_there_are():
    with pytest.raises(SettingsError, match=r"cypose, cellpose-cli, cellpose-gui, cellpose-api"):
        preset("imagej")


def test_first_channels_are_as_many_as_the_network_has_inputs(synthetic, tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.stack([synthetic.frames[0][0]] * 3))
    movie = open_movie(tmp_path / "x.tif", axes="CYX")
    plan = make_plan(movie, Settings(channels="first"))
    assert plan.settings.channels == (0, 1)
    assert resolve_model().network_inputs == 2
