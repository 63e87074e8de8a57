"""The table of cells: what does not change it, against scikit-image, and who opens it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from skimage.measure import regionprops

from cypose_dask.errors import MovieNotFoundError, ResultError, SettingsError
from cypose_dask.results import Status, open_result
from cypose_dask.results.writing import write_status
from cypose_dask.run import link, measure
from cypose_dask.run.execute import segment
from cypose_dask.settings import RunOptions
from helpers.handed_on import hand_on
from helpers.results import write_result

DONE, FAILED = int(Status.DONE), int(Status.FAILED)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return hand_on(tmp_path_factory.mktemp("made"), p=2, z=2)


@pytest.fixture(scope="module")
def table(made, client):
    return pd.read_parquet(measure(made.result, client=client).path)


def test_every_cell_of_every_frame_has_its_row(made, table):
    places = list(zip(table["position"], table["t"], table["z"], table["label"], strict=True))
    assert places == sorted(
        (p, t, z, cell)
        for p in range(2)
        for t in range(4)
        for z in range(2)
        for cell in np.unique(made.labels[t, p, z])[1:].tolist()
    )
    assert table["time_s"].tolist() == (300.0 * table["t"]).tolist()
    assert set(table["position_name"]) == set(made.result.layout.position_names)


def test_rows_are_what_scikit_image_measures(made, table):
    """Against a loop over labels and pixels, in float64, above the median far from cells."""
    from scipy.ndimage import binary_dilation

    for (p, t, z), rows in table.groupby(["position", "t", "z"]):
        labels, pixels = made.labels[t, p, z], made.pixels[t, p, z].astype(float)
        far = ~binary_dilation(labels > 0, iterations=3)
        backgrounds = [np.median(channel[far]) for channel in pixels]
        above = np.stack([c - b for c, b in zip(pixels, backgrounds, strict=True)], -1)
        cells = regionprops(labels.astype(np.int64), above)
        for row, cell in zip(rows.to_dict("records"), cells, strict=True):
            for name in ("area", "perimeter", "solidity", "orientation", "eccentricity"):
                assert row[name] == cell[name]
            assert (row["centroid-0"], row["centroid-1"]) == cell.centroid
            for i, channel in enumerate(("channel 0", "channel 1")):
                assert row[f"background-{channel}"] == backgrounds[i]
                for name in ("mean", "min", "max"):
                    expected = cell[f"intensity_{name}"][i]
                    assert row[f"intensity_{name}-{channel}"] == pytest.approx(expected)
                total = above[..., i][labels == cell.label].sum()
                assert row[f"intensity_sum-{channel}"] == pytest.approx(total)


def test_pixels_and_micrometres_agree(table):
    assert table["area_um2"].tolist() == pytest.approx((table["area"] * 0.065**2).tolist())
    assert table["length_um"].tolist() == pytest.approx((table["length"] * 0.065).tolist())


@pytest.mark.parametrize("block", [1, 4])
def test_the_table_depends_on_labels_and_movie_alone(tmp_path, movie, client, block):
    tables = []
    for name, frames, where in (("one", block, client), ("other", 2, None)):
        options = RunOptions(frames_per_block=frames)
        result = segment(movie, tmp_path / f"{name}.zarr", options=options, client=client)
        tables.append(pd.read_parquet(measure(result, client=where).path))
    pd.testing.assert_frame_equal(*tables)
    assert len(tables[0])


def test_progress_counts_the_frames_of_all_positions(tmp_path, client):
    result = write_result(tmp_path / "movie.zarr", np.ones((5, 2, 1, 6, 7), np.uint32))
    told = []
    measure(result, intensities=False, client=client, progress=lambda *pair: told.append(pair))
    assert told == [(2, 10), (4, 10), (5, 10), (7, 10), (9, 10), (10, 10)]


def test_both_files_say_the_same_to_pandas_and_polars(tmp_path, made, table, client):
    path = measure(made.result, tmp_path / "cells.csv", client=client).path
    pd.testing.assert_frame_equal(
        pd.read_csv(path), table, check_dtype=False, check_names=False, rtol=1e-12
    )
    parquet = pl.read_parquet(made.result.path.with_name("movie_cells.parquet"))
    assert pl.read_csv(path).shape == parquet.shape
    assert parquet["area"].to_list() == table["area"].tolist()


def test_what_is_unknown_is_null(tmp_path, client):
    labels = np.ones((2, 1, 1, 6, 7), np.uint32)
    result = write_result(tmp_path / "movie.zarr", labels, pixel_size_um=None, interval_s=None)
    measured = measure(result, intensities=False, client=client)
    parquet = pl.read_parquet(measured.path)
    assert parquet["time_s"].null_count() == parquet["area_um2"].null_count() == measured.rows == 2
    assert "intensity_mean-0" not in parquet.columns


def test_frames_without_labels_have_no_rows(tmp_path, client):
    made = hand_on(tmp_path, counts=[2, 3, 1, 4], status=[DONE, FAILED, DONE, DONE])
    measured = measure(made.result, client=client)
    assert pd.read_parquet(measured.path)["t"].tolist() == [0, 0, 2, 3, 3, 3, 3]
    assert measured.rows == 7


def test_a_movie_without_cells_has_an_empty_table(tmp_path, client):
    made = hand_on(tmp_path, counts=[0, 0, 0, 0])
    assert len(pd.read_parquet(measure(made.result, client=client).path)) == 0


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_cells_may_come_late(tmp_path, client, ending):
    labels = np.zeros((4, 1, 1, 9, 9), np.uint32)
    labels[3, 0, 0, 2:5, 3:7] = 1
    result = write_result(tmp_path / "movie.zarr", labels, frames_per_block=1)
    path = tmp_path / f"cells.{ending}"
    assert measure(result, path, intensities=False, client=client).rows == 1
    (row,) = getattr(pl, f"read_{ending}")(path).to_dicts()
    assert (row["position_name"], row["t"], row["area"]) == ("position 0", 3, 12)


def test_a_later_start_counts_frames_as_the_movie_does(tmp_path, client):
    made = hand_on(tmp_path, t=5, start_frame=3, counts=[1, 1])
    rows = pd.read_parquet(measure(made.result, client=client).path)
    assert rows["t"].tolist() == [3, 4]
    expected = made.pixels[3, 0, 0, 0][made.labels[0, 0, 0] == 1].astype(float)
    assert rows["intensity_mean-channel 0"][0] + rows["background-channel 0"][0] == (
        pytest.approx(expected.mean())
    )


def test_linked_cells_have_their_tracks(tmp_path, client):
    made = hand_on(tmp_path, p=2, counts=[1, 2, 1, 2, 1, 2, 1, 2])
    assert "track" not in pd.read_parquet(measure(made.result, client=client).path)
    link(made.result, client=client)
    measured = measure(made.result, client=client)
    assert measured.tracked
    rows = pd.read_parquet(measured.path)
    kept = pd.read_parquet(tmp_path / "movie_tracks.parquet")
    for name in ("position", "t", "label", "area", "track", "parent", "lineage"):
        assert rows[name].tolist() == kept[name].tolist()


def test_tracks_of_other_labels_are_refused(tmp_path, client):
    made = hand_on(tmp_path, counts=[1, 1, 1, 1])
    link(made.result, client=client)
    write_status(made.result.path, 0, np.array([[DONE]] * 3 + [[FAILED]]), made.result.cells())
    with pytest.raises(ResultError, match=r"of other labels.*Link again"):
        measure(open_result(made.result.path), client=client)


def test_a_movie_that_is_gone_is_asked_for(tmp_path, client):
    made = hand_on(tmp_path)
    moved = made.movie.rename(tmp_path / "elsewhere.nd2")
    with pytest.raises(MovieNotFoundError, match=r"movie=|--movie"):
        measure(made.result, client=client)
    assert not (tmp_path / "movie_cells.parquet").exists()
    assert measure(made.result, movie=moved, client=client).rows
    assert measure(made.result, intensities=False, client=client).rows


@pytest.mark.parametrize("name", ["cells", "cells.xlsx", "cells.parquet.gz"])
def test_other_tables_are_refused(tmp_path, made, name):
    with pytest.raises(SettingsError, match=r"ends in \.csv or \.parquet"):
        measure(made.result, tmp_path / name)


def test_an_earlier_table_stays_when_one_fails(tmp_path, client):
    made = hand_on(tmp_path)
    path = measure(made.result, tmp_path / "cells.csv", client=client).path
    before = path.read_bytes()
    (made.result.path / "0/labels/cells/0/c/0/0/0/0").write_bytes(b"rubbish")
    with pytest.raises(ResultError):
        measure(made.result, path, client=client)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))
