"""Movies of any axes, sizes, types and blocks: labels on a cluster are those of a plain loop."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cypose_dask.engine import segment_frames
from cypose_dask.movies import open_movie
from cypose_dask.results import export_tif
from cypose_dask.run import connect, segment
from cypose_dask.settings import RunOptions, Settings
from helpers.nd2_writer import write_nd2
from helpers.stamps import FULL, stored_as
from helpers.tiff_writer import write_tiff

DTYPES = {"nd2": ("uint8", "uint16", "float32"), "ome": ("uint8", "uint16", "int16", "float32"),
          "imagej": ("uint8", "uint16", "float32"), "shaped": ("uint8", "uint16")}  # fmt: skip
ORDERS = {"nd2": "TPZ", "ome": "TZ", "imagej": "TZ", "shaped": "TZ"}


@cache
def colony() -> np.ndarray:
    """A frame (Y, X), float, 0 to 1, with cells everywhere."""
    from cypose_dask.learn import synthetic_movie

    frame = synthetic_movie(n_frames=9, shape=(96, 96), seed=3, start_cells=8).frames[-1, 0]
    return frame / frame.max()


@st.composite
def movies(draw) -> tuple[str, str, np.ndarray]:
    """Draw a kind of file, its axes, and a movie (T, P, Z, C, Y, X) that it can hold."""
    kind = draw(st.sampled_from(sorted(DTYPES)))
    loops = draw(st.lists(st.sampled_from(ORDERS[kind]), unique=True).map("".join))
    if kind == "imagej":  # knows one order
        loops = "".join(sorted(loops))
    axes = loops + draw(st.sampled_from(["", "C"])) + "YX"
    most = {"T": 5, "P": 2, "Z": 2, "C": 2}
    sizes = [draw(st.integers(2, most[a])) if a in axes else 1 for a in "TPZC"]
    sizes += [draw(st.integers(8, 60)), draw(st.integers(8, 60))]
    dtype = np.dtype(draw(st.sampled_from(DTYPES[kind])))
    return kind, axes, pixels(tuple(sizes), dtype, draw(st.integers(0, 2**16)))


def pixels(shape: tuple[int, ...], dtype: np.dtype, seed: int) -> np.ndarray:
    """Cut each plane out of the colony at a place of its own."""
    chance, side = np.random.default_rng(seed), len(colony())
    made = np.empty(shape, dtype)
    brightest = 1 if dtype.kind == "f" else np.iinfo(dtype).max
    for at in np.ndindex(shape[:4]):
        y, x = (chance.integers(0, side - n + 1) for n in shape[4:])
        made[at] = brightest * colony()[y : y + shape[4], x : x + shape[5]]
    return made


def write(folder: Path, kind: str, axes: str, movie: np.ndarray) -> Path:
    if kind == "nd2":
        return Path(write_nd2(folder / "m.nd2", stored_as(movie, axes), axes=axes))
    return Path(write_tiff(folder / "m.tif", movie, kind, axes))


@pytest.fixture(scope="module")
def threads():
    with connect(processes=False, workers=1) as client:
        yield client


@given(
    made=movies(),
    frames_per_block=st.integers(1, 6),
    blocks_in_flight=st.integers(1, 5),
    channel=st.integers(0, 1),
    start=st.integers(0, 1),
)
@settings(max_examples=25, deadline=None)
def test_labels_are_those_of_a_loop(
    threads, made, frames_per_block, blocks_in_flight, channel, start
):
    kind, axes, movie = made
    channel, start = min(channel, movie.shape[3] - 1), min(start, movie.shape[0] - 1)
    given = Settings(channels=(channel,), start_frame=start, min_size_px=4)
    options = RunOptions(frames_per_block=frames_per_block, blocks_in_flight=blocks_in_flight)
    expected = in_a_loop(movie[start:, :, :, channel], given)
    with tempfile.TemporaryDirectory() as folder:
        opened = open_movie(write(Path(folder), kind, axes, movie))
        assert tuple(opened.info.sizes[axis] for axis in FULL) == movie.shape
        result = segment(opened, Path(folder, "m.zarr"), given, client=threads, options=options)
        for position, labels in enumerate(expected):
            np.testing.assert_array_equal(np.asarray(result.labels(position)[:]), labels)
        for tif, labels in zip(export_tif(result, Path(folder, "out.tif")), expected, strict=True):
            np.testing.assert_array_equal(tifffile.imread(tif), labels.squeeze())


def in_a_loop(planes: np.ndarray, given: Settings) -> np.ndarray:
    """Segment frame by frame, without files, blocks or workers: (P, T, Z, Y, X)."""
    one_channel = given.replace(channels=(0,), start_frame=0)
    labels = np.empty(planes.shape, np.uint32)
    for at in np.ndindex(planes.shape[:3]):
        labels[at] = segment_frames(planes[at][None, None], settings=one_channel).labels[0]
    return labels.swapaxes(0, 1)
