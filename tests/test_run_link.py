"""Linking a result: what does not change it, what it leaves behind, and who takes its tracks."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import polars as pl
import pytest
import tifffile

from cypose_dask.errors import IncompleteResultError, ResultError, SettingsError
from cypose_dask.results import Status, export_ctc, export_tif, export_trackmate, open_result
from cypose_dask.results.tracks import read_tracks
from cypose_dask.results.writing import write_status
from cypose_dask.run import link
from helpers.handed_on import hand_on
from helpers.results import write_result
from helpers.tracked import frame, renumbered

DONE, FAILED = int(Status.DONE), int(Status.FAILED)
# Two cells; the first divides after frame 1, and the second is missed in frame 3.
SCENES = [
    {1: (5, 10, 6, 24), 9: (20, 10, 6, 20)},
    {1: (5, 10, 6, 24), 9: (20, 10, 6, 20)},
    {2: (5, 10, 6, 11), 3: (5, 23, 6, 11), 9: (20, 10, 6, 20)},
    {2: (5, 10, 6, 11), 3: (5, 23, 6, 11)},
    {2: (5, 10, 6, 11), 3: (5, 23, 6, 11), 9: (20, 10, 6, 20)},
]
TRACKS = [[1, 2], [1, 2], [3, 4, 2], [3, 4], [3, 4, 2]]
LABELS = np.stack([renumbered(frame(scene))[0] for scene in SCENES])


def stored(folder, name="movie.zarr", labels=LABELS, **about):
    return write_result(folder / name, labels[:, None, None], **about)


def tables(linked):
    return [
        path.read_text() for path in (linked.lineages, linked.growth)
    ] + [pd.read_parquet(linked.tracks)]  # fmt: skip


def test_tracks_depend_on_the_labels_alone(tmp_path, client):
    first, *others = [
        tables(link(stored(tmp_path, f"{i}.zarr", frames_per_block=block), client=where))
        for i, (block, where) in enumerate([(1, client), (2, client), (3, None), (5, client)])
    ]
    for other in others:
        assert other[:2] == first[:2]
        pd.testing.assert_frame_equal(other[2], first[2])


def test_every_cell_has_its_track(tmp_path, client):
    result = stored(tmp_path, start_frame=7)
    linked = link(result, client=client)
    (cells,) = read_tracks(result)
    assert [cells.of_frame(7 + t).tolist() for t in range(5)] == TRACKS
    table = pd.read_parquet(linked.tracks)
    assert list(table) == ["position", "t", "label", "area", "track", "parent", "lineage"]
    assert table["t"].tolist() == [7, 7, 8, 8, 9, 9, 9, 10, 10, 11, 11, 11]
    assert table["label"].tolist() == [1, 2, 1, 2, 1, 2, 3, 1, 2, 1, 2, 3]
    assert table["track"].tolist() == [track for tracks in TRACKS for track in tracks]
    areas = [
        int((LABELS[t - 7] == k).sum()) for t, k in zip(table["t"], table["label"], strict=True)
    ]
    assert table["area"].tolist() == areas
    assert (linked.n_tracks, linked.n_divisions, linked.n_lineages) == (4, 1, 2)


def test_the_tables_open_where_people_open_tables(tmp_path, client):
    linked = link(stored(tmp_path, pixel_size_um=0.5, interval_s=60.0), client=client)
    lives = pd.read_csv(linked.lineages)
    assert lives["track"].tolist() == [1, 2, 3, 4]
    assert lives["parent"].tolist() == [0, 0, 1, 1]
    assert lives["area_end_um2"].tolist() == [36.0, 30.0, 16.5, 16.5]
    assert lives["position_name"].tolist() == ["position 0"] * 4
    curves = pl.read_csv(linked.growth)
    assert curves["cells"].to_list() == [1, 1, 2, 2, 2, 1, 1, 1, 1]
    assert curves["time_s"].to_list() == [0.0, 60, 120, 180, 240, 0, 60, 120, 240]
    with linked.growth.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 9


def test_an_unknown_scale_leaves_fields_empty(tmp_path, client):
    linked = link(stored(tmp_path, pixel_size_um=None, interval_s=None), client=client)
    lives = pd.read_csv(linked.lineages)
    assert lives[["area_end_um2", "begin_s", "growth_rate_per_h"]].isna().all(axis=None)
    assert "nan" not in linked.lineages.read_text().lower()


def test_positions_are_linked_apart(tmp_path, client):
    labels = np.stack([LABELS, LABELS[::-1]], axis=1)[:, :, None]
    result = write_result(tmp_path / "movie.zarr", labels)
    linked = link(result, client=client)
    assert pd.read_csv(linked.lineages)["position"].tolist() == [0] * 4 + [1] * 3
    one, other = read_tracks(result)
    assert one.of_frame(0).tolist() == [1, 2]
    assert other.of_frame(0).tolist() == [1, 2, 3]
    assert (other.parent == 0).all()  # time runs backwards: two become one


def test_frames_without_labels_are_passed_over(tmp_path, client):
    status = np.full((5, 1), DONE, np.uint8)
    status[1] = FAILED
    result = stored(tmp_path, status=status)
    link(result, client=client)
    (cells,) = read_tracks(result)
    assert sorted(set(cells.t.tolist())) == [0, 2, 3, 4]
    assert cells.parent.tolist() == [0, 0, 1, 1]


def test_a_movie_without_cells_has_empty_tables(tmp_path, client):
    linked = link(stored(tmp_path, labels=np.zeros((3, 8, 9), np.uint32)), client=client)
    assert linked.n_tracks == 0
    assert len(pd.read_csv(linked.growth)) == len(pd.read_parquet(linked.tracks)) == 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"gap": -1}, "gap is -1; choose 0 or more"),
        ({"linker": "nearest"}, "linker is 'nearest'; choose one of overlap, laptrack"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, how, message):
    with pytest.raises(SettingsError, match=message):
        link(stored(tmp_path), **how)


def test_planes_are_refused(tmp_path):
    result = write_result(tmp_path / "movie.zarr", np.repeat(LABELS[:, None, None], 2, 2))
    with pytest.raises(SettingsError, match=r"has 2 planes.*movie of one plane"):
        link(result)


# ---- who takes the tracks ------------------------------------------------------------------


def test_other_labels_have_no_tracks(tmp_path, client):
    result = stored(tmp_path)
    with pytest.raises(ResultError, match=r"has no tracks.*cypose-dask link"):
        read_tracks(result)
    link(result, client=client)
    write_status(result.path, 0, np.array([[DONE]] * 4 + [[FAILED]]), result.cells())
    with pytest.raises(ResultError, match=r"of other labels.*Link again"):
        read_tracks(open_result(result.path))
    another = stored(tmp_path / "again")
    (tmp_path / "movie_tracks.parquet").rename(tmp_path / "again" / "movie_tracks.parquet")
    with pytest.raises(ResultError, match="of other labels"):
        export_tif(another, tmp_path / "x.tif", ids="track")


@pytest.mark.parametrize("damage", ["rubbish", "cut", "column", "track"])
def test_a_damaged_file_is_refused(tmp_path, client, damage):
    result = stored(tmp_path)
    path = link(result, client=client).tracks
    if damage == "rubbish":
        path.write_bytes(b"tracks")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        at = table.column_names.index("track")
        other = table.remove_column(at)
        if damage == "track":
            other = other.add_column(at, "track", [[9] * len(table)])
        pq.write_table(other, path)
    with pytest.raises(ResultError, match=r"cannot be read as tracks.*link again"):
        read_tracks(result)


def test_tifs_hold_the_numbers_of_tracks(tmp_path, client):
    result = stored(tmp_path)
    link(result, client=client)
    (path,) = export_tif(result, tmp_path / "x.tif", ids="track")
    pages = tifffile.imread(path)
    for page, labels, tracks in zip(pages, LABELS, TRACKS, strict=True):
        assert np.array_equal(page, np.array([0, *tracks])[labels])
    assert pages.dtype == np.uint16


def test_hyperstacks_for_trackmate_hold_them_too(tmp_path, client):
    made = hand_on(tmp_path, counts=[1, 1, 1, 1])
    link(made.result, client=client)
    (path,) = export_trackmate(made.result, tmp_path / "x.tif", ids="track")
    assert np.array_equal(tifffile.imread(path)[:, -1], made.labels[:, 0, 0])


def test_the_challenge_gets_tracks_without_gaps(tmp_path, client):
    ctc_metrics = pytest.importorskip("ctc_metrics")
    made = hand_on(tmp_path, t=5, counts=[2, 2, 1, 2, 2])
    link(made.result, client=client)
    (folder,) = export_ctc(made.result, tmp_path / "ctc")
    rows = (folder / "res_track.txt").read_text().splitlines()
    assert rows == ["1 0 4 0", "2 0 1 0", "3 3 4 2"]
    measures = ["Valid", "TRA"]
    # One thread, for its pool forks, and a fork of a process with a cluster's threads may hang.
    found = ctc_metrics.evaluate_sequence(str(folder), str(_as_truth(folder)), measures, threads=1)
    assert (found["Valid"], found["TRA"]) == (1, 1)


def _as_truth(folder):
    """A copy of a result under the names that the challenge's references have."""
    truth = folder.with_name("01_GT") / "TRA"
    truth.mkdir(parents=True)
    for path in folder.iterdir():
        name = path.name.replace("mask", "man_track").replace("res_track", "man_track")
        (truth / name).write_bytes(path.read_bytes())
    return truth.parent


def test_the_challenge_gets_no_track_through_blank_masks(tmp_path, client):
    made = hand_on(tmp_path, counts=[1, 1, 1, 1], status=[DONE, FAILED, DONE, DONE])
    link(made.result, client=client)
    with pytest.raises(IncompleteResultError):
        export_ctc(made.result, tmp_path / "ctc")
    (folder,) = export_ctc(made.result, tmp_path / "ctc", allow_incomplete=True)
    assert (folder / "res_track.txt").read_text().splitlines() == ["1 0 0 0", "2 2 3 1"]


def test_progress_counts_the_frames_of_all_positions(tmp_path, client):
    labels = np.stack([LABELS, LABELS], axis=1)[:, :, None]
    result, told = write_result(tmp_path / "movie.zarr", labels), []
    link(result, client=client, progress=lambda *pair: told.append(pair))
    assert told == [(2, 10), (4, 10), (5, 10), (7, 10), (9, 10), (10, 10)]
