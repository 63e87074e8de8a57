"""zarr: plain arrays, OME-Zarr 0.1 to 0.5, groups of positions, and what is refused."""

import json
import pickle
from itertools import permutations

import numpy as np
import pytest
import zarr

from cypose_dask.errors import DamagedFrameError, MovieError
from cypose_dask.movies import open_movie
from helpers.stamps import stamped, stored_as
from helpers.zarr_writer import write_ome_zarr, write_positions

ORDERS = ["".join(order) for n in range(4) for order in permutations("TZC", n)]


def same(movie, expected):
    assert movie.frames.shape == expected.shape
    np.testing.assert_array_equal(movie.frames.compute(scheduler="sync"), expected)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_of_axes_is_read_as_tpzcyx(tmp_path, version, order):
    movie = stamped(**{axis: 2 + i for i, axis in enumerate(order)})
    same(open_movie(write_ome_zarr(tmp_path / "a.zarr", movie, version, order + "YX")), movie)


@pytest.mark.parametrize("version", ["0.1", "0.3", "0.4", "0.5"])
def test_every_version_is_read(tmp_path, version):
    movie = stamped(T=2, Z=2, C=3)
    opened = open_movie(write_ome_zarr(tmp_path / "a.zarr", movie, version, "TCZYX"))
    same(opened, movie)
    same(open_movie(opened.info.path, channels=[2, 0]), movie[:, :, :, [2, 0]])
    assert opened.info.format == "zarr"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_units_and_names_are_read(tmp_path, version):
    movie = stamped(T=2, Z=2, C=2)
    info = open_movie(
        write_ome_zarr(tmp_path / "a.zarr", movie, version, "TCZYX", channels=["BF", "Chl"])
    ).info
    assert (info.pixel_size_um, info.z_step_um, info.interval_s) == (0.1, 0.3, 5.0)
    assert info.channel_names == ("BF", "Chl")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_group_of_images_is_one_movie_of_positions(tmp_path, version):
    movie = stamped(T=2, P=3, C=2)
    opened = open_movie(write_positions(tmp_path / "a.zarr", movie, version, listed=False))
    same(opened, movie)
    assert opened.info.position_names == ("0", "1", "2")
    same(open_movie(opened.info.path, position=2), movie[:, 2:])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_listed_order_of_positions_wins(tmp_path, version):
    movie = stamped(T=2, P=3)
    opened = open_movie(write_positions(tmp_path / "a.zarr", movie, version, listed=True))
    same(opened, movie)
    assert opened.info.position_names == ("field2", "field1", "field0")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_plain_array_needs_axes(tmp_path, zarr_format):
    movie = stamped(T=2, P=2, Z=2, C=2)
    _plain(tmp_path / "a.zarr", stored_as(movie, "PZTCYX"), zarr_format=zarr_format)
    with pytest.raises(MovieError, match="does not name its axes"):
        open_movie(tmp_path / "a.zarr")
    same(open_movie(tmp_path / "a.zarr", axes="PZTCYX"), movie)


def test_dimension_names_of_a_plain_array_are_its_axes(tmp_path):
    movie = stamped(T=3, C=2)
    names = ["channel", "time", "y", "x"]
    _plain(tmp_path / "a.zarr", stored_as(movie, "CTYX"), zarr_format=3, dimension_names=names)
    same(open_movie(tmp_path / "a.zarr"), movie)
    _plain(tmp_path / "b.zarr", stored_as(movie, "CTYX"), zarr_format=2,
           attributes={"_ARRAY_DIMENSIONS": names})  # fmt: skip
    same(open_movie(tmp_path / "b.zarr"), movie)


