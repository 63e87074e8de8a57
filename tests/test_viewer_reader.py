"""napari's reader: what it opens, in which scale, and what it shows where something is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from npe2 import PluginManifest
from npe2.io_utils import read

import cypose_dask
from conftest import ROOT
from cypose_dask.errors import DamagedFrameError
from cypose_dask.movies import Movie
from cypose_dask.movies.zarr_store import _letters
from cypose_dask.results import Status, export_tif
from cypose_dask.results.handoff.ome_zarr import export_ome_zarr
from cypose_dask.run import link
from cypose_dask.viewer.reader import AXIS_WORDS, get_reader
from helpers.handed_on import hand_on, stamped
from helpers.nd2_writer import write_nd2
from helpers.results import write_result
from helpers.zarr_writer import write_ome_zarr, write_positions

MANIFEST = Path(cypose_dask.__file__).parent / "viewer" / "napari.yaml"
DONE, FAILED, DAMAGED = (int(s) for s in (Status.DONE, Status.FAILED, Status.DAMAGED))
PIXEL_UM, INTERVAL_S = 0.065, 300.0


@pytest.fixture
def opened(npe2pm):
    """Open a path as napari does: by the manifest, through npe2."""
    with npe2pm.tmp_plugin(manifest=str(MANIFEST)):
        yield lambda path: read([str(path)], stack=False, plugin_name="cypose-dask")


def images(layers):
    return [(data, about) for data, about, kind in layers if kind == "image"]


def labels(layers):
    ((data, about),) = ((data, about) for data, about, kind in layers if kind == "labels")
    return data, about


def lose(monkeypatch, *damaged):
    """Let the movie lack some frames (t, p, z)."""
    whole = Movie.read_frame

    def read_frame(movie, t, p=0, z=0):
        if (t, p, z) in damaged:
            raise DamagedFrameError(f"t={t} is missing")
        return whole(movie, t, p, z)

    monkeypatch.setattr(Movie, "read_frame", read_frame)


def test_the_manifest_is_valid_and_the_package_announces_it():
    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    (announced,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][
        "napari.manifest"
    ].items()
    assert announced == (manifest.name, "cypose_dask.viewer:napari.yaml")


@pytest.mark.parametrize(
    ("t", "p", "z", "c"), [(4, 1, 1, 2), (3, 2, 1, 1), (2, 2, 2, 3), (1, 1, 1, 1)]
)
def test_a_result_shows_the_pixels_of_its_movie_and_its_labels(tmp_path, opened, t, p, z, c):
    made = hand_on(tmp_path, t=t, p=p, z=z, c=c)
    layers = opened(made.result.path)
    assert len(images(layers)) == c
    for channel, (data, about) in enumerate(images(layers)):
        assert (data.shape, data.dtype) == ((t, p, z, 36, 40), np.uint16)
        assert np.array_equal(data, made.pixels[:, :, :, channel])
        assert about["name"] == f"channel {channel}"
    data, _ = labels(layers)
    assert (data.shape, data.dtype) == ((t, p, z, 36, 40), np.uint32)
    assert np.array_equal(data, made.labels)


def test_every_layer_has_the_scale_of_the_movie_in_seconds_and_micrometres(tmp_path, opened):
    made = hand_on(tmp_path, z=2)
    step = made.result.layout.z_step_um
    for _, about, _ in opened(made.result.path):
        assert about["scale"] == (INTERVAL_S, 1, step or 1, PIXEL_UM, PIXEL_UM)
        assert about["axis_labels"] == ("t", "p", "z", "y", "x")
        assert about["units"][:2] == ("second", "pixel")
        assert about["units"][3:] == ("micrometer", "micrometer")


def test_without_a_scale_every_step_is_one_pixel(tmp_path, opened):
    path = as_named_array(tmp_path / "movie", stamped((3, 1, 1, 1, 8, 9)), 3)
    ((_, about, _),) = opened(path)
    assert about["scale"] == (1,) * 5
    assert about["units"] == ("pixel",) * 5
    assert about["name"] == "movie 0"


def test_channels_have_colours_of_their_own_and_show_what_is_there(tmp_path, opened):
    made = hand_on(tmp_path, c=3)
    layers = images(opened(made.result.path))
    assert len({about["colormap"] for _, about in layers}) == 3
    for c, (_, about) in enumerate(layers):
        frame, (low, high) = made.pixels[0, 0, 0, c], about["contrast_limits"]
        assert frame.min() <= low < high <= frame.max()


def test_labels_lie_at_the_time_of_the_frames_that_were_selected(tmp_path, opened):
    made = hand_on(tmp_path, t=6, start_frame=2, end_frame=5)
    layers = opened(made.result.path)
    data, about = labels(layers)
    assert np.array_equal(data, made.labels)
    assert about["translate"] == (2 * INTERVAL_S, 0, 0, 0, 0)
    assert images(layers)[0][0].shape[0] == 6


def test_opening_reads_one_frame_of_each_channel(tmp_path, opened, monkeypatch):
    made, taken, whole = hand_on(tmp_path, t=5, c=2), [], Movie.read_frame
    monkeypatch.setattr(Movie, "read_frame", lambda *a: taken.append(a[1:]) or whole(*a))
    layers = opened(made.result.path)
    assert taken == [(0, 0, 0)] * 2
    images(layers)[1][0][3, 0, 0, 2:4, 1:5]
    assert taken[2:] == [(3, 0, 0)]


def test_without_its_movie_a_result_shows_labels_and_says_why(tmp_path, opened):
    made = hand_on(tmp_path)
    made.movie.unlink()
    with pytest.warns(UserWarning, match=r"shown alone; open the movie as well.*movie\.nd2"):
        layers = opened(made.result.path)
    assert images(layers) == []
    assert np.array_equal(labels(layers)[0], made.labels)


def test_a_result_that_names_no_movie_shows_labels_and_says_so(tmp_path, opened):
    result = write_result(tmp_path / "m.zarr", np.ones((2, 1, 1, 8, 9), np.uint32))
    with pytest.warns(UserWarning, match="does not say which movie"):
        layers = opened(result.path)
    assert np.array_equal(labels(layers)[0], np.ones((2, 1, 1, 8, 9)))


def test_a_damaged_frame_is_zeros_and_said_once(tmp_path, opened, monkeypatch):
    made = hand_on(tmp_path, c=2)
    lose(monkeypatch, (2, 0, 0), (3, 0, 0))
    layers = images(opened(made.result.path))
    with pytest.warns(UserWarning, match="Shown as zeros.*t=2 is missing") as said:
        shown = [np.asarray(data) for data, _ in layers]
    assert len(said) == 1
    for c, data in enumerate(shown):
        assert not data[2:].any()
        assert np.array_equal(data[:2], made.pixels[:2, :, :, c])


def test_a_frame_that_cannot_be_read_raises_for_who_computes_with_it(tmp_path, opened, monkeypatch):
    made = hand_on(tmp_path)
    lose(monkeypatch, (2, 0, 0))
    data = images(opened(made.result.path))[0][0]
    with pytest.raises(DamagedFrameError):
        data.plane(2, 0, 0)


def test_frames_without_labels_are_blank_and_told_by_their_status(tmp_path, opened):
    status = [DONE, FAILED, DONE, DAMAGED]
    made = hand_on(tmp_path, counts=[2, 2, 2, 2], status=status)
    with pytest.warns(UserWarning, match=r"blank: p=0, t 1: failed; p=0, t 3: damaged\.") as said:
        data, about = labels(opened(made.result.path))
    assert len(said) == 1
    assert np.asarray(data).max(axis=(1, 2, 3, 4)).tolist() == [2, 0, 2, 0]
    assert about["metadata"]["status"][:, 0, 0].tolist() == status


def test_an_export_tells_which_of_its_frames_have_no_labels(tmp_path, opened):
    made = hand_on(tmp_path, counts=[2, 2, 2, 2], status=[DONE, FAILED, FAILED, DONE])
    (path,) = export_ome_zarr(made.result, tmp_path / "x.ome.zarr", allow_incomplete=True)
    with pytest.warns(UserWarning, match=r"blank: p=0, t 1-2: failed\."):
        layers = opened(path)
    assert np.asarray(labels(layers)[0]).max(axis=(1, 2, 3, 4)).tolist() == [2, 0, 0, 2]


def test_a_long_list_of_frames_without_labels_is_cut_short(tmp_path, opened):
    made = hand_on(tmp_path, p=7, counts=[0] * 28, status=[DONE, FAILED, DONE, DONE])
    with pytest.warns(UserWarning, match="p=4, t 1: failed; and 2 more"):
        opened(made.result.path)


def test_a_lost_block_of_labels_is_zeros_and_said_once(tmp_path, opened):
    made = hand_on(tmp_path, counts=[2, 3, 2, 3])
    made.result.path.joinpath("0/labels/cells/0/c/1/0/0/0").unlink()
    data, _ = labels(opened(made.result.path))
    with pytest.warns(UserWarning, match="2 cells were counted") as said:
        shown = np.asarray(data)
    assert len(said) == 1
    assert np.array_equal(shown[:2], made.labels[:2])
    assert not shown[2:].any()


def test_linked_cells_are_shown_by_their_tracks(tmp_path, opened, client):
    made = hand_on(tmp_path, t=5, p=2, start_frame=1, counts=[2, 2, 0, 1, 0, 2, 2, 2])
    ((_, about, _),) = (layer for layer in opened(made.result.path) if layer[2] == "labels")
    assert (about["name"], about["visible"]) == ("cells", True)
    link(made.result, client=client)
    cells, tracks = (layer for layer in opened(made.result.path) if layer[2] == "labels")
    assert [(about["name"], about.get("visible", True)) for _, about, _ in (cells, tracks)] == [
        ("cells", False),
        ("tracks", True),
    ]
    assert tracks[1]["translate"] == cells[1]["translate"] != (0,) * 5
    files = export_tif(made.result, tmp_path / "x.tif", ids="track")
    by_track = np.stack([tifffile.imread(file) for file in files], axis=1)
    assert np.array_equal(tracks[0][:, :, 0], by_track)
    assert not np.array_equal(by_track, made.labels[:, :, 0])


def test_tracks_of_other_labels_are_not_shown(tmp_path, opened, client):
    made = hand_on(tmp_path)
    link(made.result, client=client).tracks.write_bytes(b"tracks")
    with pytest.warns(UserWarning, match=r"without their tracks\..*link again"):
        layers = opened(made.result.path)
    assert np.array_equal(labels(layers)[0], made.labels)
    assert labels(layers)[1]["visible"]


def test_what_is_exported_opens_with_its_pixels_and_its_labels(tmp_path, opened):
    made = hand_on(tmp_path, p=2, z=2)
    (path,) = export_ome_zarr(made.result, tmp_path / "x.ome.zarr")
    layers = opened(path)
    for c, (data, _) in enumerate(images(layers)):
        assert np.array_equal(data, made.pixels[:, :, :, c])
    data, about = labels(layers)
    assert data.dtype == np.uint32
    assert np.array_equal(data, made.labels)
    assert about["scale"] == images(layers)[0][1]["scale"]


def test_an_export_that_lost_its_labels_shows_images_and_says_so(tmp_path, opened):
    made = hand_on(tmp_path, p=2)
    (path,) = export_ome_zarr(made.result, tmp_path / "x.ome.zarr")
    shutil.rmtree(path / "1" / "labels")
    with pytest.warns(UserWarning, match="images are shown alone.*export the result again"):
        layers = opened(path)
    assert len(layers) == len(images(layers)) == 2


def test_labels_of_another_shape_than_their_images_are_left_out(tmp_path, opened):
    made = hand_on(tmp_path)
    (path,) = export_ome_zarr(made.result, tmp_path / "x.ome.zarr")
    shutil.rmtree(path / "0/labels/cells/0")
    cells = zarr.open_group(path, mode="r+")["0/labels/cells"]
    cells.create_array("0", data=np.ones((4, 1, 8, 9), np.uint32))
    with pytest.warns(UserWarning, match="found labels of"):
        assert len(opened(path)) == 2


def as_nd2(path, pixels):
    return write_nd2(path.with_suffix(".nd2"), pixels, axes="TPZCYX")


def as_named_array(path, pixels, zarr_format):
    names = {"dimension_names": ("t", "p", "z", "c", "y", "x")} if zarr_format == 3 else {}
    array = zarr.create_array(
        path.with_suffix(".zarr"), data=pixels, zarr_format=zarr_format, **names
    )
    if zarr_format == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = ["t", "p", "z", "c", "y", "x"]
    return path.with_suffix(".zarr")


def as_ngff(path, pixels, version):
    return write_ome_zarr(path.with_suffix(".zarr"), pixels[:, :1], version, "TCZYX")


KINDS = {
    "nd2": as_nd2,
    "array-2": lambda path, pixels: as_named_array(path, pixels, 2),
    "array-3": lambda path, pixels: as_named_array(path, pixels, 3),
    "ngff-0.4": lambda path, pixels: as_ngff(path, pixels, "0.4"),
    "ngff-0.5": lambda path, pixels: as_ngff(path, pixels, "0.5"),
    "positions-0.4": lambda path, pixels: write_positions(
        path.with_suffix(".zarr"), pixels, "0.4", listed=False
    ),
    "positions-0.5": lambda path, pixels: write_positions(
        path.with_suffix(".zarr"), pixels, "0.5", listed=False
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_movie_opens(tmp_path, opened, kind):
    pixels = stamped((3, 2, 2, 2, 8, 9))
    layers = opened(KINDS[kind](tmp_path / "movie", pixels))
    shown = np.stack([data for data, _ in images(layers)], axis=3)
    positions = 1 if kind in ("ngff-0.4", "ngff-0.5") else 2
    assert np.array_equal(shown, pixels[:, :positions])


def write_nothing(path):
    path.mkdir()


def write_table(path):
    zarr.create_group(path).create_array("cells", data=np.zeros(3))


def write_plate(path):
    zarr.create_group(path, attributes={"ome": {"version": "0.5", "plate": {"wells": []}}})


def write_nameless_array(path):
    zarr.create_array(path, data=np.zeros((3, 8, 9)))


def write_map(path):
    names = ("time", "lat", "lon")
    zarr.create_array(path, data=np.zeros((3, 8, 9)), dimension_names=names)


def write_table_of_columns(path):
    zarr.create_array(path, data=np.zeros((3, 9)), dimension_names=("t", "x"))


def write_other_json(path):
    path.mkdir()
    path.joinpath("zarr.json").write_text("[[" * 100_000)


@pytest.mark.parametrize(
    "write",
    [
        write_nothing,
        write_table,
        write_plate,
        write_nameless_array,
        write_map,
        write_table_of_columns,
        write_other_json,
    ],
)
def test_foreign_folders_are_left_to_other_readers(tmp_path, opened, write):
    path = tmp_path / "foreign.zarr"
    write(path)
    with pytest.raises(ValueError, match="refused the file"):
        opened(path)


def test_axes_are_told_by_the_words_that_movies_are_read_with():
    assert "U" not in _letters(sorted(AXIS_WORDS))
    # The samples of RGB are refused as a movie; `rgb=` is said where a movie is opened by hand.
    assert set(_letters(sorted(AXIS_WORDS))) == set("TPZCYX")


def test_pictures_are_left_to_napari(tmp_path, opened):
    path = tmp_path / "picture.tif"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="No compatible readers"):
        opened(path)


def test_what_is_not_there_and_stacks_of_files_are_left_to_other_readers(tmp_path):
    made = hand_on(tmp_path)
    assert get_reader(str(made.movie)) is get_reader([str(made.movie)])
    assert get_reader(str(tmp_path / "nowhere.nd2")) is None
    assert get_reader([str(made.movie)] * 2) is None


def test_a_foreign_folder_is_told_without_loading_anything_heavy(tmp_path):
    write_table(tmp_path / "foreign.zarr")
    script = (
        "import sys; from cypose_dask.viewer.reader import get_reader\n"
        f"assert get_reader({str(tmp_path / 'foreign.zarr')!r}) is None\n"
        "assert not {'numpy', 'zarr', 'torch', 'dask', 'nd2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "key",
    [
        (1, 1, 0),
        (slice(None), 1, 0, 3, slice(2, 5)),
        (..., 4),
        (slice(2, 0, -1), ..., slice(1, 3), slice(None)),
        (-1, slice(0, 1), np.int64(1), slice(None), 2),
        2,
    ],
)
def test_a_layer_is_indexed_as_its_array(tmp_path, opened, key):
    made = hand_on(tmp_path, t=3, p=2, z=2, c=1)
    layers = opened(made.result.path)
    assert np.array_equal(images(layers)[0][0][key], made.pixels[:, :, :, 0][key])
    assert np.array_equal(labels(layers)[0][key], made.labels[key])


def test_a_whole_movie_opens_without_a_word(tmp_path, opened):
    made = hand_on(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for data, *_ in opened(made.result.path):
            np.asarray(data)
