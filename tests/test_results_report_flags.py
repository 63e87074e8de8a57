"""What is odd about frames: jumps of the cell count, sizes, borders, and the list of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cypose_dask.results import Status
from cypose_dask.results.report import (
    Flag,
    FrameNumbers,
    SizeLimits,
    count_jumps,
    flags_of_numbers,
    flags_of_sizes,
    looks,
    measure_cells,
)
from cypose_dask.results.report.flags import KINDS


def jumps(counts, done=None):
    counts = np.array(counts)
    done = np.ones(len(counts), bool) if done is None else np.array(done, bool)
    return [t for t, _, _ in count_jumps(counts, done)]


def numbers_of(cells, **changes):
    """Numbers (P, T, Z) of one plane from cells (P, T)."""
    cells = np.asarray(cells, np.uint32)[..., None]
    unknown = np.full(cells.shape, np.nan, np.float32)
    known = dict.fromkeys(("covered_area", "mean_cellprob", "flow_error", "focus"), unknown)
    marks = {n: np.zeros(cells.shape, bool) for n in ("blank", "saturated", "non_finite")}
    status = np.full(cells.shape, Status.DONE, np.uint8)
    return FrameNumbers(**{"status": status, "cells": cells, **known, **marks} | changes)


@pytest.mark.parametrize(
    ("counts", "where"),
    [
        ([40, 41, 12, 42, 43], [2]),  # one bad frame, and the way back is not odd
        ([40, 41, 0, 50, 51], [2]),  # the colony went on growing meanwhile
        ([40, 41, 42, 12, 12, 13], [3]),  # a lasting loss
        ([40, 40, 12, 40, 40, 12, 41, 42], [2, 5]),  # two bad frames
        ([0, 0, 9, 9], [2]),
        ([0, 2, 2, 2, 2], []),  # two cells more are no jump, whatever the share
        ([1000, 1010, 990, 1005], []),
    ],
)
def test_a_jump_is_flagged_where_it_happens(counts, where):
    assert jumps(counts) == where


@given(st.floats(1.0, 1.15), st.integers(3, 60))
def test_steady_growth_is_no_jump(rate, start):
    assert jumps((start * rate ** np.arange(30)).astype(int)) == []


def test_a_loss_is_seen_in_fast_growth():
    counts = np.arange(5, 30) ** 2
    counts[15] = counts[13]
    assert 15 in jumps(counts)


def test_noise_raises_the_limit_of_a_jump():
    noise = np.random.default_rng(0).integers(60, 140, 200)
    assert jumps(noise) == []
    assert 100 in jumps(np.where(np.arange(200) == 100, 5000, noise))


@given(st.lists(st.tuples(st.integers(0, 500), st.booleans()), max_size=40))
def test_frames_without_labels_change_no_jump(frames):
    """As if they were not there."""
    counts, done = [c for c, _ in frames], [d for _, d in frames]
    kept = [i for i, d in enumerate(done) if d]
    assert jumps(counts, done) == [kept[t] for t in jumps([counts[i] for i in kept])]


def test_every_kind_of_odd_frame_is_flagged():
    cells = np.full((2, 9), 20)
    cells[1, 4] = 3
    status = np.full((2, 9, 1), Status.DONE, np.uint8)
    status[0, 1], status[0, 2] = Status.FAILED, Status.DAMAGED
    marks = {n: np.zeros((2, 9, 1), bool) for n in ("blank", "saturated", "non_finite")}
    marks["blank"][0, 5] = marks["saturated"][0, 6] = marks["non_finite"][0, 2] = True
    numbers = numbers_of(cells, status=status, reasons={(1, 0, 0): "lightning"}, **marks)
    found = {(flag.place, flag.kind): flag.reason for flag in flags_of_numbers(numbers)}
    assert set(found) == {
        ((1, 0, 0), "failed"),
        ((2, 0, 0), "damaged"),
        ((2, 0, 0), "NaN"),
        ((5, 0, 0), "blank"),
        ((6, 0, 0), "saturated"),
        ((4, 1, 0), "jump"),
    }
    assert found[(1, 0, 0), "failed"] == "lightning"
    assert "20 to 3" in found[(4, 1, 0), "jump"]


flags = st.lists(
    st.builds(
        Flag,
        st.tuples(st.integers(0, 9), st.integers(0, 1), st.integers(0, 1)),
        st.sampled_from(KINDS),
        st.sampled_from(["one", "another"]),
    ),
    unique_by=lambda flag: (flag.place, flag.kind),
)


@given(flags)
def test_every_flagged_frame_is_in_exactly_one_entry(given_flags):
    covered = [
        (t, look.position, look.plane)
        for look in looks(given_flags)
        for t in range(look.first, look.last + 1)
    ]
    assert sorted(covered) == sorted({flag.place for flag in given_flags})


@given(flags)
def test_an_entry_names_all_that_is_odd_and_the_worst_comes_first(given_flags):
    entries = looks(given_flags)
    for look in entries:
        for t in range(look.first, look.last + 1):
            place = (t, look.position, look.plane)
            here = {(f.kind, f.reason) for f in given_flags if f.place == place}
            assert here == {(f.kind, f.reason) for f in look.flags}
    assert [e.flags[0].rank for e in entries] == sorted(e.flags[0].rank for e in entries)


def test_a_blank_movie_is_one_entry():
    found = looks(Flag((t, 0, 0), "blank", "empty") for t in range(10_000))
    assert [(look.first, look.last) for look in found] == [(0, 9999)]


def squares(*sides, at=4, height=60):
    """A frame of labels with one square for each side."""
    labels = np.zeros((height, 60 * len(sides)), np.uint32)
    for i, side in enumerate(sides):
        labels[at : at + side, 60 * i + 4 : 60 * i + 4 + side] = i + 1
    return labels


def test_areas_and_borders_are_those_of_the_labels():
    labels = squares(3, 5, 7)
    labels[0, 0] = 9  # a number that was left out
    sizes = measure_cells(labels)
    assert sizes.areas.tolist() == [9, 25, 49, 1]
    assert sizes.at_border.tolist() == [False, False, False, True]
    assert sizes.median_area == 17


def test_a_frame_without_cells_has_no_median():
    sizes = measure_cells(np.zeros((8, 8), np.uint32))
    assert np.isnan(sizes.median_area)
    assert flags_of_sizes({(0, 0, 0): sizes}) == []
    assert SizeLimits.of([]).suspicious(sizes) == (0, 0)


def test_very_small_and_very_large_cells_are_flagged():
    usual = measure_cells(squares(*[10] * 8))
    odd = measure_cells(squares(10, 10, 10, 2, 50))
    (flag,) = flags_of_sizes({(0, 0, 0): usual, (3, 0, 0): odd})
    assert (flag.place, flag.kind) == ((3, 0, 0), "sizes")
    assert flag.reason == "1 very small and 1 very large of 5 cells"


def test_a_cell_that_the_border_cuts_is_not_too_small():
    usual = measure_cells(squares(*[10] * 8))
    cut = squares(10, 10)
    cut[0, :3] = 3
    assert flags_of_sizes({(0, 0, 0): usual, (1, 0, 0): measure_cells(cut)}) == []


def test_a_frame_whose_border_cuts_most_cells_is_flagged():
    inside, cut = measure_cells(squares(9, 9, 9, 9)), measure_cells(squares(9, 9, 9, 9, at=0))
    (flag,) = flags_of_sizes({(0, 0, 0): inside, (1, 0, 0): cut})
    assert (flag.place, flag.kind) == ((1, 0, 0), "border")
    assert flag.reason == "the border cuts 4 of 4 cells"
