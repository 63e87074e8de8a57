"""Films of a result: what is in each picture, how long it is seen, and who plays it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageSequence

from cypose_dask.errors import ResultError, SettingsError
from cypose_dask.results import Status, is_own_output, save_animation
from cypose_dask.results.preview import OUTLINE
from helpers.browser import chromium, started
from helpers.results import write_result
from helpers.tracked import frame

KINDS = pytest.mark.parametrize("ending", [".gif", ".apng"])
BOX = {1: (5, 10, 12, 20)}


def stored(folder, t=4, **about):
    labels = np.stack([frame({1: (5 + i, 10, 12, 20)}) for i in range(t)])
    return write_result(folder / "m.zarr", labels[:, None, None], **about)


def movie_of(frames: np.ndarray):
    """What a film needs of a movie: frames (T, Y, X), one at a time."""
    return SimpleNamespace(
        info=SimpleNamespace(path="other.nd2"), read_frame=lambda t, p, z: frames[t][np.newaxis]
    )


def ramps(t=4):
    """Frames of one slope, each brighter than the one before."""
    slope = np.tile(np.arange(60, dtype=np.uint16) * 10, (40, 1))
    return movie_of(np.stack([slope + 300 * i for i in range(t)]))


def pictures(path) -> np.ndarray:
    """Frames (T, Y, X, 3) without their captions and borders."""
    with Image.open(path) as film:
        frames = [np.asarray(one.convert("RGB")) for one in ImageSequence.Iterator(film)]
    return np.stack(frames)[:, 22:, :-4].astype(int)


@KINDS
def test_outlines_are_where_the_cells_are_and_in_each_frame(tmp_path, ending):
    path = save_animation(stored(tmp_path), ramps(), tmp_path / f"x{ending}", picture_px=600)
    shown = pictures(path)
    assert shown.shape == (4, 400, 600, 3)
    for t, picture in enumerate(shown):
        orange = np.abs(picture - OUTLINE).max(axis=-1) < 12
        rows, columns = np.nonzero(orange)
        assert (rows.min(), rows.max()) == (10 * (5 + t), 10 * (17 + t) - 1)
        assert (columns.min(), columns.max()) == (100, 299)
        assert not orange[10 * (7 + t) : 10 * (15 + t), 120:280].any()


@KINDS
def test_contrast_is_one_for_the_whole_film(tmp_path, ending):
    path = save_animation(stored(tmp_path), ramps(), tmp_path / f"x{ending}", picture_px=600)
    corners = pictures(path)[:, -1, -1, 0]
    assert (np.diff(corners) > 30).all()  # each frame of its own contrast would end in white
    assert corners[-1] > 245


@KINDS
def test_pictures_are_shown_as_long_as_asked(tmp_path, ending):
    path = save_animation(
        stored(tmp_path), ramps(), tmp_path / f"x{ending}", frames_per_s=4.0, picture_px=64
    )
    with Image.open(path) as film:
        assert film.n_frames == 4
        assert film.info["loop"] == 0
        assert {one.info["duration"] for one in ImageSequence.Iterator(film)} == {250}


def test_fewer_frames_are_spread_evenly(tmp_path):
    result = stored(tmp_path, t=9)
    path = save_animation(result, ramps(9), tmp_path / "x.apng", frames=3, picture_px=600)
    tops = [np.nonzero((one == OUTLINE).all(axis=-1))[0].min() for one in pictures(path)]
    assert tops == [50, 90, 130]


def test_a_large_frame_is_drawn_smaller_with_thin_outlines(tmp_path):
    labels = np.zeros((1, 1, 1, 400, 1000), np.uint32)
    labels[..., 100:300, 200:600] = 1
    result = write_result(tmp_path / "m.zarr", labels)
    path = save_animation(result, None, tmp_path / "x.apng", picture_px=500)
    (picture,) = pictures(path)
    assert picture.shape == (200, 500, 3)
    assert (picture[100] == OUTLINE).all(axis=-1).sum() == 2


def test_without_a_movie_cells_have_colours(tmp_path):
    path = save_animation(stored(tmp_path), None, tmp_path / "x.apng", picture_px=600)
    inside = pictures(path)[0, 100, 200]
    assert len(set(inside.tolist())) > 1
    assert inside.max() > 75


def test_a_frame_that_failed_says_so(tmp_path):
    status = np.array([[Status.DONE], [Status.FAILED]], np.uint8)
    result = stored(tmp_path, t=2, status=status)
    path = save_animation(result, None, tmp_path / "x.apng", picture_px=600)
    assert not (pictures(path)[1] == OUTLINE).all(axis=-1).any()
    with Image.open(path) as film:
        first, second = (np.asarray(one.convert("L"))[:22] for one in ImageSequence.Iterator(film))
    assert not np.array_equal(first[:, 90:], second[:, 90:])


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("x.mp4", {}, r"x\.mp4 names no film.*\.gif or \.apng"),
        ("x.gif", {"frames": 0}, "frames is 0"),
        ("x.gif", {"picture_px": 9}, "picture_px is 9"),
        ("x.gif", {"frames_per_s": 0.0}, "frames_per_s is 0"),
        ("x.gif", {"position": 1}, "choose one of 0 to 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, name, how, message):
    with pytest.raises(SettingsError, match=message):
        save_animation(stored(tmp_path), None, tmp_path / name, **how)
    assert not (tmp_path / name).exists()


def test_a_film_that_memory_does_not_hold_is_refused(tmp_path):
    result = write_result(tmp_path / "m.zarr", np.zeros((100, 1, 1, 4, 4), np.uint32))
    with pytest.raises(SettingsError, match="too large for memory"):
        save_animation(result, None, tmp_path / "x.gif", picture_px=4000)


@KINDS
def test_films_are_whole_and_known_as_ours(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    broken = movie_of(np.zeros((2, 40, 60)))  # two frames of four
    with pytest.raises(ResultError):
        save_animation(stored(tmp_path), broken, path)
    assert [one.name for one in tmp_path.iterdir()] == ["m.zarr"]
    save_animation(tmp_path / "m.zarr", ramps(), path, picture_px=64)
    renamed = path.rename(tmp_path / "x.png")
    assert is_own_output(renamed)


@KINDS
def test_a_browser_plays_it(tmp_path, ending):
    executable = chromium()
    if executable is None:
        pytest.skip("there is no Chromium on this machine")
    path = save_animation(stored(tmp_path), ramps(), tmp_path / f"x{ending}", picture_px=600)
    page = tmp_path / "page.html"
    page.write_text(f'<img id="film" src="{path.name}">')
    with started(executable, tmp_path / "profile") as browser:
        browser.open(page)
        film = "document.getElementById('film')"
        assert browser.value(f"[{film}.naturalWidth, {film}.naturalHeight]") == [604, 422]
        assert browser.said == []
