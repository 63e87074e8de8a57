"""The real window of napari, on a screen that nobody sees: the widget, and its picture."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cypose_dask
from conftest import ROOT
from cypose_dask.errors import DamagedFrameError
from cypose_dask.movies import Movie
from cypose_dask.run import segment
from cypose_dask.settings import Settings
from helpers.nd2_writer import write_nd2
from helpers.screen import need_screen

pytest.importorskip("napari")
qtpy = pytest.importorskip("qtpy", exc_type=ImportError)
pytestmark = pytest.mark.slow

MANIFEST = Path(cypose_dask.__file__).parent / "viewer" / "napari.yaml"
PICTURE = ROOT / "docs" / "pictures" / "napari.png"
NAME, INTERVAL_S = "cells (current frame)", 5.0
MOST_S, MOST_PICTURE_BYTES = 60, 300_000


@pytest.fixture
def viewer(npe2pm):
    """A window with our plugin alone."""
    need_screen()
    try:
        import napari
        from qtpy import API_NAME
    except ImportError as error:  # qtpy says so when there is no Qt
        pytest.skip(f"no Qt: {error}")
    assert API_NAME
    with npe2pm.tmp_plugin(manifest=str(MANIFEST)):
        viewer = napari.Viewer(show=False)
        yield viewer
        viewer.close()


@pytest.fixture
def widget(viewer):
    """Our widget, docked as by the menu of plugins."""
    _, widget = viewer.window.add_plugin_dock_widget("cypose-dask", "Segment the current frame")
    return widget


@pytest.fixture
def said(monkeypatch):
    """What napari told its user as an error."""
    from napari.utils.notifications import notification_manager

    notification_manager.records.clear()
    return lambda: [
        note.message for note in notification_manager.records if note.severity.value == "error"
    ]


@pytest.fixture
def colony(tmp_path, synthetic):
    """A movie of several frames with cells, in seconds and micrometres."""
    return write_nd2(
        tmp_path / "colony.nd2",
        synthetic.frames,
        axes="TCYX",
        channels=list(synthetic.channel_names),
        pixel_size_um=0.1,
        period_ms=1000 * INTERVAL_S,
    )


def until(condition):
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + MOST_S
    while not condition():
        QApplication.processEvents()
        assert time.monotonic() < end


def press(widget):
    """Press the button, and wait until the next frame may be segmented."""
    widget.segment.native.click()
    until(lambda: widget.enabled)


def open_result(viewer, colony, settings):
    """Segment a movie and show the result; returns the labels (T, Y, X)."""
    movie = cypose_dask.open_movie(colony)
    result = segment(movie, Path(colony).with_suffix(".zarr"), settings)
    viewer.open(str(result.path), plugin="cypose-dask")
    viewer.dims.set_point(0, 0)  # napari begins in the middle
    return result.labels(0)[:, 0]


def test_the_widget_gives_the_labels_of_a_run_on_the_frame_in_view_and_updates_them(
    colony, viewer, widget, said
):
    expected = open_result(viewer, colony, Settings())
    made = []
    for t in (4, 2):
        viewer.dims.set_point(0, t * INTERVAL_S)
        press(widget)
        layer = viewer.layers[NAME]
        made.append(layer)
        assert np.array_equal(layer.data[0, 0, 0], expected[t])
        assert np.array_equal(layer._slice.image.raw, expected[t])
        assert np.allclose(layer.translate, (t * INTERVAL_S, 0, 0, 0, 0))
        assert np.allclose(layer.scale, viewer.layers[0].scale)
    assert made[0] is made[1]
    assert expected[2].max() > 2
    assert said() == []


def test_the_widget_begins_with_the_settings_of_the_run_that_is_shown(colony, viewer, widget):
    asked = Settings(diameter=14.321, flow_threshold=0.123, min_size_px=40)
    expected = open_result(viewer, colony, asked)
    assert widget.diameter.value == pytest.approx(14.32)
    press(widget)
    assert np.array_equal(viewer.layers[NAME].data[0, 0, 0], expected[0])
    made = Settings(**viewer.layers[NAME].metadata["settings"])
    assert made == asked.replace(model="cyano-rods")
    widget.flow_threshold.value = 0.5
    press(widget)
    made = Settings(**viewer.layers[NAME].metadata["settings"])
    assert made == asked.replace(model="cyano-rods", flow_threshold=0.5)


def test_another_image_of_the_same_movie_keeps_what_was_typed(colony, viewer, widget):
    viewer.open(colony, plugin="cypose-dask")
    widget.diameter.value = 21
    widget.image.value = viewer.layers[1]
    assert widget.diameter.value == 21


def test_a_model_of_two_channels_takes_a_second_image(colony, viewer, widget, said):
    expected = open_result(viewer, colony, Settings(model="cyano-chlorophyll"))
    first, second, _ = viewer.layers
    widget.image.value, widget.second_image.value = first, second
    press(widget)
    assert np.array_equal(viewer.layers[NAME].data[0, 0, 0], expected[0])
    widget.second_image.value = None
    press(widget)
    assert not np.array_equal(viewer.layers[NAME].data[0, 0, 0], expected[0])
    assert said() == []


def test_weights_of_a_file_are_taken(colony, viewer, widget, said, tmp_path, model_path):
    viewer.open(colony, plugin="cypose-dask")
    widget.own_weights.value = tmp_path / "mine"
    press(widget)
    assert "mine" in said()[0]
    assert NAME not in viewer.layers
    (tmp_path / "mine").symlink_to(model_path)
    press(widget)
    assert len(said()) == 1
    assert viewer.layers[NAME].data.max() > 2


def test_the_window_stays_alive_meanwhile(colony, viewer, widget, monkeypatch):
    may_end, threads = threading.Event(), []

    def segment_slowly(*_):
        threads.append(threading.current_thread())
        assert may_end.wait(MOST_S)
        return np.ones((1, 1, 1, 64, 64), np.uint32)

    monkeypatch.setattr("cypose_dask.viewer.widget.segment_current", segment_slowly)
    viewer.open(colony, plugin="cypose-dask")
    viewer.dims.set_point(0, 0)
    widget.segment.native.click()
    until(lambda: threads)
    assert threads != [threading.main_thread()]
    assert not widget.enabled
    viewer.dims.set_point(0, 3 * INTERVAL_S)  # the labels are of the frame that was in view
    assert NAME not in viewer.layers
    may_end.set()
    until(lambda: widget.enabled)
    assert np.allclose(viewer.layers[NAME].translate, 0)


@pytest.mark.parametrize(
    ("error", "told"),
    [(DamagedFrameError("it is missing"), "it is missing"), (KeyError("x"), "KeyError: 'x'")],
)
def test_what_goes_wrong_is_told_to_the_user(
    colony, viewer, widget, said, monkeypatch, error, told
):
    viewer.open(colony, plugin="cypose-dask")

    def fail(*_):
        raise error

    monkeypatch.setattr(Movie, "read_frame", fail)
    press(widget)
    assert said() == [told]
    assert NAME not in viewer.layers


def test_no_image_a_colour_image_and_settings_that_mean_nothing_are_refused(viewer, widget, said):
    press(widget)
    viewer.add_image(np.zeros((8, 9, 3), np.uint8), rgb=True)
    press(widget)
    assert len(said()) == 2
    assert "one channel" in said()[1]
    widget.image.value = viewer.add_image(np.zeros((8, 9)))
    widget.flow_threshold.min = -1
    widget.flow_threshold.value = -1
    press(widget)
    assert "flow_threshold" in said()[2]


def test_a_renamed_layer_is_kept_and_images_of_other_axes_have_a_layer_of_their_own(
    viewer, widget, synthetic
):
    frames = synthetic.frames[:, 0]
    stack, single = viewer.add_image(frames, name="stack"), viewer.add_image(frames[4], name="one")
    for image in (stack, single, stack, single):
        widget.image.value = image
        press(widget)
    made = [layer for layer in viewer.layers if layer.name.startswith(NAME)]
    assert [layer.ndim for layer in made] == [3, 2]
    made[1].name = "kept"
    press(widget)
    assert len(viewer.layers) == 5


def test_the_widget_offers_every_model_and_the_defaults_of_a_run(widget):
    from cypose_dask.models import list_models

    assert set(widget.model.choices) == {"default", *list_models()}
    assert widget.flow_threshold.value == Settings().flow_threshold
    assert widget.cellprob_threshold.value == Settings().cellprob_threshold
    assert (widget.diameter.value, widget.gpu.value, widget.own_weights.value) == (0, False, None)


def test_the_picture_of_the_docs_is_made_by_its_script(tmp_path):
    need_screen()
    made = tmp_path / "napari.png"
    script = ROOT / "scripts" / "screenshots.py"
    subprocess.run([sys.executable, script, "napari", made], check=True)
    for path in (made, PICTURE):
        assert path.stat().st_size <= MOST_PICTURE_BYTES
        with Image.open(path) as picture:
            assert picture.size == (1180, 720)
            assert len(picture.getcolors()) > 60
