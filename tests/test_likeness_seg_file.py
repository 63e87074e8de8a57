"""`--like some_seg.npy`: what the GUI had set is taken over, refused, or named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from cypose_dask.engine import segment_frames
from cypose_dask.errors import MovieError, MovieNotFoundError, SettingsError
from cypose_dask.likeness import seg_file_likeness
from cypose_dask.movies import open_movie
from cypose_dask.results.handoff.seg_content import seg_content
from cypose_dask.run import make_plan
from cypose_dask.settings import Settings
from helpers.cellpose_gui import save_in_gui
from helpers.gui_run import choose, start_gui

MASKS = np.array([[0, 1], [2, 2]], np.uint16)
DEFAULTS = {
    "lowhigh": None, "percentile": [1.0, 99.0], "normalize": True, "norm3D": True,
    "sharpen_radius": 0, "smooth_radius": 0, "tile_norm_blocksize": 0, "tile_norm_smooth3D": 1,
    "invert": False,
}  # fmt: skip


@pytest.fixture
def write(tmp_path, model_path):
    """Write a file as the GUI does, with changes; None leaves a key out."""

    def written(**changes) -> Path:
        content = {
            "masks": MASKS, "outlines": MASKS, "chan_choose": [1, 0], "model_path": model_path,
            "flow_threshold": 0.4, "cellprob_threshold": 0.0, "normalize_params": DEFAULTS,
            "restore": None, "ratio": 1.0, "diameter": 17.5,
        } | changes  # fmt: skip
        content = {key: value for key, value in content.items() if value is not ...}
        np.save(tmp_path / "frame_seg.npy", content, allow_pickle=True)
        return tmp_path / "frame_seg.npy"

    return written


@pytest.fixture
def folder(tmp_path, monkeypatch, model_path) -> Path:
    """Cellpose's folder of models, with one of the user's own."""
    from cellpose import models

    place = tmp_path / "models"
    place.mkdir()
    shutil.copy(model_path, place / "mine")
    (place / "gui_models.txt").write_text("mine\n")
    monkeypatch.setattr(models, "MODEL_DIR", place)
    monkeypatch.setattr(models, "MODEL_LIST_PATH", str(place / "gui_models.txt"))
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(place))
    return place


def run_like(path: Path, image: Path, **said) -> np.ndarray:
    """Labels of an image with the settings of a file."""
    settings, _ = seg_file_likeness(path).settle(said)
    movie = open_movie(image, axes="CYX" if tifffile.imread(image).ndim == 3 else "YX")
    plan = make_plan(movie, Settings(**settings))
    frame = plan.network_input.read_frame(0, 0, 0)
    return segment_frames(frame[np.newaxis], plan.model, plan.settings).labels[0]


# Fields and channels of the GUI, of which each changes labels of the frame.
SESSIONS = {
    "as it starts": ({}, (0, 0)),
    "thresholds": ({"flow_threshold": "0.2", "cellprob_threshold": "-1.5"}, (0, 0)),
    "no flow check": ({"flow_threshold": "0"}, (1, 0)),
    "diameter": ({"Diameter": "13"}, (2, 0)),
    "two channels": ({"Diameter": "24"}, (1, 2)),
    "channels the other way": ({}, (2, 1)),
}


def run_session(image: Path, texts: dict[str, str], channels: tuple[int, int]):
    """Choose a model and channels in a GUI, type, and run: window and labels."""
    window = start_gui(image)
    choose(window, "mine")
    for box, channel in zip(window.ChannelChoose, channels, strict=True):
        box.setCurrentIndex(channel)
    for name, text in texts.items():
        getattr(window, name).setText(text)
    window.compute_segmentation(custom=True)
    return window, window.cellpix[0]


@pytest.mark.parametrize("session", SESSIONS)
def test_labels_are_those_that_the_gui_saved(session, synthetic, folder, tmp_path):
    texts, channels = SESSIONS[session]
    image = tmp_path / "frame.tif"
    tifffile.imwrite(image, synthetic.frames[-1], photometric="minisblack")
    window, theirs = run_session(image, texts, channels)
    ours = run_like(save_in_gui(window), image)
    assert ours.max() == theirs.max() >= 3
    # The GUI stretches pixels to 0-255 first, which rounds their last bits otherwise.
    assert (ours != theirs).mean() < 1e-3


@pytest.mark.slow
def test_the_sessions_differ(synthetic, folder, tmp_path):
    """Without this the comparison above would hold whatever is read from a file."""
    image = tmp_path / "frame.tif"
    tifffile.imwrite(image, synthetic.frames[-1], photometric="minisblack")
    seen = [run_session(image, *session)[1] for session in SESSIONS.values()]
    for i, labels in enumerate(seen):
        assert all((labels != other).any() for other in seen[:i])


def test_a_file_of_cellposes_command_line_says_what_it_lacks(synthetic, tmp_path, model_path):
    from cellpose import io
    from cellpose.models import CellposeModel

    image = tmp_path / "frame.tif"
    frame = synthetic.frames[-1][0]
    tifffile.imwrite(image, frame)
    model = CellposeModel(pretrained_model=model_path)
    masks, flows, _ = model.eval(frame, diameter=22, channels=[0, 0])
    io.masks_flows_to_seg(frame, masks, flows, str(image), channels=[0, 0], diams=22)
    path = tmp_path / "frame_seg.npy"
    found = seg_file_likeness(path)
    told = " ".join(found.notes)
    assert all(name in told for name in ("flow_threshold", "cellprob_threshold", "percentiles"))
    with pytest.raises(SettingsError, match="which model"):
        found.settle({})
    np.testing.assert_array_equal(run_like(path, image, model=model_path), masks)


numbers = st.floats(0.125, 90, width=16)


@given(
    st.fixed_dictionaries(
        {
            "diameter": numbers,
            "niter": st.none() | st.integers(1, 3000),
            "flow_threshold": st.just(0.0) | numbers,
            "cellprob_threshold": st.floats(-6, 6, width=16, allow_subnormal=False),
            "normalize": st.sampled_from(["frame", (3.0, 70.0), (0.0, 1.0, 5.0, 6.0)]),
            "percentiles": st.tuples(st.floats(0, 40, allow_subnormal=False), st.floats(60, 100)),
            "invert": st.booleans(),
        }
    )
)
@examples(max_examples=30, deadline=None)
def test_our_own_files_give_their_settings_back(tmp_path_factory, chosen):
    path = tmp_path_factory.mktemp("own") / "frame_seg.npy"
    about = {"filename": "frame.tif", "chan_choose": [1, 2], "model_path": "cyano-rods"}
    np.save(path, seg_content(MASKS, Settings(**chosen), about), allow_pickle=True)
    found = seg_file_likeness(path).settings
    assert {name: found[name] for name in chosen} == chosen
    assert found["channels"] == (0, 1)


# ---- what cannot be taken over ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"normalize_params": DEFAULTS | {"tile_norm_blocksize": 128}}, "normalize", "by tiles"),
        ({"normalize_params": DEFAULTS | {"sharpen_radius": 2.0}}, "normalize", "sharpening"),
        ({"normalize_params": DEFAULTS | {"smooth_radius": 1}}, "normalize", "smoothing"),
        ({"restore": "denoise_cyto3"}, "denoise", "--restoration denoise_cyto3"),
        ({"restore": "upsample_cyto3"}, "denoise", "rescaled copy"),
        ({"model_path": "/gone/models/nobodys"}, "model", "/gone/models/nobodys"),
        ({"model_path": 0}, "model", "which model"),
        ({"diameter": ...}, "diameter", "--diameter"),
    ],
)
def test_what_cannot_be_taken_over_must_be_said(write, changes, field, words):
    found = seg_file_likeness(write(**changes))
    with pytest.raises(SettingsError, match=words):
        found.settle({})
    values = {"normalize": "frame", "denoise": "denoise_cyto3", "model": "cyano-rods",
              "diameter": 9.0}  # fmt: skip
    settled, notes = found.settle({field: values[field]})
    assert settled[field] == values[field]
    assert [note for note in notes if note.startswith(f"{field} is ")]


def test_filters_that_are_off_are_no_filters(write):
    found = seg_file_likeness(write(restore="filter"))
    assert found.refused == {}
    assert found.settings["denoise"] is None


def test_a_stack_is_refused(write):
    with pytest.raises(SettingsError, match="3D"):
        seg_file_likeness(write(masks=np.zeros((3, 4, 4), np.uint16)))


@pytest.mark.parametrize("where", ["/home/else/.cellpose/models/mine", r"C:\users\x\models\mine"])
def test_a_model_of_another_machine_is_taken_by_its_name_and_told(write, folder, where):
    found = seg_file_likeness(write(model_path=where))
    assert found.settings["model"] == str(folder / "mine")
    assert [note for note in found.notes if where in note]


@pytest.mark.parametrize(
    ("file", "name"), [("cytotorch_0", "cyto"), ("bact_phase_cp3", "bact_phase_cp3")]
)
def test_cellposes_own_files_have_their_names(write, folder, file, name):
    assert seg_file_likeness(write(model_path=f"/gone/{file}")).settings["model"] == name


def test_gray_is_the_mean_and_told(write):
    found = seg_file_likeness(write(chan_choose=[0, 2]))
    assert found.settings["channels"] == "mean"
    assert "--channels" in " ".join(found.notes)


def test_without_a_check_of_flows_the_gui_keeps_none(write):
    assert seg_file_likeness(write(flow_threshold=None)).settings["flow_threshold"] == 0.0


@pytest.mark.parametrize(
    "changes",
    [{"diameter": "wide"}, {"chan_choose": [1]}, {"normalize_params": 5},
     {"normalize_params": DEFAULTS | {"percentile": 3}}],
)  # fmt: skip
def test_a_damaged_file_is_refused(write, changes):
    with pytest.raises(MovieError, match=r"frame_seg\.npy"):
        seg_file_likeness(write(**changes))


def test_what_is_no_file_of_the_gui_is_refused(tmp_path):
    with pytest.raises(MovieNotFoundError, match="no such file"):
        seg_file_likeness(tmp_path / "x_seg.npy")
    np.save(tmp_path / "x_seg.npy", np.zeros(3))
    with pytest.raises(MovieError, match=r"_seg\.npy"):
        seg_file_likeness(tmp_path / "x_seg.npy")
