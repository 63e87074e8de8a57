"""Frames with odd pixels: each has labels, or a status and a reason; never wrong labels."""

import numpy as np
import pytest
import tifffile

from cypose_dask.movies import open_movie
from cypose_dask.results import Status
from cypose_dask.run import segment
from cypose_dask.run.journal import Journal
from cypose_dask.run.plan import Block
from cypose_dask.settings import RunOptions


def write(path, frames, **options):
    tifffile.imwrite(path, frames, photometric="minisblack", metadata={"axes": "TYX"}, **options)
    return open_movie(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_pixel_that_is_no_number_damages_its_frame_alone(
    bad, synthetic, client, expected_labels, tmp_path
):
    frames = synthetic.frames[:3, 0].astype(np.float32)
    frames[1, 5, 5] = bad
    movie = write(tmp_path / "a.tif", frames)
    together = RunOptions(frames_per_block=3)
    result = segment(movie, tmp_path / "m.zarr", client=client, options=together)
    assert result.status()[:, 0].tolist() == [Status.DONE, Status.DAMAGED, Status.DONE]
    labels = np.asarray(result.labels()[:, 0])
    np.testing.assert_array_equal(labels[[0, 2]], expected_labels[[0, 2]])
    assert not labels[1].any()
    (record,) = Journal(tmp_path / "m.journal.jsonl").read()
    assert record.block == Block(0, 0, 3)
    assert record.frames[1].non_finite
    assert "1 of 4096 pixels are NaN or infinite" in record.frames[1].error


@pytest.mark.parametrize("value", [0, 700, 65_535])
def test_a_constant_frame_is_done_without_cells_and_flagged(
    value, synthetic, client, expected_labels, tmp_path
):
    frames = synthetic.frames[:3, 0].copy()
    frames[1] = value
    movie = write(tmp_path / "a.tif", frames)
    result = segment(movie, tmp_path / "m.zarr", client=client)
    assert (result.status() == Status.DONE).all()
    assert result.cells()[1, 0] == 0
    labels = np.asarray(result.labels()[:, 0])
    np.testing.assert_array_equal(labels[[0, 2]], expected_labels[[0, 2]])
    seen = [f for r in Journal(tmp_path / "m.journal.jsonl").read() for f in r.frames]
    assert [f.blank for f in sorted(seen, key=lambda f: f.t)] == [False, True, False]


@pytest.mark.parametrize("dtype", [">u2", "<u4", ">i4", "<f4", ">f8"])
def test_labels_do_not_depend_on_how_pixels_are_stored(
    dtype, synthetic, client, expected_labels, tmp_path
):
    frames = synthetic.frames[:2, 0].astype(dtype)
    movie = write(tmp_path / "a.tif", frames, byteorder=dtype[0])
    result = segment(movie, tmp_path / "m.zarr", client=client)
    np.testing.assert_array_equal(np.asarray(result.labels()[:, 0]), expected_labels[:2])


@pytest.mark.parametrize("dtype", ["i4", "f4"])
def test_labels_do_not_depend_on_a_negative_offset(
    dtype, synthetic, client, expected_labels, tmp_path
):
    frames = synthetic.frames[:2, 0].astype(dtype) - 60_000
    assert frames.max() < 0
    result = segment(write(tmp_path / "a.tif", frames), tmp_path / "m.zarr", client=client)
    labels = np.asarray(result.labels()[:, 0])
    assert (labels == expected_labels[:2]).mean() > 0.9999
    assert result.cells()[:, 0].tolist() == expected_labels[:2].max(axis=(1, 2)).tolist()


def test_boolean_frames_are_segmented_or_empty_but_done(synthetic, client, tmp_path):
    frames = synthetic.frames[:2, 0]
    movie = write(tmp_path / "a.tif", frames > np.median(frames))
    assert movie.info.dtype == bool
    result = segment(movie, tmp_path / "m.zarr", client=client)
    assert (result.status() == Status.DONE).all()
    assert result.cells().sum() > 0
