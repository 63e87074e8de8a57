"""One file for each kind of damage that the fuzzer found, and intact files that look alike."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cypose_dask.errors import DamagedFrameError, MovieError
from cypose_dask.movies import open_movie
from fuzz.fields import Field
from fuzz.mutate import Parent
from fuzz.seeds import full_of_data
from helpers.nd2_writer import write_nd2
from helpers.tiff_writer import write_tiff


def field_of(path: str | Path, what: str) -> Field:
    """Find a field of a file by its words."""
    return next(f for f in Parent.read(Path(path)).fields if f.what == what)


def set_field(path: str | Path, what: str, value: int) -> None:
    """Give a field another value."""
    data, field = bytearray(Path(path).read_bytes()), field_of(path, what)
    data[field.at : field.at + field.size] = field.packed(value)
    Path(path).write_bytes(data)


def value_of(path: str | Path, what: str) -> int:
    return field_of(path, what).value(Path(path).read_bytes())


@pytest.fixture
def plain(tmp_path):
    """Four pages without metadata."""
    pages = full_of_data(0, T=4)[:, 0, 0, 0]
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", metadata=None)
    return tmp_path / "a.tif"


@pytest.fixture
def nd2(tmp_path):
    return write_nd2(tmp_path / "a.nd2", full_of_data(0, T=4)[:, 0, 0, 0], "TYX")


# ---- TIFF ----------------------------------------------------------------------------------


def test_directories_in_a_circle_are_refused(plain):
    first = value_of(plain, "offset of the first directory")
    set_field(plain, "page 3: offset of the next directory", first)
    with pytest.raises(MovieError, match="run in a circle"):
        open_movie(plain)


@pytest.mark.parametrize("kind", ["ome", "ome-tiled", "ome-single-row-strips", "imagej-compressed"])
def test_two_pages_in_one_place_are_damaged(tmp_path, kind):
    movie = full_of_data(0, T=3)
    path = write_tiff(tmp_path / "a.tif", movie, kind, "TYX")
    tag = "tag 324 (TileOffsets)" if "tiled" in kind else "tag 273 (StripOffsets)"
    set_field(path, f"page 1: {tag}[0]", value_of(path, f"page 2: {tag}[0]"))
    with pytest.raises(MovieError, match="2 of 3 frames"):
        open_movie(path)
    opened = open_movie(path, allow_damaged=True)
    assert opened.info.damaged == ((1, 0, 0), (2, 0, 0))
    np.testing.assert_array_equal(opened.read_frame(0), movie[0, 0, 0])
    with pytest.raises(DamagedFrameError, match="another part of the file"):
        opened.read_frame(1)


@pytest.mark.parametrize("moved", [-100, 4, 100])
@pytest.mark.parametrize("kind", ["imagej", "shaped", "shaped-one-page", "ome"])
def test_a_page_that_runs_into_a_directory_is_damaged(tmp_path, kind, moved):
    path = write_tiff(tmp_path / "a.tif", full_of_data(0, T=3), kind, "TYX")
    what = "page 0: tag 273 (StripOffsets)[0]"
    set_field(path, what, value_of(path, what) + moved)
    with pytest.raises(MovieError, match="frames are missing or cut off"):
        open_movie(path)


def test_first_page_must_lie_where_the_second_says(tmp_path):
    """One byte less is padding, so that nothing overlaps; the pixels would be shifted."""
    path = write_tiff(tmp_path / "a.tif", full_of_data(0, T=3), "imagej", "TYX")
    what = "page 0: tag 273 (StripOffsets)[0]"
    set_field(path, what, value_of(path, what) - 1)
    with pytest.raises(MovieError, match="3 of 3 frames"):
        open_movie(path)


@pytest.mark.parametrize("skipped", [0, 1, 3])
def test_pages_that_fall_out_of_the_chain_are_noted(plain, skipped):
    links = ["offset of the first directory"]
    links += [f"page {i}: offset of the next directory" for i in range(4)]
    assert open_movie(plain).info.notes[1:] == ()
    set_field(plain, links[skipped], value_of(plain, links[skipped + 1]))
    opened = open_movie(plain)
    assert opened.info.sizes["T"] == 3
    assert "belong to no frame that is read" in opened.info.notes[-1]


@pytest.mark.parametrize("kind", ["imagej-one-page", "shaped-one-page"])
def test_frames_that_no_description_counts_any_more_are_noted(tmp_path, kind):
    path = write_tiff(tmp_path / "a.tif", full_of_data(0, T=3), kind, "TYX")
    assert not [n for n in open_movie(path).info.notes if "belong to no" in n]
    set_field(path, "page 0: tag 270: code", 65_000)
    opened = open_movie(path)
    assert opened.info.sizes["T"] == 1
    assert [n for n in opened.info.notes if "belong to no frame" in n]


def test_thumbnails_and_long_directories_are_no_lost_pages(tmp_path):
    pages = full_of_data(0, T=40)[:, 0, 0, 0]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pages:
            extra = [(65_001, "s", 0, "x" * 300, True)]
            writer.write(page, photometric="minisblack", metadata=None, extratags=extra)
        writer.write(pages[0, ::2, ::2], photometric="minisblack", metadata=None, subfiletype=1)
    opened = open_movie(tmp_path / "a.tif")
    assert opened.info.sizes["T"] == 40
    assert not [n for n in opened.info.notes if "belong to no" in n]


@pytest.mark.parametrize("tag", ["273 (StripOffsets)", "279 (StripByteCounts)"])
def test_places_of_another_type_are_refused(tmp_path, tag):
    path = write_tiff(tmp_path / "a.tif", full_of_data(0, T=2), "ome-lzw-predictor", "TYX")
    set_field(path, f"page 0: tag {tag}: type", 2)  # ASCII
    with pytest.raises(MovieError):
        open_movie(path)


@pytest.mark.parametrize("what", ["tag 323[0]", "tag 322[0]"])
def test_tiles_without_a_size_are_refused(tmp_path, what):
    path = write_tiff(tmp_path / "a.tif", full_of_data(0, T=2), "ome-tiled", "TYX")
    set_field(path, f"page 0: {what}", 0)
    with pytest.raises(MovieError):
        open_movie(path)


def test_pixels_of_no_bits_are_refused(plain):
    set_field(plain, "page 0: tag 258[0]", 0)
    with pytest.raises(MovieError, match="type None"):
        open_movie(plain)


# ---- ND2 -----------------------------------------------------------------------------------


def test_a_name_that_is_twice_in_the_map_is_refused(nd2):
    """The loops would be lost, and four frames be read without their axes."""
    data = bytearray(Path(nd2).read_bytes())
    at = data.rindex(b"ImageTextInfoLV!")
    data[at : at + 16] = b"ImageMetadataLV!"
    Path(nd2).write_bytes(data)
    with pytest.raises(MovieError, match="every chunk in it once"):
        open_movie(nd2)


@pytest.mark.parametrize("what", ["name length", "data length", "magic"])
@pytest.mark.parametrize("chunk", ["ImageMetadataLV!", "ImageTextInfoLV!", "ImageAttributesLV!"])
def test_a_chunk_of_metadata_that_is_not_what_the_map_says_is_refused(nd2, chunk, what):
    field = f"{what} of chunk {chunk}"
    set_field(nd2, field, value_of(nd2, field) + 16)
    with pytest.raises(MovieError, match="the chunk map puts"):
        open_movie(nd2)


@pytest.mark.parametrize("what", ["name length", "data length", "magic"])
def test_a_frame_whose_header_is_damaged_fails_alone(nd2, what):
    field = f"{what} of chunk ImageDataSeq|2!"
    set_field(nd2, field, value_of(nd2, field) - 1)
    opened = open_movie(nd2)
    with pytest.raises(DamagedFrameError, match="expected a chunk named"):
        opened.read_frame(2)
    np.testing.assert_array_equal(opened.read_frame(3), full_of_data(0, T=4)[3, 0, 0])


def test_frames_that_overlap_are_damaged(nd2):
    offset = value_of(nd2, "map: offset of ImageDataSeq|2!")
    set_field(nd2, "map: offset of ImageDataSeq|1!", offset + 16)
    with pytest.raises(MovieError, match="2 of 4 frames"):
        open_movie(nd2)


def test_a_length_beyond_the_file_takes_no_memory(nd2):
    set_field(nd2, "name length of chunk map", 2**32 - 1)
    tracemalloc.start()
    with pytest.raises(MovieError, match="complete ND2"):
        open_movie(nd2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26


def test_a_size_that_the_map_leaves_open_is_in_the_header(nd2):
    """Some files repeat the offset where the size would be."""
    for i in range(4):
        offset = value_of(nd2, f"map: offset of ImageDataSeq|{i}!")
        set_field(nd2, f"map: size of ImageDataSeq|{i}!", offset)
    np.testing.assert_array_equal(open_movie(nd2).frames.compute(), full_of_data(0, T=4))


ATTRIBUTES = {"uiBpcInMemory": 3, "uiWidthBytes": 2, "uiComp": 7, "uiWidth": 0, "uiHeight": 10**6}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_that_do_not_fit_together_are_refused(nd2, name):
    set_field(nd2, f"ImageAttributesLV!/SLxImageAttributes/{name}", ATTRIBUTES[name])
    with pytest.raises(MovieError, match=r"expected all|do not fit together|header claims"):
        open_movie(nd2)


def test_channels_of_absurdly_many_components_lose_their_names_alone(nd2):
    planes = "ImageMetadataSeqLV|0!/SLxPictureMetadata/sPicturePlanes/sPlaneNew/a0/uiCompCount"
    set_field(nd2, planes, 2**31)
    opened = open_movie(nd2)
    assert any("metadata could not be read" in note for note in opened.info.notes)
    np.testing.assert_array_equal(opened.read_frame(3), full_of_data(0, T=4)[3, 0, 0])


@pytest.mark.parametrize("compressed", [False, True])
def test_a_compressed_frame_that_is_too_short_is_damaged(tmp_path, compressed):
    movie = full_of_data(0, T=2)
    path = write_nd2(tmp_path / "a.nd2", movie[:, 0, 0, 0], "TYX", compressed=compressed)
    set_field(path, "ImageAttributesLV!/SLxImageAttributes/uiHeight", 19)
    with pytest.raises(MovieError, match="expected"):
        open_movie(path).read_frame(0)


def test_header_layout_is_that_of_the_writer(nd2):
    """The fields above are found where the format has them."""
    data = Path(nd2).read_bytes()
    assert struct.unpack_from("<I", data, 0) == (value_of(nd2, "magic of the file"),)
    assert value_of(nd2, "name length of chunk ImageDataSeq|0!") == 4072
