"""Numbers of cells: from 1 in every frame, or once in the whole movie."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cypose_dask.errors import ResultError, SettingsError
from cypose_dask.results import Status, export_tif
from cypose_dask.results.writing import write_status
from helpers.handed_on import touching_cells
from helpers.results import make_labels, write_result

DONE, FAILED = int(Status.DONE), int(Status.FAILED)


def exported(result, folder, **how) -> np.ndarray:
    """Read what `export_tif` wrote of all positions, in their order, as (P, T, Z, Y, X)."""
    t, y, x = result.layout.frames, result.layout.height, result.layout.width
    tifs = export_tif(result, folder / "x.tif", **how)
    return np.stack([tifffile.imread(tif).reshape(t, -1, y, x) for tif in tifs])


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(1, 2), st.integers(1, 2))
def test_every_cell_of_a_movie_has_a_number_of_its_own(tmp_path_factory, counts, p, z):
    counts = [counts[i % len(counts)] for i in range(len(counts) * p * z)]
    labels = touching_cells((len(counts) // (p * z), p, z, 12, 10), counts)
    folder = tmp_path_factory.mktemp("ids")
    result = write_result(folder / "m.zarr", labels)
    numbered, plain = exported(result, folder, ids="movie"), labels.swapaxes(0, 1)
    assert np.array_equal(numbered > 0, plain > 0)
    assert np.unique(numbered[numbered > 0]).tolist() == list(range(1, sum(counts) + 1))
    # In the order of positions, times and planes; a frame keeps its own order.
    before = 0
    for ours, theirs in zip(numbered.reshape(-1, 12, 10), plain.reshape(-1, 12, 10), strict=True):
        assert np.array_equal(ours, np.where(theirs, theirs + before, 0))
        before += int(theirs.max())


def test_an_empty_frame_does_not_reset_the_count(tmp_path):
    result = write_result(tmp_path / "m.zarr", touching_cells((4, 1, 1, 12, 10), [2, 0, 3, 1]))
    highest = exported(result, tmp_path, ids="movie").max(axis=(0, 2, 3, 4))
    assert highest.tolist() == [2, 0, 5, 6]


def test_frames_without_labels_count_nothing(tmp_path):
    labels = touching_cells((3, 1, 1, 12, 10), [2, 3, 1])
    status = np.array([[DONE], [FAILED], [DONE]], np.uint8)
    result = write_result(tmp_path / "m.zarr", labels, status=status)
    numbered = exported(result, tmp_path, ids="movie", allow_incomplete=True)
    assert numbered.max(axis=(0, 2, 3, 4)).tolist() == [2, 0, 3]


def test_numbers_of_frames_are_the_default(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels(t=4))
    assert np.array_equal(exported(result, tmp_path), exported(result, tmp_path, ids="frame"))
    assert exported(result, tmp_path).max() == 3


@pytest.mark.parametrize(("cells", "dtype"), [(65535, np.uint16), (65536, np.uint32)])
def test_many_cells_in_a_movie_are_uint32(tmp_path, cells, dtype):
    labels = np.zeros((2, 1, 1, 256, 260), np.uint32)
    labels[0].ravel()[:60000] = np.arange(1, 60001)
    labels[1].ravel()[: cells - 60000] = np.arange(1, cells - 60000 + 1)
    result = write_result(tmp_path / "m.zarr", labels)
    numbered = exported(result, tmp_path, ids="movie")
    assert numbered.dtype == dtype
    assert numbered.max() == cells


def test_more_cells_than_32_bits_number_are_refused(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels(t=2))
    write_status(result.path, 0, result.status(), np.full((2, 1), 2**31, np.uint32))
    with pytest.raises(ResultError, match=r"4294967296 cells.*--ids frame"):
        export_tif(result, tmp_path / "x.tif", ids="movie")
    assert not (tmp_path / "x.tif").exists()


def test_a_changed_store_is_found_under_movie_ids_too(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels(t=3), cells=np.array([[0], [2], [2]]))
    with pytest.raises(ResultError, match="changed or damaged"):
        export_tif(result, tmp_path / "x.tif", ids="movie")


def test_another_word_is_refused(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels(t=2))
    with pytest.raises(SettingsError, match='expected "frame", "movie" or "track"'):
        export_tif(result, tmp_path / "x.tif", ids="cell")
