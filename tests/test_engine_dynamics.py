"""Our dynamics are Cellpose's, bit for bit: as a whole, and each kernel against its function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cellpose import dynamics, metrics, utils
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from cypose_dask.engine.dynamics import labels_from_flows
from cypose_dask.engine.dynamics.flow_check import flow_errors
from cypose_dask.engine.dynamics.follow import follow
from cypose_dask.engine.dynamics.holes import fill_holes_and_remove_small
from cypose_dask.engine.dynamics.order import torch_argsort
from cypose_dask.engine.dynamics.seeds import gather
from cypose_dask.engine.reference import follow_and_label
from cypose_dask.settings import Settings
from helpers.real_truth import real_sets

CPU = torch.device("cpu")
STEPS = st.sampled_from([200, 99.99, 2000, 1, 0.5, 7, 8, 9, 33])
SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(8, 48)


def patches(rng, shape, cells, blur=2.5):
    """Labels 1..n without gaps, in several pieces, with holes, touching each other and borders."""
    heights = gaussian_filter(rng.standard_normal((cells + 1, *shape)), (0, blur, blur))
    heights[0] += np.quantile(np.abs(heights), 0.6)
    return np.unique(heights.argmax(axis=0), return_inverse=True)[1].reshape(shape)


def noisy_flows(labels, rng, noise):
    """Flows as from a network, (2, Y, X) with the channels last in memory, and logits."""
    unit = dynamics.masks_to_flows(labels.astype(np.int32), device=CPU)
    rough = gaussian_filter(rng.standard_normal(unit.shape), (0, 1.5, 1.5))
    flows = (5 * unit + noise * rough).transpose(1, 2, 0).astype(np.float32)
    logits = 10 * gaussian_filter((labels > 0).astype(np.float32), 1) - 4
    logits += 2 * gaussian_filter(rng.standard_normal(labels.shape), 1)
    return np.ascontiguousarray(flows).transpose(2, 0, 1), logits.astype(np.float32)


def assert_cellposes(flows, cellprob, chosen, threads=1):
    labels, errors = labels_from_flows(flows, cellprob, chosen, threads=threads)
    expected, expected_errors = follow_and_label(flows.copy(), cellprob, chosen, "cpu")
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(errors, expected_errors)
    assert labels.dtype == expected.dtype == np.uint32
    assert errors.dtype == expected_errors.dtype == np.float64
    return labels


@settings(deadline=None, max_examples=60)
@given(
    SEEDS,
    st.tuples(SIDES, SIDES, st.integers(1, 9)),
    st.sampled_from([0.0, 3.0, 12.0]),
    st.builds(
        Settings,
        niter=STEPS,
        flow_threshold=st.sampled_from([0.0, 0.1, 0.4, 0.75]),
        cellprob_threshold=st.sampled_from([-6.0, 0.0, 0.1, 2.0]),
        min_size_px=st.sampled_from([-1, 0, 1, 15, 60]),
    ),
)
def test_labels_and_flow_errors_are_cellposes(seed, size, noise, chosen):
    rng = np.random.default_rng(seed)
    flows, cellprob = noisy_flows(patches(rng, size[:2], size[2]), rng, noise)
    assert_cellposes(flows, cellprob, chosen, threads=1 + seed % 2)


@pytest.mark.parametrize("shape", [(8, 8), (8, 300), (300, 8)])
@pytest.mark.parametrize("logit", [-1.0, 1.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 40.0])
def test_empty_and_full_frames_are_cellposes(shape, logit, scale):
    flows = np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32) * scale
    labels = assert_cellposes(flows, np.full(shape, logit, np.float32), Settings(niter=200))
    assert logit > 0 or not labels.any()


def test_a_cell_over_four_tenths_of_the_frame_is_removed():
    y, x = np.mgrid[:40, :40]
    flows = np.stack([20 - y, 20 - x]).astype(np.float32)
    for radius, found in ((12, 1), (15, 0)):
        cellprob = np.where((y - 20) ** 2 + (x - 20) ** 2 <= radius**2, 1, -1).astype(np.float32)
        labels = assert_cellposes(flows, cellprob, Settings(niter=200, flow_threshold=0))
        assert labels.max() == found


@pytest.mark.parametrize("across", [True, False])
def test_a_filament_of_1000_px_is_cellposes(across):
    labels = np.zeros((24, 1100), np.int32)
    x = np.arange(50, 1050)
    for offset in range(8):
        labels[(8 + offset + 3 * np.sin(x / 60)).astype(int), x] = 1
    if not across:
        labels = np.ascontiguousarray(labels.T)
    flows, _ = noisy_flows(labels, np.random.default_rng(0), 1.0)
    ours = flow_errors(labels.astype(np.uint32), unit_moves(flows))
    np.testing.assert_array_equal(ours, metrics.flow_error(labels, flows, CPU)[0])
    assert_cellposes(flows, labels - np.float32(0.5), Settings(niter=200))


def test_dense_real_cells_are_cellposes(shared_data):
    rng = np.random.default_rng(0)
    for truth in real_sets(shared_data)[0].examples.labels:
        flows, cellprob = noisy_flows(truth[:400, :400], rng, 8.0)
        labels = assert_cellposes(flows, cellprob, Settings(niter=200))
        assert labels.max() > 20


def unit_moves(flows):
    return np.ascontiguousarray((flows / 5.0).transpose(1, 2, 0))


@settings(deadline=None, max_examples=60)
@given(SEEDS, SIDES, SIDES, STEPS, st.sampled_from([0.1, 1.0, 30.0]))
def test_pixels_end_where_cellposes_end(seed, height, width, steps, scale):
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.standard_normal((2, height, width)), (0, 1.5, 1.5))
    flows = (smooth * scale * 5).astype(np.float32)
    pixels = np.flatnonzero(rng.random((height, width)) < 0.8)
    ours = follow(unit_moves(flows), pixels, int(steps), 1 + seed % 2)
    inds = np.unravel_index(pixels, (height, width))
    ends = dynamics.follow_flows(flows / 5.0, inds, niter=steps, device=CPU).astype(np.int64)
    np.testing.assert_array_equal(ours, ends[0] * width + ends[1])


@pytest.mark.parametrize("steps", range(12, 40))
def test_pixels_in_a_cycle_end_where_cellposes_end(steps):
    flows = np.zeros((2, 9, 9), np.float32)  # a pinwheel of four pixels; the others run into it
    flows[:, 3, 3], flows[:, 3, 5], flows[:, 5, 5], flows[:, 5, 3] = (
        (0, 10), (10, 0), (0, -10), (-10, 0),
    )  # fmt: skip
    pixels = np.array([3 * 9 + 3, 3 * 9 + 5, 5 * 9 + 5, 5 * 9 + 3])
    ends = dynamics.follow_flows(
        flows / 5.0, np.unravel_index(pixels, (9, 9)), niter=steps, device=CPU
    ).astype(np.int64)
    np.testing.assert_array_equal(follow(unit_moves(flows), pixels, steps), ends[0] * 9 + ends[1])


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(8, 40), st.sampled_from([1, 2, 5]), st.sampled_from([0.4, 0.02]))
def test_pixels_gather_as_in_cellpose_also_between_equal_seeds(seed, side, spacing, fraction):
    rng = np.random.default_rng(seed)
    places = np.flatnonzero((np.indices((side, side)) % spacing == 0).all(axis=0))
    counts = rng.choice([0, 2, 3, 11, 12, 13], places.size)
    ends = np.repeat(places, counts)
    shape = (side * 4, side * 4)
    pixels = np.sort(rng.choice(shape[0] * shape[1], ends.size, replace=False))
    ends = rng.permutation(ends // side * shape[1] + ends % side)
    at = torch.from_numpy(np.stack(np.unravel_index(ends, shape))).int()
    inds = np.unravel_index(pixels, shape)
    expected = dynamics.get_masks_torch(at, inds, shape, max_size_fraction=fraction)
    np.testing.assert_array_equal(gather(pixels, ends, shape, max_size_fraction=fraction), expected)


@settings(deadline=None, max_examples=60)
@given(
    SEEDS, st.sampled_from([1, 16, 17, 40, 300, 5000, 32767, 32768]), st.sampled_from([1, 9, 999])
)
def test_equal_numbers_are_sorted_in_torchs_order(seed, length, values):
    keys = np.random.default_rng(seed).integers(11, 11 + values, length, dtype=np.int32)
    np.testing.assert_array_equal(torch_argsort(keys), torch.from_numpy(keys).argsort())


@pytest.mark.parametrize("length", [64, 200, 4000])
def test_numbers_that_defeat_the_median_of_three_are_sorted_in_torchs_order(length):
    half = length // 2
    odd, even = np.arange(1, half + 1, 2), np.arange(2, half + 2, 2)
    keys = np.zeros(length, np.int32)
    keys[odd - 1], keys[even - 1], keys[half:] = odd, half + odd, 2 * np.arange(1, half + 1)
    for shared in (1, 3):
        few = keys // np.int32(shared)
        np.testing.assert_array_equal(torch_argsort(few), torch.from_numpy(few).argsort())


@settings(deadline=None, max_examples=60)
@given(SEEDS, SIDES, SIDES, st.integers(1, 9))
def test_flow_errors_are_cellposes_for_any_shape_of_cell(seed, height, width, cells):
    rng = np.random.default_rng(seed)
    labels = patches(rng, (height, width), cells)
    labels[0, 0] = 0
    labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    labels[-1, -1] = labels.max() + 1  # a cell of one pixel
    flows = rng.standard_normal((2, height, width)).astype(np.float32) * 5
    ours = flow_errors(labels.astype(np.uint32), unit_moves(flows), 1 + seed % 2)
    np.testing.assert_array_equal(ours, metrics.flow_error(labels, flows, CPU)[0])


@settings(deadline=None, max_examples=100)
@given(
    SEEDS, st.tuples(SIDES, SIDES, st.integers(1, 12)), st.booleans(),
    st.sampled_from([-1, 0, 1, 15, 60, 5000]),
)  # fmt: skip
@example(0, (8, 8, 1), True, 15)
def test_holes_and_small_cells_are_treated_as_by_cellpose(seed, size, gaps, smallest):
    rng = np.random.default_rng(seed)
    labels = patches(rng, size[:2], size[2], blur=1.5).astype(np.uint32)
    if seed % 5 == 0:
        labels += 1  # no background: Cellpose then takes the first cell for it
    if gaps:
        labels[np.isin(labels, rng.integers(1, size[2] + 1, 2))] = 0
    ours = labels.copy()
    fill_holes_and_remove_small(ours, smallest)
    expected = utils.fill_holes_and_remove_small_masks(labels.astype(np.uint16), smallest)
    np.testing.assert_array_equal(ours, expected)


def test_cellposes_loss_of_a_good_cell_after_a_gap_is_kept():
    labels = np.zeros((20, 30), np.uint32)
    labels[2:8, 2:8], labels[2:8, 12:18], labels[2, 22], labels[12:18, 2:8] = 1, 3, 4, 5
    fill_holes_and_remove_small(labels, 15)
    # The third number present (4) has one pixel, so number 3 goes, and a cell of 36 px with it.
    assert not labels[2:8, 12:18].any()
    assert labels[2, 2] == 1
    assert labels[12, 2] > 0


@settings(deadline=None)
@given(SEEDS, st.tuples(SIDES, SIDES, st.integers(1, 12)), st.sampled_from([-1, 0, 1, 15, 60]))
def test_the_mended_removal_looks_at_each_cell_itself(seed, size, smallest):
    rng = np.random.default_rng(seed)
    labels = patches(rng, size[:2], size[2], blur=1.5).astype(np.uint32)
    labels[np.isin(labels, rng.integers(1, size[2] + 1, 2))] = 0
    ours = labels.copy()
    fill_holes_and_remove_small(ours, smallest, fix=True)
    filled = utils.fill_holes_and_remove_small_masks(large_enough(labels, smallest), -1)
    np.testing.assert_array_equal(ours > 0, large_enough(filled, smallest) > 0)
    sizes = np.bincount(ours.ravel())[1:]
    assert (sizes >= max(smallest, 1)).all()


def large_enough(labels, smallest):
    return np.where(np.bincount(labels.ravel())[labels] < smallest, 0, labels).astype(np.uint16)


def test_the_mended_removal_loses_no_good_cell_after_a_gap():
    labels = np.zeros((20, 30), np.uint32)
    labels[2:8, 2:8], labels[2:8, 12:18], labels[2, 22], labels[12:18, 2:8] = 1, 3, 4, 5
    fill_holes_and_remove_small(labels, 15, fix=True)
    assert [int(labels[at]) for at in ((2, 2), (2, 12), (2, 22), (12, 2))] == [1, 2, 0, 3]


def test_cellposes_loss_of_the_wrong_cell_without_background_is_kept():
    labels = np.repeat(np.array([1, 2, 3], np.uint32), (200, 5, 195)).reshape(20, 20)
    expected = utils.fill_holes_and_remove_small_masks(labels.astype(np.uint16), 15)
    fill_holes_and_remove_small(labels, 15)
    np.testing.assert_array_equal(labels, expected)
    assert not labels[0].any()
    assert labels[10, 5] == 1


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.integers(2, 5))
def test_labels_do_not_depend_on_threads(seed, threads):
    rng = np.random.default_rng(seed)
    flows, cellprob = noisy_flows(patches(rng, (64, 80), 12), rng, 6.0)
    alone = labels_from_flows(flows, cellprob, Settings(niter=200))
    shared = labels_from_flows(flows, cellprob, Settings(niter=200), threads=threads)
    np.testing.assert_array_equal(alone[0], shared[0])
    np.testing.assert_array_equal(alone[1], shared[1])
