"""Linking: what the same cell is, what a division is, and what changes nothing."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cypose_dask.learn import synthetic_movie
from cypose_dask.results.linking import LINKERS, growth_curves, track_table
from cypose_dask.results.linking.counting import overlaps_of
from cypose_dask.results.linking.hypotheses import Hypothesis, most_likely
from cypose_dask.results.linking.motion import drift_between, motion_between
from helpers.tracked import frame, link, link_known, of_cells, renumbered

BOTH = pytest.mark.parametrize("linker", list(LINKERS))
# A cell that divides after frame 1, and one below that does not.
ALONE = {9: (20, 10, 6, 20)}
MOTHER, DAUGHTERS = {1: (5, 10, 6, 24)}, {2: (5, 10, 6, 11), 3: (5, 23, 6, 11)}
DIVIDING = [frame({**ALONE, **cells}) for cells in (MOTHER, MOTHER, DAUGHTERS, DAUGHTERS)]


@BOTH
def test_daughters_are_new_tracks_of_their_mother(linker):
    of, mothers = link_known(DIVIDING, linker=linker)
    assert of == {1: 1, 9: 2, 2: 3, 3: 4}
    assert mothers == {2: 1, 3: 1}


@BOTH
def test_a_drift_of_everything_changes_nothing(linker):
    drifted = [np.roll(labels, (3 * t, 5 * t), (0, 1)) for t, labels in enumerate(DIVIDING)]
    assert link_known(drifted, linker=linker) == link_known(DIVIDING, linker=linker)


def test_a_frame_of_another_position_of_the_stage_is_found_again():
    shape = (300, 700)  # larger than what drift is looked for in
    crowd = np.zeros(shape, np.uint32)
    random = np.random.default_rng(1)
    for number in range(1, 41):
        y, x = random.integers(20, 260), random.integers(20, 640)
        crowd[y : y + 8, x : x + 22] = number
    jumped = np.roll(crowd, (13, -17), (0, 1))
    assert drift_between(crowd > 0, jumped > 0) == (13, -17)
    of, _ = link_known([crowd, jumped])
    assert len(of) == len(np.unique(crowd)) - 1


@BOTH
def test_numbers_of_labels_mean_nothing(linker):
    labels, who = zip(*(renumbered(one) for one in DIVIDING), strict=True)
    swapped = [np.where(one > 0, one.max() + 1 - one, 0) for one in labels]
    found = of_cells(link(swapped, linker=linker), [one[::-1] for one in who])
    plain = of_cells(link(labels, linker=linker), list(who))
    assert {frozenset(cells) for cells in _partition(found)} == {
        frozenset(cells) for cells in _partition(plain)
    }


def _partition(found: dict[int, set[int]]) -> list[set[int]]:
    tracks = {track for one in found.values() for track in one}
    return [{cell for cell, one in found.items() if track in one} for track in tracks]


@BOTH
def test_a_cell_that_is_missed_once_is_the_same_afterwards(linker):
    missed = [frame({1: (5, 5, 8, 20), **({} if t == 2 else ALONE)}) for t in range(5)]
    of, mothers = link_known(missed, linker=linker)
    assert len(of) == 2
    assert not mothers
    labels, who = zip(*(renumbered(one) for one in missed), strict=True)
    assert len(of_cells(link(labels, gap=0, linker=linker), list(who))[9]) == 2


@BOTH
def test_a_cell_that_only_touches_where_another_was_is_not_that_one(linker):
    still = {1: (5, 5, 12, 50)}  # most of what there is, so that no drift is looked for
    scenes = [frame({**still, 2: (20, 10, 6, 20)}), frame({**still, 3: (20, 29, 6, 20)})]
    of, mothers = link_known(scenes, linker=linker)
    assert sorted(of) == [1, 2, 3]
    assert not mothers


@BOTH
def test_frames_without_labels_are_passed_over(linker):
    labels = [renumbered(one)[0] for one in DIVIDING]
    broken = [labels[0], None, None, None, *labels[1:]]
    linked = link(broken, gap=0, linker=linker)
    assert linked.t.tolist() == [0, 0, 4, 4, 5, 5, 5, 6, 6, 6]
    assert len(linked.parent) == 4
    assert linked.parent.tolist() == [0, 0, 1, 1]


def test_two_cells_that_are_merged_once_are_two_again():
    apart = frame({1: (5, 10, 6, 12), 2: (5, 23, 6, 12)})
    merged = frame({1: (5, 10, 6, 25)})
    linked = link([apart, apart, merged, apart, apart])
    assert [linked.of_frame(t).tolist() for t in (0, 1, 3, 4)] == [[1, 2]] * 4
    assert linked.parent.tolist() == [0, 0]


def test_a_division_that_is_taken_back_was_none():
    whole, halves = frame(MOTHER), renumbered(frame(DAUGHTERS))[0]
    linked = link([whole, halves, whole, whole, halves, halves, halves])
    assert [linked.of_frame(t)[0] for t in (0, 2, 3)] == [1, 1, 1]
    # Of the two pieces of frame 1 one was the mother, and the other belongs to her lineage.
    assert sorted(linked.of_frame(1).tolist()) == [1, 2]
    assert linked.parent.tolist() == [0, 0, 1, 1]
    assert linked.lineage.tolist() == [1, 1, 1, 1]
    assert linked.of_frame(4).tolist() == linked.of_frame(6).tolist() == [3, 4]


def test_a_small_piece_is_no_daughter():
    whole = frame({1: (5, 10, 6, 30)})
    chipped = frame({1: (5, 10, 6, 26), 2: (5, 37, 6, 3)})
    linked = link([whole, chipped, chipped])
    assert linked.of_frame(2)[0] == 1
    assert linked.parent.tolist() == [0, 0]


def test_what_lies_elsewhere_is_another_cell():
    linked = link([frame({1: (2, 2, 6, 20)}), frame({1: (15, 25, 6, 20)})])
    assert linked.track.tolist() == [1, 1]  # one cell that moved: the drift of everything
    one, other = {1: (2, 2, 6, 20), 2: (12, 2, 6, 20)}, {1: (2, 2, 6, 20), 2: (30, 35, 6, 20)}
    assert link([frame(one), frame(other)]).track.tolist() == [1, 2, 1, 3]


@BOTH
@pytest.mark.parametrize("frames", [[], [frame({})] * 3, [frame({}), frame(MOTHER), frame({})]])
def test_empty_frames_are_no_trouble(linker, frames):
    linked = link(frames, linker=linker)
    assert len(linked.parent) == len(linked.t) == sum(one.max() for one in frames)


# ---- the pieces ----------------------------------------------------------------------------

LABELS = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 5, (9, 11))
)
SHIFTS = st.tuples(st.integers(-12, 12), st.integers(-12, 12))


@given(LABELS, LABELS, SHIFTS)
def test_overlaps_are_counts_of_pixels(before, after, drift):
    found = overlaps_of(before, after, np.array([drift]))
    moved = np.zeros_like(before)
    for y, x in np.argwhere(before):
        if 0 <= y + drift[0] < 9 and 0 <= x + drift[1] < 11:
            moved[y + drift[0], x + drift[1]] = before[y, x]
    expected = [
        (a, b, int(np.count_nonzero((moved == a) & (after == b))))
        for a in range(1, 5)
        for b in range(1, 5)
        if ((moved == a) & (after == b)).any()
    ]
    assert list(found.rows()) == expected


@given(LABELS, LABELS, st.lists(SHIFTS, min_size=4, max_size=4))
def test_each_cell_may_have_a_motion_of_its_own(before, after, motion):
    before = np.where(before > 0, before, 0)
    if before.max() < 4:
        before[0, :4] = [1, 2, 3, 4]
    found = list(overlaps_of(before, after, np.array(motion)).rows())
    expected = [
        row
        for cell in range(1, 5)
        for row in overlaps_of(np.where(before == cell, cell, 0), after, np.array(motion)).rows()
    ]
    assert found == expected


def test_cells_of_a_colony_that_expands_are_moved_with_their_neighbours():
    random = np.random.default_rng(2)
    places = np.zeros((0, 2), int)
    while len(places) < 90:  # not on a grid, which fits itself at every period
        place = random.integers(60, 240, (1, 2))
        if (np.abs(places - place).max(axis=1) > 11).all():
            places = np.concatenate([places, place])
    spread = np.rint((places - 150) * 1.07 + 150).astype(int)
    shape = (300, 300)
    one, other = (
        frame({i: (y, x, 9, 9) for i, (y, x) in enumerate(at.tolist(), 1)}, shape)
        for at in (places, spread)
    )
    assert np.abs(spread - places).max() >= 6  # of 9 px that a cell has
    left = np.abs(motion_between(one, other) - (spread - places))
    assert left.mean() < 0.7 * np.abs(spread - places).mean()


@st.composite
def some_hypotheses(draw):
    things = st.lists(st.integers(0, 4), min_size=1, max_size=2, unique=True).map(tuple)
    scores = st.integers(1, 100).map(lambda n: n / 100)
    return draw(st.lists(st.builds(Hypothesis, things, things, scores), max_size=9))


@given(some_hypotheses())
@settings(max_examples=150)
def test_the_highest_sum_without_contradiction_is_chosen(hypotheses):
    def is_possible(chosen):
        tracks = [k for one in chosen for k in one.tracks]
        cells = [c for one in chosen for c in one.cells]
        return len(set(tracks)) == len(tracks) and len(set(cells)) == len(cells)

    best = max(
        sum(one.score for one in chosen)
        for n in range(len(hypotheses) + 1)
        for chosen in combinations(hypotheses, n)
        if is_possible(chosen)
    )
    found = most_likely(hypotheses)
    assert is_possible(found)
    assert sum(one.score for one in found) == pytest.approx(best)


def test_tracks_without_gaps_have_parents_for_them():
    missed = [renumbered(frame({1: (5, 5, 8, 20), **({} if t == 2 else ALONE)}))[0]
              for t in range(5)]  # fmt: skip
    unbroken = link(missed).unbroken()
    assert unbroken.track.tolist() == [1, 2, 1, 2, 1, 1, 3, 1, 3]
    assert unbroken.parent.tolist() == [0, 0, 2]
    assert unbroken.lineage.tolist() == [1, 2, 2]


# ---- what tracks tell ----------------------------------------------------------------------


def growing(widths, t=0):
    return [frame({1: (5, 5, 10, width)}, (20, 300)) for width in widths]


def test_growth_rate_and_doubling_time_are_those_of_the_area():
    linked = link(growing([20, 40, 80, 160]))  # doubles every frame
    table = track_table(linked, pixel_size_um=0.1, interval_s=1800.0)
    assert table["growth_rate_per_h"].tolist() == pytest.approx([2 * np.log(2)])
    assert table["doubling_time_h"].tolist() == pytest.approx([0.5])
    assert (table["area_begin_px"][0], table["area_end_px"][0]) == (200, 1600)
    assert table["area_end_um2"][0] == pytest.approx(16.0)
    assert (table["begin_s"][0], table["end_s"][0]) == (0.0, 5400.0)


def test_what_is_unknown_is_empty():
    linked = link(growing([20, 21]))
    table = track_table(linked, pixel_size_um=None, interval_s=None)
    for name in ("area_begin_um2", "begin_s", "growth_rate_per_h", "doubling_time_h"):
        assert np.isnan(table[name]).all()
    assert table["area_begin_px"].tolist() == [200]
    shrinking = track_table(link(growing([40, 30, 20])), pixel_size_um=1.0, interval_s=60.0)
    assert shrinking["growth_rate_per_h"][0] < 0
    assert np.isnan(shrinking["doubling_time_h"][0])


def test_lineages_hold_every_cell_once():
    linked = link([renumbered(one)[0] for one in DIVIDING])
    table = track_table(linked, pixel_size_um=0.1, interval_s=60.0)
    assert table["generation"].tolist() == [0, 0, 1, 1]
    assert table["daughters"].tolist() == [2, 0, 0, 0]
    assert table["lineage"].tolist() == [1, 2, 1, 1]
    curves = growth_curves(linked, pixel_size_um=0.1, interval_s=60.0)
    assert curves["lineage"].tolist() == [1] * 4 + [2] * 4
    assert curves["cells"].tolist() == [1, 1, 2, 2, 1, 1, 1, 1]
    assert curves["time_s"].tolist() == [0, 60, 120, 180] * 2
    whole = [int((one > 0).sum()) for one in DIVIDING]
    by_t = curves["area_px"].reshape(2, 4).sum(axis=0)
    assert by_t.tolist() == whole
    assert curves["area_um2"] == pytest.approx(curves["area_px"] * 0.01)


# ---- whole movies --------------------------------------------------------------------------


@pytest.mark.parametrize(("species", "seed"), [("rods", 4), ("ovals", 7)])
def test_every_cell_of_a_crowded_colony_is_followed(species, seed):
    film = synthetic_movie(n_frames=20, shape=(320, 320), seed=seed, species=species, n_channels=1)
    known = [
        np.array([0, *numbers])[labels]
        for numbers, labels in zip(film.numbers, film.labels, strict=True)
    ]
    of, mothers = link_known(known)
    assert mothers == {cell: film.mothers[cell] for cell in of if cell in film.mothers}
    assert len(mothers) > 90


@pytest.mark.parametrize("linker", ["overlap", pytest.param("laptrack", marks=pytest.mark.slow)])
def test_every_cell_and_every_division_of_a_real_movie_is_found(shared_data, linker):
    from helpers.real_truth import oufti_ancestors, oufti_labels

    path = shared_data / "oufti_caulobacter_timelapse" / "meshes.mat"
    frames = [oufti_labels(path, (200, 260), t) for t in range(100)]
    of, mothers = link_known(frames, linker=linker)
    assert len(of) == 36
    assert mothers == oufti_ancestors(path)
    assert len(mothers) == 22


# ---- whatever the labels are ---------------------------------------------------------------

HALVES = renumbered(frame(DAUGHTERS))[0]
SCENES = st.lists(
    st.sampled_from([frame(MOTHER), HALVES, frame({}), frame({1: (5, 10, 6, 11)}), None]),
    max_size=12,
)
NOISE = st.lists(
    st.integers(0, 2**32 - 1).map(
        lambda seed: renumbered(np.random.default_rng(seed).integers(0, 6, (3, 4)))[0]
    ),
    max_size=7,
)


@given(st.one_of(SCENES, NOISE), st.integers(0, 3), st.sampled_from(list(LINKERS)))
@settings(max_examples=150)
def test_tracks_never_contradict_themselves(frames, gap, linker):
    linked = link(frames, gap=gap, linker=linker)
    for cells in (linked, linked.unbroken()):
        tracks = np.arange(1, len(cells.parent) + 1)
        begin, end = cells.spans()
        assert sorted(set(cells.track.tolist())) == tracks.tolist()
        for t in set(cells.t.tolist()):
            assert len(set(cells.of_frame(t).tolist())) == len(cells.of_frame(t))
        assert (cells.parent < tracks).all()
        born = np.flatnonzero(cells.parent)
        assert (end[cells.parent[born] - 1] < begin[born]).all()
        assert (cells.lineage[born] == cells.lineage[cells.parent[born] - 1]).all()
        assert (np.diff(begin) >= 0).all()
    daughters = np.bincount(linked.parent)[1:]
    assert set(daughters.tolist()) <= ({0, 2} if linker == "overlap" else {0, 1, 2, 3, 4, 5})
    unbroken = linked.unbroken()
    begin, end = unbroken.spans()
    assert np.bincount(unbroken.track)[1:].tolist() == (end - begin + 1).tolist()
