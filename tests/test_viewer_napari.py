"""napari itself, without Qt: what a viewer holds after it opened something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

import cypose_dask
from cypose_dask.errors import DamagedFrameError
from helpers.handed_on import hand_on

napari_builtins = pytest.importorskip("napari_builtins")

OURS = "cypose-dask"
MANIFEST = Path(cypose_dask.__file__).parent / "viewer" / "napari.yaml"
BUILTINS = Path(napari_builtins.__file__).parent / "builtins.yaml"


@pytest.fixture
def viewer(npe2pm):
    """A viewer without a window that knows our plugin and napari's own readers."""
    from napari.components import ViewerModel

    manifests = str(MANIFEST), str(BUILTINS)
    with npe2pm.tmp_plugin(manifest=manifests[0]), npe2pm.tmp_plugin(manifest=manifests[1]):
        yield ViewerModel()


def test_a_viewer_shows_every_channel_and_the_labels_in_one_world(tmp_path, viewer):
    made = hand_on(tmp_path, t=6, p=2, c=2, start_frame=2)
    viewer.open(str(made.result.path), plugin=OURS)
    assert [layer.name for layer in viewer.layers] == ["channel 0", "channel 1", "cells"]
    assert [type(layer).__name__ for layer in viewer.layers] == ["Image", "Image", "Labels"]
    interval, pixel = made.result.layout.interval_s, made.result.layout.pixel_size_um
    for layer in viewer.layers:
        assert np.allclose(layer.scale, (interval, 1, 1, pixel, pixel))
        assert [str(unit) for unit in layer.units[:1]] == ["second"]
    image, cells = viewer.layers[1], viewer.layers[2]
    for t, p in [(2, 0), (3, 1), (5, 0)]:
        viewer.dims.set_point((0, 1), (t * interval, p))
        assert np.array_equal(image._data_view, made.pixels[t, p, 0, 1])
        assert np.array_equal(cells._slice.image.raw, made.labels[t - 2, p, 0])


def test_a_damaged_frame_does_not_stop_the_viewer(tmp_path, viewer, monkeypatch):
    from cypose_dask.movies import Movie

    made = hand_on(tmp_path)
    viewer.open(str(made.movie), plugin=None)
    monkeypatch.setattr(Movie, "read_frame", _missing)
    with pytest.warns(UserWarning, match="Shown as zeros"):
        viewer.dims.set_point(0, 2 * 300.0)
    assert not viewer.layers[0]._data_view.any()


def _missing(*_):
    raise DamagedFrameError("it is missing")


def test_a_result_without_its_movie_shows_labels_in_time_and_micrometres(tmp_path, viewer):
    made = hand_on(tmp_path, t=5, start_frame=1)
    made.movie.unlink()
    with pytest.warns(UserWarning, match="labels are shown alone"):
        viewer.open(str(made.result.path), plugin=OURS)
    (cells,) = viewer.layers
    assert np.allclose(cells.extent.world[:, 0], (300, 4 * 300))
    assert [str(unit) for unit in cells.units] == ["second", "pixel", *["micrometer"] * 3]
    viewer.dims.set_point(0, 3 * 300)
    assert np.array_equal(cells._slice.image.raw, made.labels[2, 0, 0])


def test_an_exported_ome_zarr_opens_by_itself(tmp_path, viewer):
    from cypose_dask.results.handoff.ome_zarr import export_ome_zarr

    made = hand_on(tmp_path, z=2, c=1)
    (path,) = export_ome_zarr(made.result, tmp_path / "x.ome.zarr")
    viewer.open(str(path), plugin=OURS)
    image, cells = viewer.layers
    viewer.dims.set_point((0, 2), (600, 1))
    assert np.array_equal(image._data_view, made.pixels[2, 0, 1, 0])
    assert np.array_equal(cells._slice.image.raw, made.labels[2, 0, 1])


def test_napari_asks_who_shall_open_a_result_and_opens_what_is_not_ours(tmp_path, viewer):
    from napari.errors import MultipleReaderError

    made = hand_on(tmp_path)
    for path in (str(made.result.path), f"{made.result.path}/"):
        with pytest.raises(MultipleReaderError) as asked:
            viewer.open(path, plugin=None)
        assert sorted(asked.value.available_plugins) == [OURS, "napari"]
    zarr.create_array(tmp_path / "foreign.zarr", data=np.ones((3, 8, 9)))
    (layer,) = viewer.open(str(tmp_path / "foreign.zarr"), plugin="napari")
    assert layer.data.shape == (3, 8, 9)
