"""Scores: agreement with Cellpose, symmetry, and the rules for borders and partial truths."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cypose_dask.errors import SettingsError
from cypose_dask.learn import average_precision, evaluate_labels
from cypose_dask.learn.scoring.boundary import outline_errors
from cypose_dask.learn.scoring.counts import pooled
from cypose_dask.learn.scoring.matching import compact, overlaps_of

THRESHOLDS = (0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 1.0)


def scene(*cells, shape=(30, 40)):
    """Labels of rectangles (top, bottom, left, right), numbered from 1; None leaves a gap."""
    labels = np.zeros(shape, np.uint16)
    for number, cell in enumerate(cells, start=1):
        if cell is not None:
            top, bottom, left, right = cell
            labels[top:bottom, left:right] = number
    return labels


def random_pair(seed):
    """A pair with gaps, halves, shifts and cells in pieces: IoUs of exactly 0.5 are common."""
    random = np.random.default_rng(seed)
    cells, size = random.integers(0, 8), random.integers(1, 6)
    truth, predicted = (
        np.kron(random.integers(0, cells + 1, (4, 5)), np.ones((size, size), np.int32))
        for _ in range(2)
    )
    if random.random() < 0.5:
        keep = random.random((4, 5)) < 0.6
        predicted = np.where(np.kron(keep, np.ones((size, size), bool)), truth, predicted)
    predicted = np.roll(predicted, random.integers(0, size), axis=int(random.integers(2)))
    return (truth * 2).astype(np.uint16), (predicted * 3).astype(np.uint32)


def same_scores(one, other):
    expected, found = one.pooled.to_dict(), other.pooled.to_dict()
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value)), name


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_average_precision_is_exactly_cellposes(seed):
    from cellpose import metrics

    truth, predicted = random_pair(seed)
    ours = average_precision([truth], [predicted], thresholds=THRESHOLDS)
    # Cellpose counts gaps as cells, so it gets labels without.
    with np.errstate(invalid="ignore"):
        theirs = metrics.average_precision(
            [compact(truth)], [compact(predicted)], threshold=list(THRESHOLDS)
        )
    for one, other in zip((ours.ap, ours.tp, ours.fp, ours.fn), theirs, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pooled_scores_are_those_of_average_precision(seed):
    pairs = [random_pair(seed + i) for i in range(3)]
    truth, predicted = zip(*pairs, strict=True)
    counts = evaluate_labels(truth, predicted, thresholds=THRESHOLDS).pooled
    scores = average_precision(truth, predicted, thresholds=THRESHOLDS)
    for ours, theirs in ((counts.tp, scores.tp), (counts.fp, scores.fp), (counts.fn, scores.fn)):
        np.testing.assert_array_equal(ours, theirs.sum(axis=0))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_panoptic_quality_is_its_definition(seed):
    truth, predicted = random_pair(seed)
    counts = evaluate_labels(truth, predicted).pooled
    true, found = ([side == i for i in np.unique(side) if i] for side in (truth, predicted))
    iou = [(a & b).sum() / (a | b).sum() for a in true for b in found]
    hits = [value for value in iou if value > 0.5]
    whole = len(hits) + (len(true) - len(hits)) / 2 + (len(found) - len(hits)) / 2
    expected = sum(hits) / whole if whole else math.nan
    assert counts.pq == pytest.approx(expected, nan_ok=True)
    if hits:
        assert counts.pq == pytest.approx(counts.sq * counts.rq)
        assert counts.sq == pytest.approx(np.mean(hits))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_swapping_truth_and_prediction_changes_what_it_should_and_nothing_else(seed):
    truth, predicted = random_pair(seed)
    one = evaluate_labels(truth, predicted, thresholds=THRESHOLDS).pooled.to_dict()
    two = evaluate_labels(predicted, truth, thresholds=THRESHOLDS).pooled.to_dict()
    swapped = {"fp": "fn", "precision": "recall", "splits": "merges", "true_cells":
               "predicted_cells", "border_true": "border_predicted",
               "unpaired_true": "unpaired_predicted"}  # fmt: skip
    swapped |= {value: key for key, value in swapped.items()}
    assert two.pop("bias_px") == (
        pytest.approx(-one.pop("bias_px")) if one["outlined"] else one.pop("bias_px")
    )
    for name, value in one.items():
        expected = None if value is None else pytest.approx(value)
        assert two[swapped.get(name, name)] == expected, name


def test_a_swap_is_seen_where_the_two_differ():
    truth, predicted = scene((2, 12, 2, 12), (2, 12, 20, 30)), scene((2, 12, 2, 12))
    counts = evaluate_labels(truth, predicted).pooled
    assert (counts.precision[0], counts.recall[0]) == (1, 0.5)
    assert (counts.tp[0], counts.fp[0], counts.fn[0]) == (1, 0, 1)
    assert counts.f1[0] == pytest.approx(2 / 3)


def test_scores_do_not_depend_on_the_numbers_of_cells():
    truth, predicted = random_pair(7)
    numbers = np.random.default_rng(0).integers(1, 2**32, size=predicted.max() + 1)
    numbers[0] = 0
    assert len(set(numbers)) == len(numbers)
    renamed = numbers.astype(np.uint32)[predicted]
    assert renamed.max() > 2**31
    same_scores(evaluate_labels(truth, predicted), evaluate_labels(truth, renamed))


def test_scores_do_not_depend_on_orientation():
    truth, predicted = random_pair(11)
    turned = evaluate_labels(truth.T[::-1], predicted.T[::-1])
    same_scores(evaluate_labels(truth, predicted), turned)


def test_the_truth_is_perfect_and_nothing_is_nothing():
    truth, _ = random_pair(3)
    counts = evaluate_labels(truth, truth).pooled
    assert counts.ap == counts.precision == counts.recall == counts.f1 == (1, 1, 1)
    assert (counts.pq, counts.boundary_px, counts.bias_px, counts.errors) == (1, 0, 0, 0)
    empty = evaluate_labels(truth, np.zeros_like(truth)).pooled
    assert empty.ap == (0, 0, 0)
    assert empty.pq == 0
    assert math.isnan(empty.precision[0])
    assert math.isnan(empty.boundary_px)


def test_a_frame_without_cells_in_either_is_not_averaged():
    truth, empty = scene((2, 12, 2, 12)), scene()
    evaluation = evaluate_labels([truth, empty], [truth, empty])
    assert evaluation.mean_ap == (1, 1, 1)
    assert evaluation.n_without_ap == 1
    assert evaluation.to_dict()["mean_over_frames"]["frames_left_out"] == 1
    assert evaluation.pooled.ap == (1, 1, 1)
    assert evaluation.to_dict()["frames"][1]["ap"] == [None] * 3
    assert evaluation.worst(3) == []


@pytest.mark.parametrize("n_empty", [0, 1, 3])
def test_frames_without_cells_on_either_side_do_not_change_the_mean(n_empty):
    truth, missed = scene((2, 12, 2, 12)), scene()
    found = [truth, missed, truth, *[scene()] * n_empty]
    scores = average_precision([truth, truth, truth, *[scene()] * n_empty], found)
    assert scores.mean_ap.tolist() == pytest.approx([2 / 3] * 3)
    assert scores.n_without_ap == n_empty
    # Cells where there are none are an error, and such a frame counts.
    assert average_precision([truth, scene()], [truth, truth]).mean_ap.tolist() == [0.5] * 3


@pytest.mark.filterwarnings("error")
def test_the_mean_of_nothing_is_not_a_number():
    assert np.isnan(average_precision([scene()], [scene()]).mean_ap).all()
    assert np.isnan(average_precision([], []).mean_ap).all()


def test_mean_of_frames_weighs_frames_and_pooled_weighs_cells():
    truth = [scene((2, 8, 2, 8)), scene(*((2, 8, x, x + 6) for x in (0, 8, 16, 24)))]
    evaluation = evaluate_labels(truth, [scene(), truth[1]])
    assert evaluation.mean_ap[0] == 0.5
    assert evaluation.pooled.ap[0] == 0.8
    assert evaluation.worst(5) == [0]


def test_of_two_frames_without_a_match_the_one_with_more_errors_is_worse():
    one, two = scene((2, 8, 2, 8)), scene((2, 8, 2, 8), (2, 8, 10, 16))
    assert evaluate_labels([one, two, one], [scene(), scene(), one]).worst(3) == [1, 0]


def test_half_of_a_cell_twice_is_one_match_at_one_half_and_none_above():
    truth = scene((0, 10, 0, 20))
    halves = scene((0, 10, 0, 10), (0, 10, 10, 20))
    counts = evaluate_labels(truth, halves, thresholds=(0.5,)).pooled
    assert (counts.tp, counts.fp, counts.fn) == ((1,), (1,), (0,))
    assert counts.pairs == 0
    assert (counts.splits, counts.merges) == (1, 0)


def test_more_matches_win_over_a_better_one():
    # The middle prediction fits the first truth best, but then the second truth stays alone.
    truth = scene((0, 10, 0, 10), (0, 10, 10, 20))
    predicted = scene((0, 10, 0, 4), (0, 10, 4, 14))
    assert len(overlaps_of(truth, predicted).match(0.2)) == 2
    assert average_precision([truth], [predicted], thresholds=(0.2,)).tp[0, 0] == 2


def test_splits_and_merges_need_more_than_half_of_each_piece():
    truth = scene((2, 12, 2, 12), (2, 12, 12, 22))
    assert evaluate_labels(truth, scene((2, 12, 2, 22))).pooled.merges == 1
    assert evaluate_labels(truth, scene((2, 12, 2, 17))).pooled.merges == 0
    assert evaluate_labels(truth, scene((2, 12, 2, 18))).pooled.merges == 1
    assert evaluate_labels(scene((2, 12, 2, 17)), truth).pooled.splits == 0
    assert evaluate_labels(scene((2, 12, 2, 18)), truth).pooled.splits == 1


@pytest.mark.parametrize("grown", [1, 2, 3])
def test_bias_is_the_width_of_the_rim_and_has_the_sign_of_fatness(grown):
    truth = scene((10, 20, 10, 25))
    fat = scene((10 - grown, 20 + grown, 10 - grown, 25 + grown))
    counts = evaluate_labels(truth, fat, thresholds=(0.1,)).pooled
    if counts.outlined:
        assert counts.bias_px == pytest.approx(grown, abs=0.1 * grown)
        assert counts.boundary_px == counts.bias_px
    _, thin = outline_errors(fat, truth, np.array([[1, 1]]))
    _, wide = outline_errors(truth, fat, np.array([[1, 1]]))
    assert thin[0] == -wide[0] < 0


def test_a_shifted_cell_has_an_error_and_no_bias():
    counts = evaluate_labels(scene((5, 20, 5, 20)), scene((5, 20, 7, 22))).pooled
    assert counts.boundary_px > 0.5
    assert counts.bias_px == pytest.approx(0, abs=1e-12)


def test_the_edge_of_the_frame_is_no_outline():
    whole = np.ones((10, 10), int)
    counts = evaluate_labels(whole, whole).pooled
    assert (counts.pairs, counts.outlined) == (1, 0)
    # Half of the frame, one pixel too far: only the inner edge counts.
    left, further = scene((0, 30, 0, 20)), scene((0, 30, 0, 21))
    assert evaluate_labels(left, further).pooled.bias_px == 1


BORDER = (0, 10, 5, 15)
INSIDE = (15, 25, 5, 15)


@pytest.mark.parametrize(
    ("truth", "predicted", "counts"),
    [
        ([BORDER, INSIDE], [None, INSIDE], (1, 0, 0)),  # a border cell is no miss
        ([BORDER, INSIDE], [BORDER, INSIDE], (1, 0, 0)),  # nor a hit
        ([INSIDE], [BORDER, INSIDE], (1, 0, 0)),  # nor too many
        ([BORDER, INSIDE], [(1, 10, 5, 15), INSIDE], (1, 0, 0)),  # what matches it is excused
        ([BORDER, INSIDE], [(4, 7, 5, 9), INSIDE], (1, 0, 0)),  # and what lies in it
        ([BORDER, INSIDE], [(9, 14, 5, 15), INSIDE], (1, 1, 0)),  # but not what hardly does
        ([(1, 11, 5, 15)], [(0, 11, 5, 15)], (1, 0, 0)),  # a match inside is a hit
        ([INSIDE], [(0, 30, 0, 40)], (0, 0, 1)),  # a giant does not hide a miss
        ([INSIDE], [(16, 18, 20, 30)], (0, 1, 1)),
    ],
)
def test_ignore_border_scores_no_cell_that_the_frame_cuts(truth, predicted, counts):
    found = evaluate_labels(scene(*truth), scene(*predicted), ignore_border=True).pooled
    assert (found.tp[0], found.fp[0], found.fn[0]) == counts
    assert found.true_cells == found.tp[0] + found.fn[0]
    assert found.predicted_cells == found.tp[0] + found.fp[0]


@pytest.mark.parametrize("turns", range(4))
def test_every_side_of_the_frame_is_a_border(turns):
    truth = np.rot90(scene(BORDER, INSIDE), turns)
    counts = evaluate_labels(truth, np.zeros_like(truth), ignore_border=True).pooled
    assert (counts.true_cells, counts.border_true) == (1, 1)


def test_cells_at_the_border_are_no_splits_and_no_merges():
    truth = scene(BORDER, INSIDE)
    pieces = scene((0, 10, 5, 10), (0, 10, 10, 15), INSIDE)
    assert evaluate_labels(truth, pieces).pooled.splits == 1
    assert evaluate_labels(truth, pieces, ignore_border=True).pooled.splits == 0
    assert evaluate_labels(pieces, truth).pooled.merges == 1
    assert evaluate_labels(pieces, truth, ignore_border=True).pooled.merges == 0


def test_ignore_border_changes_nothing_where_no_cell_touches_it():
    truth = np.pad(random_pair(5)[0], 1)
    predicted = np.pad(random_pair(5)[1], 1)
    plain, ignoring = (
        evaluate_labels(truth, predicted, ignore_border=ignore).pooled.to_dict()
        for ignore in (False, True)
    )
    assert plain == ignoring


def test_partial_truth_counts_no_prediction_as_an_error():
    truth = scene((2, 12, 2, 12), (2, 12, 20, 30))
    predicted = scene((2, 12, 2, 12), (16, 26, 2, 12), (16, 26, 20, 30))
    partial = evaluate_labels(truth, predicted, partial_truth=True)
    whole = evaluate_labels(truth, predicted)
    assert partial.pooled.recall == whole.pooled.recall == (0.5, 0.5, 0.5)
    assert partial.pooled.sq == 1
    for name in ("precision", "f1", "ap", "rq", "pq"):
        assert np.isnan(getattr(partial.pooled, name)).all()
        assert not np.isnan(getattr(whole.pooled, name)).any()
    assert partial.pooled.to_dict()["fp"] is None
    assert np.isnan(partial.mean_ap).all()
    assert partial.worst(1) == [0]


def test_more_predictions_do_not_change_the_scores_of_a_partial_truth():
    truth = scene((2, 12, 2, 12))
    one, two = (
        evaluate_labels(truth, side, partial_truth=True).pooled.to_dict()
        for side in (scene((2, 12, 2, 13)), scene((2, 12, 2, 13), (16, 26, 2, 12)))
    )
    assert (one.pop("predicted_cells"), two.pop("predicted_cells")) == (1, 2)
    assert one == two


def test_frames_are_read_one_at_a_time():
    read = []

    def frames(side):
        for _ in range(3):
            read.append(side)
            yield scene((2, 12, 2, 12))

    evaluation = evaluate_labels(frames("truth"), frames("prediction"), names="abcde")
    assert [frame.name for frame in evaluation.frames] == list("abc")
    assert read == ["truth", "prediction"] * 3


@pytest.mark.parametrize(
    ("truth", "predicted", "says"),
    [
        ([scene()] * 2, [scene()] * 3, "2 true and 3 predicted"),
        ([scene()] * 3, [scene()] * 2, "3 true and 2 predicted"),
        ([], [], "no frames"),
        (scene(), scene(shape=(30, 41)), r"\(30, 40\).*\(30, 41\)"),
        (scene().astype(float), scene(), "whole numbers"),
        (scene(), scene().astype(int) - 1, "label of -1"),
        (np.zeros((2, 3, 4, 5), int), np.zeros((2, 3, 4, 5), int), r"\(3, 4, 5\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(truth, predicted, says):
    with pytest.raises(SettingsError, match=says):
        evaluate_labels(truth, predicted)


@pytest.mark.parametrize("thresholds", [(), (0,), (1.1,), (0.5, -1), (math.nan,)])
def test_thresholds_out_of_range_are_refused(thresholds):
    with pytest.raises(SettingsError, match="above 0"):
        evaluate_labels(scene(), scene(), thresholds=thresholds)


def test_a_dense_large_frame_needs_no_dense_table():
    import tracemalloc

    row, column = np.mgrid[:1024, :1024]
    inside = (row % 12 < 10) & (column % 12 < 10)
    truth = np.where(inside, row // 12 * 100 + column // 12 + 1, 0).astype(np.uint16)
    predicted = np.roll(truth, 1, axis=1)
    tracemalloc.start()
    overlaps = overlaps_of(compact(truth), compact(predicted))
    matched = overlaps.match(0.3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    cells = len(np.unique(truth)) - 1
    assert cells > 7000
    assert len(matched) >= cells - 200
    assert peak < cells**2 * 8 / 4


def test_counts_at_different_thresholds_do_not_add_up():
    counts = [evaluate_labels(scene(), scene(), thresholds=(t,)).pooled for t in (0.5, 0.6)]
    with pytest.raises(ValueError, match="same thresholds"):
        pooled(counts)
