"""Previews: one panel a frame, outlines where cells are, and no frame that cannot be drawn."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cypose_dask.errors import DamagedFrameError, SettingsError
from cypose_dask.results import Status, save_preview
from cypose_dask.results.preview import overlay
from helpers.results import make_labels, write_result

ORANGE = (255, 190, 0)


def movie_of(frames: np.ndarray):
    """What a preview needs of a movie: frames (T, P, Z, C, Y, X), one at a time."""
    return SimpleNamespace(read_frame=lambda t, p, z: frames[t, p, z])


def gray_movie(shape, dtype=np.uint16):
    random = np.random.default_rng(0)
    return movie_of(random.integers(0, 200, size=shape).astype(dtype))


@pytest.fixture
def result(tmp_path):
    return write_result(tmp_path / "m.zarr", make_labels(t=5, z=1, y=40, x=60))


def panels_of(path) -> int:
    with Image.open(path) as image:
        assert image.format == "PNG"
        # A white line of 4 px closes each panel; 60 px are enlarged eightfold.
        return image.width // (8 * 60 + 4)


@pytest.mark.parametrize(
    ("times", "panels"), [(None, 3), ([0], 1), ([4, 0], 2), (range(5), 5), (np.array([1, 1]), 2)]
)
def test_there_is_a_panel_a_frame(result, tmp_path, times, panels):
    path = save_preview(result, gray_movie((5, 1, 1, 1, 40, 60)), tmp_path / "x.png", times=times)
    assert path == tmp_path / "x.png"
    assert panels_of(path) == panels


@pytest.mark.parametrize(("t", "panels"), [(1, 1), (2, 2), (3, 3), (9, 3)])
def test_short_movies_have_fewer_panels(tmp_path, t, panels):
    result = write_result(tmp_path / "m.zarr", make_labels(t=t, y=40, x=60))
    path = save_preview(result, gray_movie((t, 1, 1, 1, 40, 60)), tmp_path / "x.png")
    assert panels_of(path) == panels


def test_frames_positions_planes_and_channels_are_those_of_the_result(tmp_path):
    asked = []
    labels = make_labels(t=2, p=2, z=3, y=40, x=60)
    result = write_result(tmp_path / "m.zarr", labels, start_frame=7)
    result.attributes["plan"] |= {"positions": [4, 9], "channels": [1]}
    frame = np.stack([np.zeros((40, 60)), np.tile([0.0, 255.0], (40, 30))])
    movie = SimpleNamespace(read_frame=lambda *at: asked.append(at) or frame)
    path = save_preview(result, movie, tmp_path / "x.png", position=1)
    assert asked == [(7, 9, 1), (8, 9, 1)]
    drawn = np.asarray(Image.open(path))[-1, : 8 * 60]
    assert set(drawn[:, 0]) == {0, 255}


def test_outlines_are_drawn_on_the_cells_and_nowhere_else():
    labels = np.zeros((100, 100), int)
    labels[20:50, 30:60] = 1
    picture = overlay(np.zeros((100, 100)), labels)
    assert picture.shape == (500, 500, 3)
    rows, columns = np.nonzero((picture == ORANGE).all(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (100, 249, 150, 299)
    assert not picture[110:240, 160:290].any()
    assert (overlay(np.zeros((9, 9)), np.zeros((9, 9), int)) == 0).all()


def test_touching_cells_are_told_apart():
    labels = np.ones((600, 600), int)
    labels[:, 300:] = 2
    picture = overlay(np.zeros((600, 600)), labels)
    assert (picture[300, 299:301] == ORANGE).all()
    assert not picture[300, 310:590].any()


@pytest.mark.parametrize(
    "frame",
    [
        np.full((40, 60), 7, np.uint16),
        np.full((40, 60), np.nan, np.float32),
        np.full((40, 60), np.inf, np.float32),
        np.where(np.eye(40, 60), np.nan, 3.0).astype(np.float32),
        np.where(np.eye(40, 60), np.inf, 3.0).astype(np.float32),
        np.eye(40, 60, dtype=bool),
        np.full((40, 60), 2**64 - 1, np.uint64),
        np.full((40, 60), -1e30, np.float64),
    ],
)
def test_any_frame_is_drawn_without_warnings(result, tmp_path, recwarn, frame):
    movie = SimpleNamespace(read_frame=lambda *at: frame[np.newaxis])
    assert panels_of(save_preview(result, movie, tmp_path / "x.png")) == 3
    assert [str(w.message) for w in recwarn] == []


def test_gray_runs_from_dark_to_bright():
    picture = overlay(np.arange(10_000.0).reshape(100, 100), np.zeros((100, 100), int))
    assert (picture.min(), picture.max()) == (0, 255)
    assert (np.diff(picture[:, 0, 0].astype(int)) >= 0).all()


def test_a_damaged_frame_is_drawn_black(result, tmp_path):
    def read_frame(*at):
        raise DamagedFrameError("hole")

    path = save_preview(result, SimpleNamespace(read_frame=read_frame), tmp_path / "x.png")
    assert panels_of(path) == 3


def test_frames_without_labels_are_not_shown_as_frames_without_cells(tmp_path, monkeypatch):
    from cypose_dask.results import preview

    captions = []
    monkeypatch.setattr(
        preview, "captioned", lambda picture, text: captions.append(text) or picture
    )
    status = np.array([[Status.DONE], [Status.FAILED], [Status.DONE]], np.uint8)
    labels = make_labels(t=3, y=40, x=60)
    result = write_result(tmp_path / "m.zarr", labels, status=status, start_frame=5)
    path = save_preview(result, gray_movie((8, 1, 1, 1, 40, 60)), tmp_path / "x.png")
    assert captions == ["frame 5: 0 cells", "frame 6: failed", "frame 7: 2 cells"]
    drawn = np.asarray(Image.open(path))[:, 480:960]
    assert not (drawn == ORANGE).all(axis=2).any()


def test_one_cell_is_singular(tmp_path, monkeypatch):
    from cypose_dask.results import preview

    captions = []
    monkeypatch.setattr(preview, "captioned", lambda p, text: captions.append(text) or p)
    result = write_result(tmp_path / "m.zarr", make_labels(t=2, y=40, x=60))
    save_preview(result, gray_movie((2, 1, 1, 1, 40, 60)), tmp_path / "x.png", times=[1])
    assert captions == ["frame 1: 1 cell"]


@pytest.mark.parametrize(("y", "x"), [(8, 900), (900, 8), (8, 8)])
def test_narrow_frames_have_room_for_their_caption(tmp_path, y, x):
    result = write_result(tmp_path / "m.zarr", make_labels(t=2, y=y, x=x))
    path = save_preview(result, gray_movie((2, 1, 1, 1, y, x)), tmp_path / "x.png")
    with Image.open(path) as image:
        assert image.width >= 8 * len("frame 0: 0 cells" + "frame 1: 1 cell")


@pytest.mark.parametrize("choice", [{"times": []}, {"times": [5]}, {"times": [-1]}])
def test_frames_that_are_not_there_are_refused(result, tmp_path, choice):
    with pytest.raises(SettingsError, match="choose some of 0 to 4"):
        save_preview(result, gray_movie((5, 1, 1, 1, 40, 60)), tmp_path / "x.png", **choice)


@pytest.mark.parametrize("position", [1, -1])
def test_positions_that_are_not_there_are_refused(result, tmp_path, position):
    movie = gray_movie((5, 1, 1, 1, 40, 60))
    with pytest.raises(SettingsError, match="choose one of 0 to 0"):
        save_preview(result, movie, tmp_path / "x.png", position=position)
    assert not (tmp_path / "x.png").exists()
