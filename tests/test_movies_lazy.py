"""Lazy arrays: nothing is read before its time, blocks travel unread, graphs stay small."""

import pickle
from dataclasses import replace

import dask
import dask.array as da
import numpy as np
import pytest
from dask.base import tokenize

from cypose_dask.errors import MovieError
from cypose_dask.movies import LazyFrames, Movie, handles, open_movie
from helpers.nd2_writer import write_nd2
from helpers.stamps import stamped
from helpers.tiff_writer import write_tiff


@pytest.fixture
def pixels():
    return stamped(T=6, P=2, Z=2, C=3)


@pytest.fixture
def movie(tmp_path, pixels):
    return open_movie(write_nd2(tmp_path / "a.nd2", pixels, "TPZCYX"))


@pytest.fixture
def lazy(movie):
    return LazyFrames(movie.source)


KEYS = [
    np.s_[:], np.s_[2], np.s_[-1], np.s_[1:5], np.s_[::2], np.s_[::-1], np.s_[4:1:-2], np.s_[5:5],
    np.s_[2:4, 1], np.s_[0, 1, 1], np.s_[..., 3], np.s_[1, ..., 2:5], np.s_[:, :, :, 1:],
    np.s_[:, 0, :, ::-1, 1:4, ::3], np.s_[2:, 1:, 1:, 2:, 4:, 6:], np.s_[3, 1, 0, 2, 4, 6],
    np.s_[[0, 3, 1]], np.s_[np.array([True, False, True, False, False, True])], np.s_[np.int64(2)],
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_window_is_indexed_as_the_array_is(lazy, pixels, key):
    window = lazy[key]
    expected = pixels[key]
    assert (window.shape, window.ndim, window.dtype) == (
        expected.shape,
        expected.ndim,
        pixels.dtype,
    )
    np.testing.assert_array_equal(np.asarray(window), expected)


@pytest.mark.parametrize(
    "first", [np.s_[1:], np.s_[::-1], np.s_[2], np.s_[:, 1:], np.s_[[4, 2, 0]]]
)
@pytest.mark.parametrize("second", [np.s_[1:], np.s_[0], np.s_[..., ::2], np.s_[-1:]])
def test_window_of_a_window_is_indexed_as_the_array_is(lazy, pixels, first, second):
    np.testing.assert_array_equal(np.asarray(lazy[first][second]), pixels[first][second])


@pytest.mark.parametrize("key", [9, np.s_[0, 0, 0, 0, 0, 0, 0], None, np.s_[..., ...], "T", -7])
def test_what_is_no_index_is_an_index_error(lazy, key):
    with pytest.raises((IndexError, ValueError)):
        lazy[key]


def test_window_knows_where_it_begins(lazy):
    window = lazy[2:5, 1:]
    assert (window.start, window.position) == (2, 1)
    assert (window[1:].start, window[:, 0].position, window[2].start) == (3, 1, 4)


def test_read_counts_within_the_window(lazy, pixels):
    np.testing.assert_array_equal(lazy[2:5, 1:].read(1, 0, 1), pixels[3, 1, 1])
    np.testing.assert_array_equal(lazy[2:5, 1, :, 2, 1:3].read(1, 0, 1), pixels[3, 1, 1, 2:, 1:3])
    with pytest.raises(IndexError):
        lazy[2:5].read(3)


def test_indexing_reads_nothing(movie, monkeypatch):
    def forbidden(*_):
        raise AssertionError("a frame was read")

    monkeypatch.setattr(type(movie.source), "read", forbidden)
    frames = movie.frames[2:5, 1, :, [0, 2]]
    blocks = movie.blocks(1, 5, 1, 2).map_blocks(np.asarray, dtype=movie.info.dtype)
    assert frames.shape == (3, 2, 2, 5, 7)
    assert blocks.shape == (4, 1, 2, 3, 5, 7)
    with pytest.raises(AssertionError, match="a frame was read"):
        frames.compute(scheduler="sync")


def test_array_without_a_copy_is_refused(lazy):
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(lazy, copy=False)


def test_array_takes_another_type(lazy, pixels):
    assert lazy[0].__array__(np.float32).dtype == np.float32


def test_pickle_and_token_keep_the_window(lazy):
    window = lazy[1:3, 1]
    again = pickle.loads(pickle.dumps(window))
    assert (again.shape, again.start, again.position) == (window.shape, 1, 1)
    assert tokenize(again) == tokenize(window) != tokenize(lazy)
    assert len(pickle.dumps(window)) < 1500


# ---- dask ----------------------------------------------------------------------------------


def test_frames_have_one_chunk_a_frame(movie, pixels):
    frames = movie.frames
    assert frames.shape == pixels.shape
    assert frames.chunksize == (1, 1, 1, *pixels.shape[3:])
    assert frames.name == movie.frames.name
    np.testing.assert_array_equal(frames[:, 1, 0, [2, 0], ::-1].compute(scheduler="threads"),
                                  pixels[:, 1, 0][:, [2, 0], ::-1])  # fmt: skip


def test_blocks_pass_unread_windows_to_the_function(movie, pixels):
    seen = []

    def record(block):
        assert isinstance(block, LazyFrames)
        seen.append((block.start, block.position, block.shape))
        return np.stack([block.read(i) for i in range(len(block))])[:, None, None]

    blocks = movie.blocks(1, 6, position=1, frames_per_block=2)
    assert blocks.chunks == ((2, 2, 1), (1,), (2,), (3,), (5,), (7,))
    out = blocks.map_blocks(
        record, dtype=blocks.dtype, chunks=(*blocks.chunks[:2], (1,), *blocks.chunks[3:]),
        meta=np.empty((0,) * 6, blocks.dtype),
    )  # fmt: skip
    np.testing.assert_array_equal(out.compute(scheduler="sync"), pixels[1:6, 1:2, :1])
    assert sorted(seen) == [(s, 1, (n, 1, 2, 3, 5, 7)) for s, n in ((1, 2), (3, 2), (5, 1))]


def test_a_block_is_one_task(movie):
    blocks = movie.blocks(0, 6, 0, 2)
    out = blocks.map_blocks(np.asarray, dtype=blocks.dtype, meta=blocks._meta)
    assert len(dask.optimize(out)[0].__dask_graph__()) == 3


def test_blocks_of_a_long_movie_stay_small(movie):
    source = replace(movie.source, shape=(100_000, *movie.source.shape[1:]))
    blocks = Movie(movie.info, source).blocks(50_000, 50_064, 1, 16)
    assert blocks.numblocks[0] == 4
    assert len(pickle.dumps(blocks)) < 5000


def test_blocks_are_named_by_what_they_hold(movie, tmp_path, pixels):
    names = {
        movie.blocks(*args).name
        for args in [(0, 4, 0, 2), (1, 5, 0, 2), (0, 4, 1, 2), (0, 4, 0, 4)]
    }
    assert len(names) == 4
    assert movie.blocks(0, 4, 0, 2).name in names
    other = open_movie(write_nd2(tmp_path / "b.nd2", pixels, "TPZCYX"))
    assert other.blocks(0, 4, 0, 2).name not in names
    swapped = open_movie(movie.info.path, channels=[1, 0, 2])
    assert swapped.blocks(0, 4, 0, 2).name not in names


@pytest.mark.parametrize(
    "wrong", [(-1, 3, 0, 1), (2, 2, 0, 1), (0, 7, 0, 1), (0, 3, 2, 1), (0, 3, 0, 0)]
)
def test_blocks_outside_of_the_movie_are_refused(movie, wrong):
    with pytest.raises(IndexError, match="expected"):
        movie.blocks(*wrong)


def test_read_frame_outside_of_the_movie_is_refused(movie):
    with pytest.raises(IndexError):
        movie.read_frame(6)


def test_threads_share_one_handle(tmp_path):
    pixels = stamped(T=40, C=2, Y=32, X=32)
    for path in (
        write_nd2(tmp_path / "a.nd2", pixels[:, 0, 0], "TCYX", compressed=True),
        write_tiff(tmp_path / "a.tif", pixels, "ome-zstd", "TCYX"),
    ):
        movie = open_movie(path)
        before = handles.count_opened()
        frames = movie.frames.compute(scheduler="threads", num_workers=8)
        np.testing.assert_array_equal(frames, pixels)
        assert handles.count_opened() == before


def test_store_and_arithmetic_work_as_on_any_dask_array(movie, pixels):
    out = np.zeros(pixels.shape, np.float64)
    da.store(movie.frames / 2, out, scheduler="sync")
    np.testing.assert_array_equal(out, pixels / 2)


# ---- on a cluster --------------------------------------------------------------------------


def last_frame(block):
    """Return start, position and the mean of the last frame of a block."""
    assert isinstance(block, LazyFrames), type(block)
    value = [block.start, block.position, block.read(len(block) - 1).max()]
    return np.array(value, float).reshape(1, 1, 1, 3, 1, 1)


def test_workers_open_a_file_once(tmp_path):
    from distributed import Client, LocalCluster

    pixels = stamped(T=8, C=2, P=2)
    path = write_nd2(tmp_path / "a.nd2", pixels[:, :, 0], "TPCYX")
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        movie = open_movie(path)
        np.testing.assert_array_equal(movie.frames.compute(), pixels)
        blocks = movie.blocks(2, 8, 1, 3)
        out = blocks.map_blocks(
            last_frame, dtype=float, chunks=((1, 1), (1,), (1,), (3,), (1,), (1,)),
            meta=np.empty((0,) * 6),
        ).compute()  # fmt: skip
        assert out[:, 0, 0, :, 0, 0].tolist() == [[s, 1, pixels[s + 2, 1].max()] for s in (2, 5)]
        assert set(client.run(handles.count_opened).values()) == {1}


def test_changed_file_is_refused_by_its_name(movie, tmp_path):
    movie.read_frame(0)
    (tmp_path / "a.nd2").write_bytes((tmp_path / "a.nd2").read_bytes() + b"\0" * 10)
    with pytest.raises(MovieError, match=r"a\.nd2 has changed since it was opened"):
        movie.read_frame(1)


def test_a_movie_with_some_channels_reads_no_others(tmp_path):
    movie = stamped(T=2, C=3)
    opened = open_movie(write_nd2(tmp_path / "a.nd2", movie[:, 0, 0], "TCYX"))
    some = opened.with_channels([2, 0])
    np.testing.assert_array_equal(some.frames.compute(), movie[:, :, :, [2, 0]])
    assert some.info.sizes["C"] == 2
    assert some.info.channel_names == ("Ch2", "Ch0")
    assert some.with_channels([1]).info.channel_names == ("Ch0",)
    assert opened.info.sizes["C"] == 3
