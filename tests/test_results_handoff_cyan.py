"""Masks for CyAn: the name it looks for, a page a frame of the movie, no two cells touch."""

from __future__ import annotations

import logging
from pathlib import PurePosixPath

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label

from cypose_dask.errors import IncompleteResultError, ResultError, SettingsError
from cypose_dask.results import Status, export_cyan, is_own_output
from cypose_dask.results.handoff import cyan
from cypose_dask.results.handoff.cyan import with_gaps
from helpers.handed_on import hand_on

DONE, FAILED = int(Status.DONE), int(Status.FAILED)


def cells_of_cyan(page: np.ndarray) -> np.ndarray:
    """Make a mask into cells as CyTracker does: above 0, corners connect."""
    return label(page > 0, np.ones((3, 3)))[0]


def test_cyan_finds_every_cell_of_every_frame(tmp_path):
    made = hand_on(tmp_path, counts=[2, 0, 4, 9])
    (path,) = export_cyan(made.result, tmp_path / "masks")
    assert path == tmp_path / "masks" / "movie_series1_cellMask.tif"
    for t, page in enumerate(tifffile.imread(path)):
        found, labels = cells_of_cyan(page), made.labels[t, 0, 0]
        pairs = set(zip(found[found > 0].tolist(), labels[found > 0].tolist(), strict=True))
        assert len(pairs) == found.max() == labels.max()
        assert not (page[labels == 0]).any()


def test_the_labels_themselves_would_make_touching_cells_one(tmp_path):
    labels = hand_on(tmp_path, counts=[2, 0, 4, 9]).labels[3, 0, 0]
    assert cells_of_cyan(labels).max() == 1 < labels.max()


@given(arrays(np.uint16, st.tuples(*[st.integers(1, 8)] * 2), elements=st.integers(0, 3)))
def test_no_two_cells_touch_and_the_first_keeps_its_pixels(labels):
    kept = np.where(with_gaps(labels), labels, 0)
    assert np.array_equal(kept == 1, labels == 1)
    for y, x in np.argwhere(kept):
        around = kept[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        assert set(np.unique(around)) <= {0, kept[y, x]}


@given(arrays(np.uint16, st.tuples(*[st.integers(1, 8)] * 2), elements=st.integers(0, 3)))
def test_pixels_away_from_other_cells_are_kept(labels):
    kept = with_gaps(labels)
    for y, x in np.argwhere((labels > 0) & ~kept):
        around = labels[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        assert ((around > 0) & (around < labels[y, x])).any()


def test_pages_have_the_numbers_of_the_movies_frames(tmp_path):
    made = hand_on(tmp_path, t=6, start_frame=2, end_frame=4, counts=[3, 1])
    (path,) = export_cyan(made.result, tmp_path)
    pages = tifffile.imread(path)
    assert pages.shape == (6, 36, 40)
    assert [cells_of_cyan(page).max() for page in pages] == [0, 0, 3, 1, 0, 0]
    assert (pages.dtype, pages.max()) == (np.uint8, 255)


def test_a_position_is_a_series(tmp_path):
    made = hand_on(tmp_path, p=2)
    paths = export_cyan(made.result, tmp_path)
    assert [path.name for path in paths] == [f"movie_series{n}_cellMask.tif" for n in (1, 2)]
    for p, path in enumerate(paths):
        counts = [cells_of_cyan(page).max() for page in tifffile.imread(path)]
        assert counts == made.labels[:, p].max(axis=(1, 2, 3)).tolist()


@pytest.mark.parametrize(
    ("path", "position", "name"),
    [
        ("/data/a.b.nd2", None, "a.b_series1_cellMask.tif"),
        ("C:\\data\\a b.ome.tif", 3, "a b.ome_series4_cellMask.tif"),
    ],
)
def test_the_name_is_that_of_the_movie_for_matlab(tmp_path, path, position, name):
    made = hand_on(tmp_path)
    about = made.result.attributes["plan"]["movie"]
    about["path"], about["reading"]["position"] = path, position
    assert export_cyan(made.result, tmp_path)[0].name == name
    assert PurePosixPath(name).suffix == ".tif"


def test_frames_that_cyan_counts_otherwise_are_named(tmp_path, caplog, monkeypatch):
    made = hand_on(tmp_path, counts=[2, 3, 2, 1])
    monkeypatch.setattr(cyan, "with_gaps", lambda labels: labels > 0)
    with caplog.at_level(logging.WARNING):
        export_cyan(made.result, tmp_path)
    assert "in frames 0-2, where" in caplog.text


def test_nothing_is_said_when_every_cell_is_found(tmp_path, caplog):
    export_cyan(hand_on(tmp_path).result, tmp_path)
    assert caplog.text == ""


def test_planes_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="2 planes"):
        export_cyan(hand_on(tmp_path, z=2).result, tmp_path)


def test_frames_without_labels_are_refused_or_blank(tmp_path):
    made = hand_on(tmp_path, counts=[1, 1, 3, 2], status=[DONE, DONE, FAILED, DONE])
    with pytest.raises(IncompleteResultError):
        export_cyan(made.result, tmp_path / "masks")
    assert not (tmp_path / "masks").exists()
    (path,) = export_cyan(made.result, tmp_path / "masks", allow_incomplete=True)
    assert [page.any() for page in tifffile.imread(path)] == [True, True, False, True]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    made = hand_on(tmp_path)

    def full(path, masks):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cyan, "_write", full)
    with pytest.raises(ResultError, match="No space left"):
        export_cyan(made.result, tmp_path / "masks")
    assert not list((tmp_path / "masks").glob("*"))


def test_masks_are_never_taken_for_movies_to_segment(tmp_path):
    (path,) = export_cyan(hand_on(tmp_path).result, tmp_path)
    assert is_own_output(path)