def test_sharded_and_many_frame_chunks_are_read(tmp_path):
    movie = stamped(T=4)
    _plain(
        tmp_path / "a.zarr", movie[:, 0, 0, 0], zarr_format=3, chunks=(1, 5, 7), shards=(4, 5, 7)
    )
    opened = open_movie(tmp_path / "a.zarr", axes="TYX")
    same(opened, movie)
    assert not any("Chunks" in note for note in opened.info.notes)
    _plain(tmp_path / "b.zarr", movie[:, 0, 0, 0], zarr_format=3, chunks=(4, 5, 7))
    opened = open_movie(tmp_path / "b.zarr", axes="TYX")
    same(opened, movie)
    assert any("hold 4 frames" in note for note in opened.info.notes)


def test_big_endian_is_read_in_native_order(tmp_path):
    movie = stamped(T=2).astype(">u2")
    _plain(tmp_path / "a.zarr", movie[:, 0, 0, 0], zarr_format=2)
    opened = open_movie(tmp_path / "a.zarr", axes="TYX")
    same(opened, movie)
    assert opened.read_frame(0).dtype.isnative


# ---- refused -------------------------------------------------------------------------------


def test_group_without_an_image_is_refused(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_group("labels")
    with pytest.raises(MovieError, match=r"its members: labels"):
        open_movie(tmp_path / "a.zarr")


def test_positions_of_different_sizes_are_refused(tmp_path):
    path = tmp_path / "a.zarr"
    write_positions(path, stamped(T=2, P=2), "0.5", listed=False)
    write_ome_zarr(path / "1", stamped(T=3), "0.5", "TCZYX")
    with pytest.raises(MovieError, match="different kinds"):
        open_movie(path)


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"zarr_format": 3})])
def test_broken_metadata_is_refused(tmp_path, content):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text(content)
    with pytest.raises(MovieError):
        open_movie(tmp_path / "a.zarr")


def test_image_whose_array_is_absent_is_refused(tmp_path):
    path = write_ome_zarr(tmp_path / "a.zarr", stamped(T=2), "0.5", "TYX")
    (tmp_path / "a.zarr" / "0" / "zarr.json").unlink()
    with pytest.raises(MovieError, match="not a readable zarr"):
        open_movie(path)


def test_chunk_that_does_not_decode_is_a_damaged_frame(tmp_path):
    path = write_ome_zarr(tmp_path / "a.zarr", stamped(T=2), "0.5", "TYX")
    chunk = tmp_path / "a.zarr" / "0" / "c" / "1" / "0" / "0"
    chunk.write_bytes(b"\xff" * chunk.stat().st_size)
    opened = open_movie(path)
    opened.read_frame(0)
    with pytest.raises(DamagedFrameError):
        opened.read_frame(1)


def test_complex_pixels_are_refused(tmp_path):
    _plain(tmp_path / "a.zarr", np.zeros((2, 4, 4), np.complex64), zarr_format=3)
    with pytest.raises(MovieError, match="complex64"):
        open_movie(tmp_path / "a.zarr", axes="TYX")


# ---- identity ------------------------------------------------------------------------------


def test_fingerprint_follows_the_pixels(tmp_path):
    one = open_movie(write_ome_zarr(tmp_path / "a.zarr", stamped(T=3), "0.5", "TYX"))
    two = open_movie(write_ome_zarr(tmp_path / "b.zarr", stamped(T=3), "0.5", "TYX"))
    other = open_movie(write_ome_zarr(tmp_path / "c.zarr", stamped(T=3) + 1, "0.5", "TYX"))
    assert one.info.fingerprint.content_sha256 == two.info.fingerprint.content_sha256
    assert one.info.fingerprint.content_sha256 != other.info.fingerprint.content_sha256


def test_source_stays_small_with_many_positions(tmp_path):
    path = write_positions(tmp_path / "a.zarr", stamped(P=20), "0.5", listed=False)
    assert len(pickle.dumps(open_movie(path).source)) < 1000


def _plain(path, pixels, **options):
    options.setdefault("chunks", (1,) * (pixels.ndim - 2) + pixels.shape[-2:])
    array = zarr.create_array(path, shape=pixels.shape, dtype=pixels.dtype, **options)
    array[...] = pixels
