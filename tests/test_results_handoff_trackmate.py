"""TrackMate's hyperstack: the movie's channels, the labels last, calibrated axes, flat memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cypose_dask.errors import (
    DamagedFrameError,
    IncompleteResultError,
    MovieNotFoundError,
    ResultError,
    SettingsError,
)
from cypose_dask.movies import open_movie
from cypose_dask.results import Status, export_trackmate, is_own_output
from cypose_dask.results.handoff import hyperstack
from cypose_dask.results.writing import write_status
from helpers.handed_on import hand_on

DONE, FAILED, DAMAGED = (int(s) for s in (Status.DONE, Status.FAILED, Status.DAMAGED))


def pages_of(made, position=0) -> np.ndarray:
    """What a hyperstack (T, Z, C, Y, X) must hold."""
    t0 = made.result.start_frame
    pixels = made.pixels[t0 : t0 + len(made.labels), position]
    return np.concatenate([pixels, made.labels[:, position, :, np.newaxis]], axis=2)


@pytest.mark.parametrize(("t", "z", "c"), [(4, 1, 2), (3, 2, 1), (1, 1, 1), (1, 3, 2), (2, 1, 7)])
def test_channels_come_first_and_the_labels_last(tmp_path, t, z, c):
    made = hand_on(tmp_path, t=t, z=z, c=c)
    (path,) = export_trackmate(made.result, tmp_path / "x.tif")
    with tifffile.TiffFile(path) as tif:
        assert tif.is_imagej
        about = tif.imagej_metadata
        assert about["channels"] == c + 1
        assert (about.get("frames", 1), about.get("slices", 1)) == (t, z)
        pixels = tif.asarray()
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels, pages_of(made).squeeze())


def test_axes_are_calibrated(tmp_path):
    made = hand_on(tmp_path, z=2)
    (path,) = export_trackmate(made.result, tmp_path / "x.tif")
    info = open_movie(path).info
    known = made.result.layout
    assert info.sizes == {"T": 4, "P": 1, "Z": 2, "C": 3, "Y": 36, "X": 40}
    assert info.pixel_size_um == pytest.approx(known.pixel_size_um, rel=1e-6)
    assert (info.interval_s, info.z_step_um) == (known.interval_s, known.z_step_um) == (300, 1)


def test_channels_are_named(tmp_path):
    made = hand_on(tmp_path)
    (path,) = export_trackmate(made.result, tmp_path / "x.tif")
    with tifffile.TiffFile(path) as tif:
        info = tif.imagej_metadata["Info"]
    assert info == "channel 1: channel 0\nchannel 2: channel 1\nchannel 3: labels"


def test_the_selected_frames_are_taken_from_every_position(tmp_path):
    made = hand_on(tmp_path, t=5, p=2, start_frame=1, end_frame=4)
    paths = export_trackmate(made.result, tmp_path / "x.tif")
    assert [path.name for path in paths] == ["x_p000.tif", "x_p001.tif"]
    for position, path in enumerate(paths):
        assert np.array_equal(tifffile.imread(path), pages_of(made, position).squeeze())


def test_ids_of_the_whole_movie(tmp_path):
    made = hand_on(tmp_path, counts=[2, 0, 3, 1])
    (path,) = export_trackmate(made.result, tmp_path / "x.tif", ids="movie")
    assert tifffile.imread(path)[:, -1].max(axis=(1, 2)).tolist() == [2, 0, 5, 6]


def test_labels_that_do_not_fit_are_refused(tmp_path):
    made = hand_on(tmp_path, t=2, counts=[1, 1])
    write_status(made.result.path, 0, made.result.status(), np.full((2, 1), 40000, np.uint32))
    with pytest.raises(SettingsError, match=r"up to 80000.*uint16 holds 65535.*--ids frame"):
        export_trackmate(made.result, tmp_path / "x.tif", ids="movie")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["movie.nd2", "movie.zarr"]


@pytest.mark.parametrize(
    ("dtype", "stack"),
    [("bool", "uint16"), ("uint8", "uint16"), ("int16", "float32"), ("float16", "float32")],
)
def test_pixels_keep_their_values(tmp_path, monkeypatch, dtype, stack):
    made = hand_on(tmp_path, c=1)
    lowest = -40 if np.dtype(dtype).kind in "if" else 0
    pixels = (made.pixels.astype(int) % 90 + lowest).astype(dtype)
    pretend(monkeypatch, pixels)
    (path,) = export_trackmate(made.result, tmp_path / "x.tif")
    read = tifffile.imread(path)
    assert read.dtype == stack
    assert np.array_equal(read[:, 0], pixels[:, 0, 0, 0])
    assert np.array_equal(read[:, 1], made.labels[:, 0, 0])


@pytest.mark.parametrize("dtype", ["uint32", "int32", "float64"])
def test_pixels_that_imagej_does_not_know_are_refused(tmp_path, monkeypatch, dtype):
    made = hand_on(tmp_path, c=1)
    pretend(monkeypatch, made.pixels.astype(dtype))
    with pytest.raises(SettingsError, match=f"type {dtype}, which ImageJ does not know"):
        export_trackmate(made.result, tmp_path / "x.tif")


class Pretended:
    """A movie that reads other pixels, and lacks some frames."""

    def __init__(self, movie, pixels, damaged=()):
        from dataclasses import replace

        self.info = replace(movie.info, dtype=pixels.dtype)
        self.pixels, self.damaged = pixels, damaged

    def read_frame(self, t, p=0, z=0):
        if (t, p, z) in self.damaged:
            raise DamagedFrameError(f"t={t} is missing")
        return self.pixels[t, p, z]


def pretend(monkeypatch, pixels, damaged=()):
    opened = hyperstack.movie_of
    monkeypatch.setattr(
        hyperstack, "movie_of", lambda *args: Pretended(opened(*args), pixels, damaged)
    )


def test_frames_without_labels_are_refused_or_blank(tmp_path, monkeypatch):
    made = hand_on(tmp_path, counts=[2, 2, 2, 2], status=[DONE, FAILED, DONE, DAMAGED])
    pretend(monkeypatch, made.pixels, damaged=[(3, 0, 0)])
    with pytest.raises(IncompleteResultError, match="2 frames have no labels"):
        export_trackmate(made.result, tmp_path / "x.tif")
    (path,) = export_trackmate(made.result, tmp_path / "x.tif", allow_incomplete=True)
    pixels = tifffile.imread(path)
    assert pixels[:, -1].max(axis=(1, 2)).tolist() == [2, 0, 2, 0]
    assert np.array_equal(pixels[:3, :2], made.pixels[:3, 0, 0])
    assert not pixels[3].any()


def test_a_frame_that_has_labels_and_no_pixels_is_an_error(tmp_path, monkeypatch):
    made = hand_on(tmp_path)
    pretend(monkeypatch, made.pixels, damaged=[(2, 0, 0)])
    with pytest.raises(DamagedFrameError):
        export_trackmate(made.result, tmp_path / "x.tif")
    assert not list(tmp_path.glob("x*"))


def test_a_movie_that_is_gone_is_asked_for(tmp_path):
    made = hand_on(tmp_path)
    moved = made.movie.rename(tmp_path / "moved.nd2")
    with pytest.raises(MovieNotFoundError, match="--movie PATH"):
        export_trackmate(made.result, tmp_path / "x.tif")
    assert export_trackmate(made.result, tmp_path / "x.tif", movie=moved)


def test_what_was_written_is_compared_with_the_result(tmp_path, monkeypatch):
    made = hand_on(tmp_path)
    write = hyperstack._write

    def write_wrongly(path, stack):
        write(path, stack)
        tifffile.memmap(path, mode="r+").reshape(-1)[-1] ^= 1

    monkeypatch.setattr(hyperstack, "_write", write_wrongly)
    with pytest.raises(ResultError, match="differs from the result"):
        export_trackmate(made.result, tmp_path / "x.tif")
    assert not list(tmp_path.glob("x*"))


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    made = hand_on(tmp_path)

    def full(path, stack):
        Path(path).write_bytes(b"II*")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hyperstack, "_write", full)
    with pytest.raises(ResultError, match="No space left"):
        export_trackmate(made.result, tmp_path / "x.tif")
    assert not list(tmp_path.glob("x*"))


def test_beyond_4_gb_one_directory_stands_for_all_pages(tmp_path, monkeypatch):
    made = hand_on(tmp_path)
    monkeypatch.setattr(hyperstack, "_LARGEST_CLASSIC_BYTES", 1000)
    (path,) = export_trackmate(made.result, tmp_path / "x.tif")
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 1
        assert np.array_equal(tif.asarray(), pages_of(made).squeeze())


def test_frames_are_read_as_they_are_written(tmp_path, monkeypatch):
    """Memory stays flat: no frame is read long before the ones before it are in the file."""
    made = hand_on(tmp_path, t=40, c=1)
    read, asked = [], []
    pretend(monkeypatch, made.pixels)
    frame = Pretended.read_frame
    monkeypatch.setattr(Pretended, "read_frame", lambda *a: read.append(a[1]) or frame(*a))
    pages = hyperstack._Stack.__iter__

    def watched(stack):
        for page in pages(stack):
            asked.append(len(read))
            yield page

    monkeypatch.setattr(hyperstack._Stack, "__iter__", watched)
    export_trackmate(made.result, tmp_path / "x.tif")
    assert asked == [1 + i // 2 for i in range(80)]


def test_a_hyperstack_is_never_taken_for_a_movie_to_segment(tmp_path):
    made = hand_on(tmp_path)
    (path,) = export_trackmate(made.result, tmp_path / "x.tif")
    assert is_own_output(path)
