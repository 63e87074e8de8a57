"""``_seg.npy``: Cellpose reads ours as its own, its GUI corrects them, and training takes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from cellpose import io, models, utils
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cypose_dask.errors import (
    IncompleteResultError,
    MovieNotFoundError,
    ResultError,
    SettingsError,
)
from cypose_dask.learn.training.example_files import find_examples
from cypose_dask.learn.training.targets import flow_targets
from cypose_dask.results import Status, export_seg_npy
from cypose_dask.results.handoff import seg_npy
from cypose_dask.results.handoff.seg_content import outlines_of, seg_content
from cypose_dask.settings import Settings
from helpers.cellpose_gui import open_in_gui, remove_in_gui, save_in_gui
from helpers.handed_on import hand_on, touching_cells

DONE, FAILED, PENDING = (int(s) for s in (Status.DONE, Status.FAILED, Status.PENDING))


@pytest.fixture
def made(tmp_path):
    return hand_on(tmp_path, debug=True)


def content_of(image):
    path = image.with_name(f"{image.stem}_seg.npy")
    return np.load(path, allow_pickle=True).item()


def values_of(content):
    """Every value of a dictionary as numpy, with those inside of lists."""
    return {k: [np.asarray(one) for one in v] if k == "flows" else v for k, v in content.items()}


# ---- what Cellpose's own functions write and read --------------------------------------------


@pytest.mark.parametrize("t", [0, 2])
def test_content_is_what_cellpose_writes_of_the_same_frame(made, tmp_path, t):
    image = export_seg_npy(made.result, tmp_path / "gui", frames=[t])[0]
    flows, cellprob = made.result.flows()[t, 0], made.result.cellprob()[t, 0]
    from cellpose.plot import dx_to_circ

    own = tmp_path / "own.tif"
    io.masks_flows_to_seg(
        io.imread(str(image)), made.labels[t, 0, 0], [dx_to_circ(flows), flows, cellprob],
        str(own), diams=made.settings.diameter, channels=[0, 0],
    )  # fmt: skip
    theirs, ours = content_of(own), content_of(image)
    for name in ("masks", "outlines", "ismanual", "chan_choose", "diameter"):
        assert np.array_equal(ours[name], theirs[name]), name
        assert np.asarray(ours[name]).dtype == np.asarray(theirs[name]).dtype, name
    for mine, other in zip(values_of(ours)["flows"], values_of(theirs)["flows"], strict=True):
        assert mine.shape == other.shape
        assert np.abs(mine.astype(float) - other).max(initial=0) <= (mine.dtype == np.uint8)
    assert set(theirs) <= set(ours)


@settings(deadline=None)
@given(
    arrays(np.uint16, st.tuples(st.integers(2, 9), st.integers(2, 9)), elements=st.integers(0, 3))
)
def test_outlines_are_those_of_cellpose(small):
    # Cells of one pixel make Cellpose's own function fail, and holes it does not see.
    labels = np.kron(small, np.ones((3, 3), np.uint16))
    labels = utils.fill_holes_and_remove_small_masks(labels.copy(), min_size=-1)
    assert np.array_equal(outlines_of(labels), labels * utils.masks_to_outlines(labels))


def test_cellpose_reads_image_and_labels(made, tmp_path):
    images = export_seg_npy(made.result, tmp_path / "gui")
    for t, image in enumerate(images):
        assert np.array_equal(io.imread(str(image)), made.pixels[t, 0, 0, 0])
        read = io.imread(str(image.with_name(f"{image.stem}_seg.npy")))
        assert np.array_equal(read, made.labels[t, 0, 0])


def test_parameters_are_those_of_the_run_in_cellposes_words(tmp_path):
    made = hand_on(
        tmp_path, diameter=12.5, flow_threshold=0.6, cellprob_threshold=-1.0, niter=300,
        normalize=(90.0, 2000.0), percentiles=(2.0, 98.0), invert=True,
    )  # fmt: skip
    content = content_of(export_seg_npy(made.result, tmp_path / "gui", frames=[1])[0])
    assert content["est_diam"] == content["diameter"] == 12.5
    assert (content["flow_threshold"], content["cellprob_threshold"]) == (0.6, -1.0)
    assert content["niter"] == 300
    normalize = content["normalize_params"]
    assert set(normalize) == set(models.normalize_default)
    assert normalize["lowhigh"] == [90.0, 2000.0]
    assert normalize["percentile"] == [2.0, 98.0]
    assert normalize["invert"] is True
    assert Path(content["model_path"]).is_file()


@pytest.mark.parametrize(
    ("limits", "expected"), [((1.0, 2.0), [1, 2]), ((1.0, 2.0, 3.0, 4.0), [[1, 2], [3, 4]])]
)
def test_intensities_are_a_pair_for_all_channels_or_one_each(limits, expected):
    content = seg_content(np.zeros((4, 4), int), Settings(normalize=limits), {})
    assert content["normalize_params"]["lowhigh"] == expected


def test_labels_beyond_uint16_are_uint32():
    few, many = (seg_content(np.full((2, 2), n), Settings(), {}) for n in (65534, 65536))
    assert (few["masks"].dtype, many["masks"].dtype) == (np.uint16, np.uint32)
    assert many["outlines"].max() == 65536


# ---- the GUI ---------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True])
def test_the_gui_opens_the_labels_with_the_image(tmp_path, debug):
    made = hand_on(tmp_path, debug=debug, diameter=14.0)
    for t, image in enumerate(export_seg_npy(made.result, tmp_path / "gui")):
        window = open_in_gui(image)
        assert window.loaded
        assert window.ncells == made.labels[t].max()
        assert np.array_equal(window.cellpix[0], made.labels[t, 0, 0])
        assert window.diameter == 14.0
        assert [box.chosen for box in window.ChannelChoose] == [0, 0]
        assert window.recompute_masks is debug
        assert window.stack.shape == (1, 36, 40, 1)
        assert window.NZ == 1


def test_the_gui_opens_two_channels_as_red_and_green(tmp_path):
    made = hand_on(tmp_path, c=3, channels=(2, 0))
    image = export_seg_npy(made.result, tmp_path / "gui", frames=[0])[0]
    assert np.array_equal(tifffile.imread(image), made.pixels[0, 0, 0, [2, 0]])
    window = open_in_gui(image)
    assert [box.chosen for box in window.ChannelChoose] == [1, 2]
    # The GUI spreads all channels to 0..255 together, with a third one of zeros.
    both = np.moveaxis(made.pixels[0, 0, 0, [2, 0]], 0, -1)
    assert np.allclose(window.stack[0, ..., :2], 255 * (both / both.max()), atol=1e-3)


def test_the_mean_of_channels_is_one_image(tmp_path):
    made = hand_on(tmp_path, channels="mean")
    image = export_seg_npy(made.result, tmp_path / "gui", frames=[3])[0]
    assert np.array_equal(tifffile.imread(image), made.pixels[3, 0, 0].mean(0, dtype=np.float32))
    assert content_of(image)["chan_choose"] == [0, 0]


def test_what_the_gui_saved_is_read_back_with_gaps(made, tmp_path):
    image = export_seg_npy(made.result, tmp_path / "gui", frames=[2])[0]
    window = open_in_gui(image)
    remove_in_gui(window, 2)
    save_in_gui(window)
    expected = np.where(made.labels[2, 0, 0] == 2, 0, made.labels[2, 0, 0])
    assert np.unique(expected).tolist() == [0, 1, 3]
    found = find_examples([tmp_path / "gui"])
    assert np.array_equal(found.examples.labels[0], expected)
    assert np.array_equal(found.examples.frames[0][0], made.pixels[2, 0, 0, 0])
    inside = flow_targets(found.examples.labels[0])[0]
    assert np.array_equal(inside > 0, expected > 0)


def test_corrected_frames_belong_to_the_movie_of_the_result(made, tmp_path):
    export_seg_npy(made.result, tmp_path / "gui", frames=[0, 2, 3])
    corrected = find_examples([tmp_path / "gui"]).examples
    result = find_examples([made.result.path]).examples
    assert set(corrected.movies) == set(result.movies)
    assert len(corrected) == 3


def test_a_folder_may_be_moved(made, tmp_path):
    export_seg_npy(made.result, tmp_path / "gui", frames=[2])
    (tmp_path / "gui").rename(tmp_path / "elsewhere")
    image = tmp_path / "elsewhere" / "movie_p000_t0002.tif"
    save_in_gui(open_in_gui(image))
    assert content_of(image)["filename"] == str(image)
    assert len(find_examples([tmp_path / "elsewhere"]).examples) == 1


# ---- which frames ----------------------------------------------------------------------------


def test_files_are_named_and_recorded_by_their_place(tmp_path):
    made = hand_on(tmp_path, t=4, p=2, z=2, start_frame=1)
    images = export_seg_npy(made.result, tmp_path / "gui", frames=[3, 2])
    assert [image.name for image in images] == [
        f"movie_p00{p}_t000{t}_z0{z}.tif" for p in (0, 1) for t in (2, 3) for z in (0, 1)
    ]
    entries = json.loads((tmp_path / "gui" / "frames.json").read_text())["frames"]
    for image, entry in zip(images, entries, strict=True):
        place = entry["t"], entry["p"], entry["z"]
        assert entry["file"] == image.name == content_of(image)["filename"]
        assert np.array_equal(tifffile.imread(image), made.pixels[(*place, 0)])
        t = entry["t"] - 1
        assert np.array_equal(content_of(image)["masks"], made.labels[t, entry["p"], entry["z"]])


@pytest.mark.parametrize("frames", [[4], [-1], [0, 9], []])
def test_frames_outside_of_the_result_are_refused(made, tmp_path, frames):
    with pytest.raises(SettingsError, match="has frames 0 to 3"):
        export_seg_npy(made.result, tmp_path / "gui", frames=frames)
    assert not (tmp_path / "gui").exists()


def test_frames_without_labels_are_refused_or_left_out(tmp_path):
    made = hand_on(tmp_path, status=[DONE, FAILED, DONE, PENDING])
    with pytest.raises(IncompleteResultError, match=r"2 of 4 frames.*t=1 p=0 z=0 \(failed\)"):
        export_seg_npy(made.result, tmp_path / "gui")
    assert not (tmp_path / "gui").exists()
    images = export_seg_npy(made.result, tmp_path / "gui", allow_incomplete=True)
    assert [image.name[-8:-4] for image in images] == ["0000", "0002"]


def test_frames_that_were_not_chosen_need_no_labels(tmp_path):
    made = hand_on(tmp_path, status=[DONE, FAILED, DONE, PENDING])
    assert len(export_seg_npy(made.result, tmp_path / "gui", frames=[0, 2])) == 2


def test_a_folder_of_corrections_is_never_written_into(made, tmp_path):
    (tmp_path / "gui").mkdir()
    with pytest.raises(ResultError, match="exists already"):
        export_seg_npy(made.result, tmp_path / "gui")
    assert list((tmp_path / "gui").iterdir()) == []


def test_a_failure_leaves_nothing(made, tmp_path, monkeypatch):
    before = sorted(tmp_path.iterdir())

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(seg_npy, "write_json", full)
    with pytest.raises(ResultError, match="No space left on device"):
        export_seg_npy(made.result, tmp_path / "gui")
    assert sorted(tmp_path.iterdir()) == before


# ---- the movie -------------------------------------------------------------------------------


def test_a_movie_that_is_gone_is_asked_for(made, tmp_path):
    moved = made.movie.rename(tmp_path / "moved.nd2")
    with pytest.raises(MovieNotFoundError, match=r"--movie PATH"):
        export_seg_npy(made.result, tmp_path / "gui")
    images = export_seg_npy(made.result, tmp_path / "gui", frames=[2], movie=moved)
    assert np.array_equal(tifffile.imread(images[0]), made.pixels[2, 0, 0, 0])


def test_another_movie_is_refused(made, tmp_path):
    (tmp_path / "other").mkdir()
    other = hand_on(tmp_path / "other", t=5)
    with pytest.raises(MovieNotFoundError, match="another content"):
        export_seg_npy(made.result, tmp_path / "gui", movie=other.movie)


def test_a_movie_is_found_beside_its_result_when_both_moved(tmp_path):
    (tmp_path / "one").mkdir()
    hand_on(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    assert len(export_seg_npy(tmp_path / "two" / "movie.zarr", tmp_path / "gui")) == 4


def test_touching_cells_touch():
    labels = touching_cells((1, 1, 1, 12, 10), [4])[0, 0, 0]
    assert labels.min() > 0
