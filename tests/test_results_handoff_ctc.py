"""Folders of the Cell Tracking Challenge: names, masks of tracks, the table, what is refused."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
import tifffile

from cypose_dask.errors import IncompleteResultError, ResultError, SettingsError
from cypose_dask.results import Status, Track, Tracks, export_ctc, is_own_output
from cypose_dask.results.handoff import ctc
from cypose_dask.results.writing import write_status
from helpers.handed_on import hand_on

DONE, FAILED = int(Status.DONE), int(Status.FAILED)


def table_in(folder):
    lines = (folder / "res_track.txt").read_text().splitlines()
    return [tuple(map(int, line.split(" "))) for line in lines]


def masks_in(folder):
    return np.stack([tifffile.imread(path) for path in sorted(folder.glob("mask*.tif"))])


def divided():
    """Track 7 divides into 2 and 3 after frame 1; track 9 begins and ends with frame 2."""
    of = {0: [7], 1: [7], 2: [3, 9, 2], 3: [2, 3]}
    rows = [Track(7, 0, 1), Track(2, 2, 3, 7), Track(3, 2, 3, 7), Track(9, 2, 2)]
    return Tracks(rows, lambda t: np.array(of[t]))


@pytest.fixture
def made(tmp_path):
    return hand_on(tmp_path, counts=[1, 1, 3, 2])


def test_masks_hold_tracks_and_the_table_lists_them(made, tmp_path):
    (results,) = export_ctc(made.result, tmp_path / "ctc", tracks=[divided()])
    assert results == tmp_path / "ctc" / "01_RES"
    names = sorted(path.name for path in results.iterdir())
    assert names == [*(f"mask00{t}.tif" for t in range(4)), "res_track.txt"]
    masks = masks_in(results)
    assert masks.dtype == np.uint16
    lut = {0: [0, 7], 1: [0, 7], 2: [0, 3, 9, 2], 3: [0, 2, 3]}
    for t, mask in enumerate(masks):
        assert np.array_equal(mask, np.array(lut[t])[made.labels[t, 0, 0]])
    assert table_in(results) == [(2, 2, 3, 7), (3, 2, 3, 7), (7, 0, 1, 0), (9, 2, 2, 0)]


def test_images_lie_beside_their_masks(tmp_path):
    made = hand_on(tmp_path, channels=(1,))
    export_ctc(made.result, tmp_path / "ctc", unlinked=True)
    for t in range(4):
        image = tifffile.imread(tmp_path / "ctc" / "01" / f"t00{t}.tif")
        assert np.array_equal(image, made.pixels[t, 0, 0, 1])


def test_a_position_is_a_sequence_and_frames_count_from_0(tmp_path):
    made = hand_on(tmp_path, t=5, p=2, start_frame=2, counts=[1, 2, 0, 1, 3, 1])
    folders = export_ctc(made.result, tmp_path / "ctc", unlinked=True)
    assert [folder.name for folder in folders] == ["01_RES", "02_RES"]
    for p, folder in enumerate(folders):
        assert [row[1:] for row in table_in(folder)] == [
            (t, t, 0) for t in range(3) for _ in range(made.labels[t, p].max())
        ]
        image = tifffile.imread(folder.with_name(f"0{p + 1}") / "t001.tif")
        assert np.array_equal(image, made.pixels[3, p, 0, 0])


def test_times_of_tracks_are_those_of_the_movie(tmp_path):
    made = hand_on(tmp_path, t=4, start_frame=2, counts=[1, 1])
    tracks = Tracks([Track(1, 2, 3)], lambda t: {2: np.array([1]), 3: np.array([1])}[t])
    (results,) = export_ctc(made.result, tmp_path / "ctc", tracks=[tracks])
    assert table_in(results) == [(1, 0, 1, 0)]


def test_cells_of_single_frames_are_written_only_on_request(made, tmp_path):
    with pytest.raises(ResultError, match=r"were not linked.*cypose-dask link.*--unlinked"):
        export_ctc(made.result, tmp_path / "ctc")
    assert not (tmp_path / "ctc").exists()
    (results,) = export_ctc(made.result, tmp_path / "ctc", unlinked=True)
    assert table_in(results) == [(1, 0, 0, 0), (2, 1, 1, 0), *((n, 2, 2, 0) for n in (3, 4, 5)),
                                 *((n, 3, 3, 0) for n in (6, 7))]  # fmt: skip
    masks = masks_in(results)
    assert np.unique(masks[masks > 0]).tolist() == list(range(1, 8))
    assert np.array_equal(masks > 0, made.labels[:, 0, 0] > 0)


def test_both_at_once_are_refused(made, tmp_path):
    with pytest.raises(SettingsError, match="choose one"):
        export_ctc(made.result, tmp_path / "ctc", tracks=[divided()], unlinked=True)


@pytest.mark.slow
def test_names_have_as_many_digits_as_frames_need(tmp_path):
    made = hand_on(tmp_path, t=1001, c=1, counts=[0] * 1000 + [1])
    (results,) = export_ctc(made.result, tmp_path / "ctc", unlinked=True)
    assert (results / "mask0000.tif").exists()
    assert tifffile.imread(results / "mask1000.tif").max() == 1
    assert (tmp_path / "ctc" / "01" / "t1000.tif").exists()


def test_rows_of_any_table_will_do(made, tmp_path):
    Row = namedtuple("Row", "begin end id parent colour")
    rows = (Row(r.begin, r.end, np.int64(r.id), r.parent, "red") for r in divided().table)
    (results,) = export_ctc(made.result, tmp_path / "ctc", tracks=[Tracks(rows, divided().ids)])
    assert len(table_in(results)) == 4


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rows": [Track(7, 0, 1), Track(7, 2, 2)]}, "occur twice"),
        ({"rows": [Track(0, 0, 1)]}, "below 1"),
        ({"rows": [Track(65536, 0, 1)]}, "uint16, which number 65535"),
        ({"rows": [Track(7, 0, 1), Track(2, 2, 3, 8)]}, "parent 8 is no track"),
        ({"rows": [Track(7, 0, 2), Track(2, 2, 3, 7)]}, "parent 7 is no track that ended before"),
        ({"rows": [Track(7, 0, 1)]}, "is in no row of the table"),
        ({"rows": [*divided().table, Track(4, 0, 1)]}, "Track 4 lasts.*seen nowhere"),
        ({"rows": [*list(divided().table)[:3], Track(9, 2, 3)]}, "Track 9 .*seen from 2 to 2"),
        ({"ids": lambda t: np.array([7])}, "Frame 2 has 3 cells and 1 track"),
        ({"ids": lambda t: np.full(3, 7)[: [1, 1, 3, 2][t]]}, "3 cells and 1 tracks"),
    ],
)
def test_tracks_that_contradict_the_labels_are_refused(made, tmp_path, change, match):
    tracks = Tracks(change.get("rows", divided().table), change.get("ids", divided().ids))
    with pytest.raises(SettingsError, match=match):
        export_ctc(made.result, tmp_path / "ctc", tracks=[tracks])
    assert not (tmp_path / "ctc").exists()


def test_tracks_of_another_number_of_positions_are_refused(made, tmp_path):
    with pytest.raises(SettingsError, match="has 1 positions, and tracks of 2"):
        export_ctc(made.result, tmp_path / "ctc", tracks=[divided()] * 2)


def test_planes_are_refused(tmp_path):
    made = hand_on(tmp_path, z=2)
    with pytest.raises(SettingsError, match="2 planes"):
        export_ctc(made.result, tmp_path / "ctc", unlinked=True)


def test_more_cells_than_uint16_numbers_are_refused(made, tmp_path):
    cells = np.full((4, 1), 20000, np.uint32)
    write_status(made.result.path, 0, made.result.status(), cells)
    with pytest.raises(SettingsError, match="uint16, which number 65535"):
        export_ctc(made.result, tmp_path / "ctc", unlinked=True)


def test_frames_without_labels_are_refused_or_blank(tmp_path):
    made = hand_on(tmp_path, counts=[1, 1, 3, 2], status=[DONE, DONE, DONE, FAILED])
    with pytest.raises(IncompleteResultError):
        export_ctc(made.result, tmp_path / "ctc", unlinked=True)
    (results,) = export_ctc(made.result, tmp_path / "ctc", unlinked=True, allow_incomplete=True)
    assert not masks_in(results)[3].any()
    assert len(table_in(results)) == 5


def test_a_folder_that_exists_is_refused(made, tmp_path):
    (tmp_path / "ctc").mkdir()
    with pytest.raises(ResultError, match="exists already"):
        export_ctc(made.result, tmp_path / "ctc", unlinked=True)


def test_a_full_disk_leaves_nothing(made, tmp_path, monkeypatch):
    before = sorted(tmp_path.iterdir())

    def full(path, image):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ctc, "_write_tif", full)
    with pytest.raises(ResultError, match="No space left"):
        export_ctc(made.result, tmp_path / "ctc", unlinked=True)
    assert sorted(tmp_path.iterdir()) == before


def test_its_files_are_never_taken_for_movies_to_segment(made, tmp_path):
    export_ctc(made.result, tmp_path / "ctc", unlinked=True)
    assert all(is_own_output(path) for path in (tmp_path / "ctc").rglob("*.tif"))
