"""OME-Zarr of `convert`: valid NGFF, and the reader gives back what went in."""

from types import SimpleNamespace

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.bioformats2raw import BioFormats2Raw
from ome_zarr_models.v05.image import Image

from cypose_dask.errors import ResultError
from cypose_dask.movies import open_movie
from cypose_dask.results.image import create_image, write_frames

SIZES = {"T": 5, "P": 2, "Z": 3, "C": 2, "Y": 6, "X": 7}


def make_info(sizes=SIZES, dtype=np.uint16, **changes):
    known = {
        "sizes": sizes,
        "dtype": np.dtype(dtype),
        "channel_names": tuple(f"channel {i}" for i in range(sizes["C"])),
        "position_names": tuple(f"position {i}" for i in range(sizes["P"])),
        "pixel_size_um": 0.065,
        "z_step_um": 0.5,
        "interval_s": 300.0,
    }
    return SimpleNamespace(**known | changes)


def stamped(sizes, dtype=np.uint16) -> np.ndarray:
    """Frames (T, P, Z, C, Y, X) with another number in every pixel."""
    return np.arange(np.prod(list(sizes.values()))).reshape(tuple(sizes.values())).astype(dtype)


def write_image(path, info, frames, step=2) -> None:
    create_image(path, info, step)
    for p in range(info.sizes["P"]):
        for t in range(0, info.sizes["T"], step):
            write_frames(path, (p, t), frames[t : t + step, p])


@pytest.mark.parametrize(
    "change", [{}, {"T": 1}, {"P": 1}, {"Z": 1}, {"C": 1}, dict.fromkeys("TPZC", 1)]
)
def test_the_reader_gives_back_pixels_and_metadata(tmp_path, change):
    info = make_info(SIZES | change)
    frames = stamped(info.sizes)
    write_image(tmp_path / "m.ome.zarr", info, frames)
    movie = open_movie(tmp_path / "m.ome.zarr")
    assert movie.info.sizes == info.sizes
    assert np.array_equal(np.asarray(movie.frames), frames)
    for name in ("channel_names", "pixel_size_um", "z_step_um", "interval_s"):
        assert getattr(movie.info, name) == getattr(info, name)
    if info.sizes["P"] > 1:
        assert movie.info.position_names == info.position_names


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32, np.float64])
def test_pixels_keep_their_type(tmp_path, dtype):
    info = make_info(dtype=dtype)
    write_image(tmp_path / "m.ome.zarr", info, stamped(SIZES, dtype))
    movie = open_movie(tmp_path / "m.ome.zarr")
    assert movie.info.dtype == dtype
    assert np.array_equal(np.asarray(movie.frames), stamped(SIZES, dtype))


def test_an_unknown_scale_stays_unknown(tmp_path):
    unknown = dict.fromkeys(("pixel_size_um", "z_step_um", "interval_s"))
    write_image(tmp_path / "m.ome.zarr", make_info(**unknown), stamped(SIZES))
    info = open_movie(tmp_path / "m.ome.zarr").info
    assert (info.pixel_size_um, info.z_step_um, info.interval_s) == (None, None, None)


@pytest.mark.parametrize("scaled", [True, False])
def test_the_store_is_valid_ome_ngff(tmp_path, scaled):
    unknown = {} if scaled else dict.fromkeys(("pixel_size_um", "z_step_um", "interval_s"))
    create_image(tmp_path / "m.ome.zarr", make_info(**unknown), 2)
    root = zarr.open_group(tmp_path / "m.ome.zarr", mode="r")
    assert BioFormats2Raw.from_zarr(root).image_paths == ["0", "1"]
    image = Image.from_zarr(root["1"]).ome_attributes.multiscales[0]
    assert [axis.name for axis in image.axes] == ["t", "c", "z", "y", "x"]
    assert [axis.type for axis in image.axes] == ["time", "channel", "space", "space", "space"]
    scale = image.datasets[0].coordinateTransformations[0].scale
    assert scale == ([300.0, 1.0, 0.5, 0.065, 0.065] if scaled else [1.0] * 5)


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [(np.uint8, 0, 255), (np.int16, -32768, 32767), (np.float32, 0, 1)]
)
def test_viewers_get_the_range_of_the_type(tmp_path, dtype, low, high):
    create_image(tmp_path / "m.ome.zarr", make_info(dtype=dtype), 2)
    omero = zarr.open_group(tmp_path / "m.ome.zarr")["0"].attrs["ome"]["omero"]
    assert [c["label"] for c in omero["channels"]] == ["channel 0", "channel 1"]
    assert omero["channels"][0]["window"] == {"min": low, "max": high, "start": low, "end": high}


def test_a_shard_is_what_one_task_writes_and_a_plane_one_chunk(tmp_path):
    create_image(tmp_path / "m.ome.zarr", make_info(), 2)
    array = zarr.open_group(tmp_path / "m.ome.zarr")["0/0"]
    assert (array.shards, array.chunks) == ((2, 2, 3, 6, 7), (1, 1, 1, 6, 7))


@pytest.mark.parametrize(("first", "count"), [(1, 2), (0, 1), (0, 4), (4, 2), (-2, 2)])
def test_only_whole_shards_are_written(tmp_path, first, count):
    create_image(tmp_path / "m.ome.zarr", make_info(), 2)
    frames = np.ones((count, 3, 2, 6, 7), np.uint16)
    with pytest.raises(ResultError, match="no shard of this array"):
        write_frames(tmp_path / "m.ome.zarr", (0, first), frames)
    assert not zarr.open_group(tmp_path / "m.ome.zarr")["0/0"][:].any()
