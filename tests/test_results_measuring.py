"""Measurements of one frame: equal to scikit-image's, above a background far from cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import regionprops

from cypose_dask.results.measuring import (
    background_of,
    length_and_width,
    measure_channel,
    measure_frame,
    measure_shapes,
)
from helpers.capsules import bent_capsule, draw_capsule, wavy_capsule

# Gaps in the numbers, one-pixel cells, cells of several parts and cells at the border.
LABELS = arrays(np.uint32, (7, 9), elements=st.sampled_from([0, 0, 0, 1, 4, 900]))
pytestmark = pytest.mark.filterwarnings("ignore:Failed to get convex hull")


@given(LABELS)
@settings(max_examples=40, deadline=None)
def test_shapes_are_those_of_scikit_image(labels: np.ndarray) -> None:
    columns = measure_shapes(labels)
    cells = regionprops(labels.astype(np.int64))
    assert columns["label"].tolist() == [cell.label for cell in cells]
    for name in ("area", "orientation", "perimeter", "solidity", "axis_major_length"):
        np.testing.assert_array_equal(columns[name], [cell[name] for cell in cells])


@given(LABELS)
@settings(max_examples=40, deadline=None)
def test_a_cell_touches_the_border_when_a_pixel_of_it_does(labels: np.ndarray) -> None:
    columns = measure_shapes(labels)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    expected = np.isin(columns["label"], edge)
    assert columns["touches_border"].tolist() == expected.tolist()


@given(LABELS, st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_intensities_are_those_of_scikit_image_above_the_background(
    labels: np.ndarray, background: int
) -> None:
    image = np.arange(63, dtype=np.uint16).reshape(7, 9)
    columns = measure_channel(labels, image, background)
    cells = regionprops(labels.astype(np.int64), image.astype(float) - background)
    for name in ("intensity_mean", "intensity_min", "intensity_max"):
        np.testing.assert_allclose(columns[name], [cell[name] for cell in cells], atol=1e-9)
    sums = [cell.intensity_mean * cell.area for cell in cells]
    np.testing.assert_allclose(columns["intensity_sum"], sums, atol=1e-9)


@pytest.mark.parametrize(("y", "x"), [(0, 3), (4, 3), (2, 0), (2, 6), (1, 1), (3, 5)])
def test_one_pixel_touches_the_border_only_at_it(y: int, x: int) -> None:
    labels = np.zeros((5, 7), np.uint32)
    labels[y, x] = 3
    expected = y in (0, 4) or x in (0, 6)
    assert measure_shapes(labels)["touches_border"].tolist() == [expected]


def test_the_background_leaves_out_the_halo_of_cells() -> None:
    labels = np.zeros((9, 9), np.uint32)
    labels[:, 0] = 1
    image = np.full((9, 9), 1e6)
    image[:, 4:] = 100.0
    assert background_of(labels[:, :5], image[:, :5]) == 100.0
    assert np.isnan(background_of(np.ones((3, 3), np.uint32), image[:3, :3]))


# ---- length and width ----------------------------------------------------------------------

ANGLES = np.linspace(0, np.pi, 9)


# Width, ratio of length to width, and bend; none lies on itself.
RODS = [
    (width, ratio, bend)
    for width in (5, 8, 14)
    for ratio in (1.0, 1.3, 2.0, 4.0, 10.0)
    for bend in (0.0, 0.5, 1.5)
    if ratio - 1 >= bend
]


@pytest.mark.parametrize(("width", "ratio", "bend"), RODS)
def test_a_bent_rod_is_as_long_and_as_wide_as_if_it_were_straight(width, ratio, bend):
    length = width * ratio
    random = np.random.default_rng(0)
    for angle in ANGLES:
        shift = random.uniform(0, 1, 2)
        mask = bent_capsule(length, width, bend=bend, angle=angle, shift=shift)
        found = length_and_width(mask)
        assert found[0] == pytest.approx(length, abs=1.6)
        assert found[1] == pytest.approx(width, abs=1.0)


@pytest.mark.parametrize("length", [200, 1000, 3000])
def test_a_filament_is_measured_along_its_bends(length):
    found = length_and_width(wavy_capsule(length, 10, tightest=25, seed=1))
    assert found == pytest.approx((length, 10), rel=0.005)


@pytest.mark.parametrize("bend", [0.0, 0.8])
def test_turned_and_mirrored_cells_measure_the_same(bend):
    mask = bent_capsule(40, 9, bend=bend, angle=0.4)
    turned = [np.rot90(mask, k) for k in range(4)]
    for other in [*turned, *(one[::-1] for one in turned)]:
        assert length_and_width(other) == pytest.approx(length_and_width(mask), abs=0.8)


def test_what_surrounds_a_cell_does_not_matter():
    mask = bent_capsule(30, 8, bend=0.5, angle=1.0)
    tight = mask[mask.any(axis=1)][:, mask.any(axis=0)]
    assert length_and_width(np.pad(tight, 7)) == pytest.approx(length_and_width(tight))


def test_a_constricted_cell_is_measured_through_its_waist():
    rod = draw_capsule(np.stack([np.zeros(400), np.linspace(0, 40, 400)], 1), 10)
    middle = rod.shape[1] // 2
    rod[: rod.shape[0] // 2 - 1, middle - 1 : middle + 2] = False
    assert length_and_width(rod)[0] == pytest.approx(50, abs=1.5)


@pytest.mark.parametrize(
    ("mask", "length", "width"),
    [
        (np.ones((1, 1)), (1.1, 1.2), (0.8, 1.3)),
        (np.ones((1, 12)), (11, 14), (0.8, 1.2)),
        (np.eye(9), (9, 15), (0.5, 1.2)),
        (np.ones((2, 2)), (2, 2.5), (1.6, 2.5)),
    ],
)
def test_the_smallest_cells_have_some_length_and_width(mask, length, width):
    found = length_and_width(mask.astype(bool))
    assert length[0] <= found[0] <= length[1]
    assert width[0] <= found[1] <= width[1]


def test_of_a_cell_in_parts_the_largest_is_measured():
    mask = bent_capsule(30, 8, bend=0.0, angle=0.3)
    with_crumb = np.pad(mask, ((0, 0), (0, 9)))
    with_crumb[0, -1] = True
    assert length_and_width(with_crumb)[0] == length_and_width(mask)[0]


@given(LABELS)
@settings(max_examples=40)
def test_every_cell_has_a_length_no_smaller_than_its_width(labels: np.ndarray) -> None:
    columns = measure_shapes(labels)
    assert (columns["length"] >= columns["width"]).all()
    assert (columns["width"] > 0).all()


# ---- a whole frame -------------------------------------------------------------------------


def test_what_is_in_pixels_is_in_micrometres_too():
    labels = np.zeros((20, 30), np.uint32)
    labels[4:10, 5:25] = 2
    columns = measure_frame(labels, {}, pixel_size_um=0.5)
    assert columns["area_um2"] == columns["area"] * 0.25
    for name in ("length", "width", "perimeter", "centroid-0", "centroid-1"):
        assert columns[f"{name}_um"] == columns[name] * 0.5
    assert np.isnan(measure_frame(labels, {})["length_um"]).all()


@pytest.mark.parametrize("labels", [np.zeros((6, 7), np.uint32), np.ones((6, 7), np.uint32)])
def test_empty_and_full_frames_have_the_same_columns(labels):
    image = np.ones((6, 7), np.uint16)
    columns = measure_frame(labels, {"phase": image}, pixel_size_um=0.5)
    some = measure_frame(np.eye(6, 7, dtype=np.uint32), {"phase": image}, pixel_size_um=0.5)
    assert {n: v.dtype for n, v in columns.items()} == {n: v.dtype for n, v in some.items()}
    assert {len(values) for values in columns.values()} == {labels.max()}
