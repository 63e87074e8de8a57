"""Frames in tiles and back, bit by bit as Cellpose does it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cypose_dask.engine.tiles import TILE_PX, Mosaic, resize, resized_shape, tiling_of
from cypose_dask.errors import SettingsError

sides = st.integers(8, 700)
shapes = st.tuples(sides, sides)


def random_image(shape, channels=2):
    return np.random.default_rng(sum(shape)).normal(size=(*shape, channels)).astype(np.float32)


def cut(tiling, image):
    padded = tiling.pad(image)
    return np.stack([tiling.cut(padded, number) for number in range(len(tiling))])


def joined(tiling, outputs):
    mosaic = Mosaic(tiling, outputs.shape[1])
    for number, output in enumerate(outputs):
        mosaic.add(number, output)
    return mosaic.finish((np.nan,) * outputs.shape[1])


def cellpose_tiles(image):
    from cellpose import transforms

    top, bottom, left, right = transforms.get_pad_yx(*image.shape[:2])
    padded = np.pad(image.transpose(2, 0, 1), ((0, 0), (top, bottom), (left, right)))
    tiles, *where = transforms.make_tiles(padded, bsize=TILE_PX, tile_overlap=0.1)
    inside = (slice(top, top + image.shape[0]), slice(left, left + image.shape[1]))
    return tiles.reshape(-1, *tiles.shape[2:]), where, inside


@given(shapes, st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_tiles_equal_cellpose(shape, channels):
    image = random_image(shape, channels)
    tiles, _, _ = cellpose_tiles(image)
    tiling = tiling_of(shape)
    ours = cut(tiling, image)
    np.testing.assert_array_equal(ours, tiles)
    assert ours.dtype == np.float32
    assert len(tiling) == len(tiles)
    assert tiling.tile == tiles.shape[2:]


@given(shapes)
@settings(max_examples=60, deadline=None)
def test_joined_outputs_equal_cellpose(shape):
    from cellpose import transforms

    tiles, where, inside = cellpose_tiles(random_image(shape))
    outputs = np.random.default_rng(0).normal(size=(len(tiles), 3, *tiles.shape[2:]))
    outputs = outputs.astype(np.float32)
    theirs = transforms.average_tiles(outputs, *where)[:, *inside].transpose(1, 2, 0)
    ours = joined(tiling_of(shape), outputs)
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == np.float32


@given(shapes)
@settings(max_examples=30, deadline=None)
def test_windows_show_what_is_in_the_tiles(shape):
    tiling = tiling_of(shape)
    image = random_image(shape, 1)
    for tile, (y0, y1, x0, x1) in zip(cut(tiling, image), tiling.windows(), strict=True):
        seen = image[max(y0, 0) : y1, max(x0, 0) : x1, 0]
        top, left = max(-y0, 0), max(-x0, 0)
        there = tile[0, top : top + seen.shape[0], left : left + seen.shape[1]]
        np.testing.assert_array_equal(there, seen)
        assert (y1 - y0, x1 - x0) == tiling.tile


def test_a_frame_that_is_cut_and_joined_is_itself():
    image = random_image((500, 300), 3)
    tiling = tiling_of((500, 300))
    np.testing.assert_allclose(joined(tiling, cut(tiling, image)), image, rtol=1e-6)


@given(shapes, st.integers(1, 3), st.floats(0.5, 2.5))
@settings(max_examples=60, deadline=None)
def test_resized_frames_equal_cellpose(shape, channels, rescale):
    from cellpose import transforms

    image = random_image(shape, channels)
    theirs = transforms.resize_image(image[np.newaxis], rsz=rescale)[0]
    ours = resize(image, resized_shape(shape, rescale))
    np.testing.assert_array_equal(ours, theirs)
    back = transforms.resize_image(theirs[np.newaxis], *shape)[0]
    np.testing.assert_array_equal(resize(ours, shape), back)


def test_a_frame_of_which_nothing_is_left_is_refused():
    with pytest.raises(SettingsError, match="smaller diameter"):
        resized_shape((8, 400), 0.1)


def test_pixels_that_no_tile_covers_are_said_to_be_nothing():
    tiling = tiling_of((600, 600))
    mosaic = Mosaic(tiling)
    mosaic.add(0, np.ones((3, *tiling.tile), np.float32))
    made = mosaic.finish((0.0, 0.5, -20.0))
    np.testing.assert_allclose(made[:150, :150], 1.0)
    np.testing.assert_array_equal(made[-1, -1], np.array([0, 0.5, -20], np.float32))
