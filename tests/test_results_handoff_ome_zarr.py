"""OME-Zarr with image and labels: valid NGFF, the movie's own pixels, whole or nothing."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.bioformats2raw import BioFormats2Raw
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel
from ome_zarr_models.v05.labels import Labels

from cypose_dask.errors import (
    DamagedFrameError,
    IncompleteResultError,
    MovieNotFoundError,
    ResultError,
)
from cypose_dask.movies import Movie, open_movie
from cypose_dask.results import Status, is_own_output, open_result
from cypose_dask.results.handoff import ome_zarr
from cypose_dask.results.handoff.ome_zarr import export_ome_zarr
from helpers.handed_on import hand_on

DONE, FAILED, DAMAGED = (int(s) for s in (Status.DONE, Status.FAILED, Status.DAMAGED))


def exported(made, folder, **how):
    (path,) = export_ome_zarr(made.result, folder / "x.ome.zarr", **how)
    return zarr.open_group(path, mode="r")


def lose(monkeypatch, *damaged):
    """Let the movie lack some frames (t, p, z)."""
    read = Movie.read_frame

    def read_frame(movie, t, p=0, z=0):
        if (t, p, z) in damaged:
            raise DamagedFrameError(f"t={t} is missing")
        return read(movie, t, p, z)

    monkeypatch.setattr(Movie, "read_frame", read_frame)


@pytest.mark.parametrize(
    ("t", "p", "z", "c"), [(4, 1, 1, 2), (3, 2, 1, 1), (5, 1, 2, 3), (1, 1, 1, 1)]
)
def test_pixels_and_labels_are_those_of_movie_and_result(tmp_path, t, p, z, c):
    made = hand_on(tmp_path, t=t, p=p, z=z, c=c)
    root = exported(made, tmp_path)
    for position in range(p):
        pixels, labels = root[f"{position}/0"], root[f"{position}/labels/cells/0"]
        assert (pixels.dtype, labels.dtype) == (made.pixels.dtype, np.uint32)
        assert np.array_equal(pixels[:].swapaxes(1, 2), made.pixels[:, position])
        assert np.array_equal(labels[:], made.labels[:, position])


def test_every_group_is_valid_ome_ngff(tmp_path):
    root = exported(hand_on(tmp_path, p=2, z=2), tmp_path)
    assert BioFormats2Raw.from_zarr(root).image_paths == ["0", "1"]
    for position in "01":
        image = Image.from_zarr(root[position]).ome_attributes
        labels = Labels.from_zarr(root[f"{position}/labels"]).ome_attributes
        cells = ImageLabel.from_zarr(root[f"{position}/labels/cells"]).ome_attributes
        assert [axis.name for axis in image.multiscales[0].axes] == ["t", "c", "z", "y", "x"]
        assert labels.labels == ["cells"]
        assert cells.image_label.source.image == "../../"


def test_image_and_labels_have_one_scale(tmp_path):
    made = hand_on(tmp_path, z=2)
    root, known = exported(made, tmp_path), made.result.layout
    scales = [
        root[name].attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]
        for name in ("0", "0/labels/cells")
    ]
    (t, _, *space), labels = (scale["scale"] for scale in scales)
    assert [t, *space] == labels
    assert labels == [300, known.z_step_um, known.pixel_size_um, known.pixel_size_um]
    units = [axis.get("unit") for axis in root["0"].attrs["ome"]["multiscales"][0]["axes"]]
    assert units == ["second", None, "micrometer", "micrometer", "micrometer"]


def test_channels_have_names_and_colours_of_their_own_and_show_what_is_there(tmp_path):
    made = hand_on(tmp_path, c=3)
    channels = exported(made, tmp_path)["0"].attrs["ome"]["omero"]["channels"]
    assert [channel["label"] for channel in channels] == ["channel 0", "channel 1", "channel 2"]
    assert len({channel["color"] for channel in channels}) == 3
    for c, channel in enumerate(channels):
        frame, window = made.pixels[0, 0, :, c], channel["window"]
        assert frame.min() <= window["start"] < window["end"] <= frame.max()


def test_our_reader_gives_back_the_movie(tmp_path):
    made = hand_on(tmp_path, p=2)
    exported(made, tmp_path)
    movie, known = open_movie(tmp_path / "x.ome.zarr"), open_movie(made.movie).info
    assert np.array_equal(np.asarray(movie.frames), made.pixels)
    for name in ("channel_names", "position_names", "pixel_size_um", "interval_s"):
        assert getattr(movie.info, name) == getattr(known, name)


def test_the_selected_frames_are_taken(tmp_path):
    made = hand_on(tmp_path, t=6, start_frame=1, end_frame=4)
    root = exported(made, tmp_path)
    assert np.array_equal(root["0/0"][:, :, 0], made.pixels[1:4, 0, 0])
    assert np.array_equal(root["0/labels/cells/0"][:], made.labels[:, 0])


def test_a_search_for_movies_passes_it_by(tmp_path):
    exported(hand_on(tmp_path), tmp_path)
    assert is_own_output(tmp_path / "x.ome.zarr")
    with pytest.raises(ResultError, match="no result"):
        open_result(tmp_path / "x.ome.zarr")


def test_frames_without_labels_are_refused_or_blank_and_listed(tmp_path, monkeypatch):
    made = hand_on(tmp_path, counts=[2, 2, 2, 2], status=[DONE, FAILED, DONE, DAMAGED])
    lose(monkeypatch, (3, 0, 0))
    with pytest.raises(IncompleteResultError, match="2 frames have no labels"):
        exported(made, tmp_path)
    root = exported(made, tmp_path, allow_incomplete=True)
    assert root["0/labels/cells/0"][:].max(axis=(1, 2, 3)).tolist() == [2, 0, 2, 0]
    assert np.array_equal(root["0/0"][:3, :, 0], made.pixels[:3, 0, 0])
    assert not root["0/0"][3].any()
    listed = root.attrs["cypose_dask"]["without_labels"]
    assert listed == ["p=0, t 1: failed", "p=0, t 3: damaged"]


def test_a_frame_that_has_labels_and_no_pixels_leaves_nothing(tmp_path, monkeypatch):
    made = hand_on(tmp_path)
    lose(monkeypatch, (2, 0, 0))
    with pytest.raises(DamagedFrameError):
        exported(made, tmp_path)
    assert not list(tmp_path.glob("x*"))


def test_a_movie_that_was_moved_is_asked_for(tmp_path):
    made = hand_on(tmp_path)
    moved = made.movie.rename(tmp_path / "moved.nd2")
    with pytest.raises(MovieNotFoundError, match="--movie PATH"):
        exported(made, tmp_path)
    assert np.array_equal(
        exported(made, tmp_path, movie=moved)["0/0"][:, :, 0], made.pixels[:, 0, 0]
    )


def test_nothing_is_written_over(tmp_path):
    made = hand_on(tmp_path)
    (tmp_path / "x.ome.zarr").mkdir()
    with pytest.raises(ResultError, match="exists already"):
        exported(made, tmp_path)


def test_what_was_written_is_compared_with_its_source(tmp_path, monkeypatch):
    made = hand_on(tmp_path)
    write = ome_zarr.write_frames
    monkeypatch.setattr(ome_zarr, "write_frames", lambda *a: write(*a[:2], a[2] ^ 1))
    with pytest.raises(ResultError, match="differs from its source"):
        exported(made, tmp_path)
    assert not list(tmp_path.glob("x*"))


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    made = hand_on(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ome_zarr, "write_block", full)
    with pytest.raises(ResultError, match="No space left"):
        exported(made, tmp_path)
    assert not list(tmp_path.glob("x*"))


def test_one_block_is_held_at_a_time(tmp_path, monkeypatch):
    """Memory stays flat: a block is written before the next one is read."""
    made = hand_on(tmp_path, t=8)
    ahead, read, write = [0], Movie.read_frame, ome_zarr.write_block
    most = []

    def reading(*a, **k):
        ahead[0] += 1
        most.append(ahead[0])
        return read(*a, **k)

    def writing(*a, **k):
        ahead[0] = 0
        return write(*a, **k)

    monkeypatch.setattr(Movie, "read_frame", reading)
    monkeypatch.setattr(ome_zarr, "write_block", writing)
    exported(made, tmp_path)
    assert max(most) == made.result.layout.frames_per_block == 2


def test_the_reference_reader_finds_movie_and_cells(tmp_path):
    reader = pytest.importorskip("ome_zarr.reader", reason="pip install ome-zarr")
    from ome_zarr.io import parse_url

    made = hand_on(tmp_path, p=2, c=2)
    (path,) = export_ome_zarr(made.result, tmp_path / "x.ome.zarr")
    image, _, cells = reader.Reader(parse_url(path / "1"))()
    assert np.array_equal(image.data[0][:, :, 0], made.pixels[:, 1, 0])
    assert np.array_equal(cells.data[0], made.labels[:, 1])
    assert image.metadata["channel_names"] == ["channel 0", "channel 1"]
