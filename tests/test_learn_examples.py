"""Labelled frames in memory: what fits together, and which frames are set aside."""

from __future__ import annotations

import numpy as np
import pytest

from cypose_dask.errors import SettingsError
from cypose_dask.learn import Examples
from cypose_dask.learn.training.examples import split_by_movie, split_in_time


def make(*counts: int) -> Examples:
    """Movies of so many frames each; a frame's pixels hold its number."""
    movies = tuple(f"movie {m}" for m, count in enumerate(counts) for _ in range(count))
    frames = tuple(np.full((1, 4, 5), i) for i in range(len(movies)))
    return Examples(frames, tuple(np.full((4, 5), i % 3) for i in range(len(movies))), movies)


def numbers(examples: Examples) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in examples.frames]


def test_frames_labels_and_movies_must_be_equally_many():
    one = make(1)
    with pytest.raises(SettingsError, match="1 frames, 0 labels and 1 movies"):
        Examples(one.frames, (), one.movies)


def test_labels_must_have_the_size_of_their_frame():
    with pytest.raises(SettingsError, match=r"of a is \(1, 4, 5\) and its labels are \(5, 4\)"):
        Examples((np.zeros((1, 4, 5)),), (np.zeros((5, 4), int),), ("a",))
    with pytest.raises(SettingsError, match=r"expected \(C, Y, X\)"):
        Examples((np.zeros((4, 5)),), (np.zeros((4, 5), int),), ("a",))


def test_examples_add_up_and_are_taken_in_the_order_asked_for():
    both = make(2) + make(3)
    assert len(both) == 5
    assert numbers(both) == [0, 1, 0, 1, 2]
    assert numbers(both.take([4, 0])) == [2, 0]


def test_a_description_counts_frames_and_cells_of_each_movie():
    assert make(1, 3).describe() == ["movie 0: 1 frame, 0 cells", "movie 1: 3 frames, 2 cells"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("counts", "share"), [((5, 5, 5, 5), 0.25), ((1, 19), 0.2), ((3, 3), 0.9), ((1, 2, 30), 0.01)]
)
def test_a_movie_is_trained_on_or_set_aside_and_no_frame_is_lost(counts, share, seed):
    examples = make(*counts)
    training, aside = split_by_movie(examples, share=share, seed=seed)
    assert set(training.movies).isdisjoint(aside.movies)
    assert sorted(numbers(training) + numbers(aside)) == list(range(sum(counts)))
    assert len(training) > 0
    assert len(aside) > 0


@pytest.mark.parametrize("seed", range(10))
def test_the_share_that_is_set_aside_is_as_close_as_whole_movies_allow(seed):
    assert len(split_by_movie(make(5, 5, 5, 5), share=0.25, seed=seed)[1]) == 5
    # Not the movie of 19 frames, whichever is drawn first.
    assert len(split_by_movie(make(1, 19), share=0.2, seed=seed)[1]) == 1


def test_the_same_seed_sets_the_same_movies_aside():
    examples = make(*[2] * 20)
    first, again, other = (
        set(split_by_movie(examples, share=0.2, seed=seed)[1].movies) for seed in (3, 3, 4)
    )
    assert first == again != other


def test_one_movie_cannot_be_split_by_movie():
    with pytest.raises(SettingsError, match=r"All 3 labelled frames come from one movie \(movie 0"):
        split_by_movie(make(3), share=0.2, seed=0)


@pytest.mark.parametrize(
    ("count", "share", "aside"),
    [(20, 0.2, [8, 9, 10, 11]), (2, 0.2, [1]), (3, 0.9, [1, 2]), (5, 0.2, [2]), (10, 0.01, [5])],
)
def test_frames_of_one_movie_are_set_aside_in_one_block(count, share, aside):
    training, held = split_in_time(make(count), share=share)
    assert numbers(held) == aside
    assert numbers(training) == [i for i in range(count) if i not in aside]


def test_one_frame_cannot_be_split():
    with pytest.raises(SettingsError, match="There is 1 labelled frame; expected two or more"):
        split_in_time(make(1), share=0.2)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(SettingsError, match="above 0 and below 1"):
        split_in_time(make(5), share=share)
    with pytest.raises(SettingsError, match="above 0 and below 1"):
        split_by_movie(make(2, 2), share=share, seed=0)
