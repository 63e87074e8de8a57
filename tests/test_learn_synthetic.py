"""Synthetic frames and movies: seeded, exactly labelled, and what they claim to be."""

import numpy as np
import pytest
from scipy.ndimage import label as components

from cypose_dask.errors import SettingsError
from cypose_dask.learn import synthetic_frame, synthetic_movie, training_set
from cypose_dask.learn.colony import Habit, divide, found, relax
from cypose_dask.learn.raster import MIN_LABEL_PX, label_cells, largest_pieces, rasterise
from cypose_dask.learn.synthetic import LOOKS

SEEDS = range(12)


@pytest.fixture(scope="module")
def frames():
    return [synthetic_frame(seed, shape=(160, 160)) for seed in SEEDS]


@pytest.fixture(scope="module")
def movie():
    return synthetic_movie()


def test_a_seed_gives_the_same_frame_and_another_seed_another(frames):
    again = synthetic_frame(3, shape=(160, 160))
    np.testing.assert_array_equal(again.frame, frames[3].frame)
    np.testing.assert_array_equal(again.labels, frames[3].labels)
    assert not np.array_equal(frames[3].frame, frames[4].frame)


def test_labels_are_numbered_without_gaps(frames):
    for made in frames:
        assert set(np.unique(made.labels)) - {0} == set(range(1, int(made.labels.max()) + 1))


def test_every_label_is_one_piece_and_not_a_crumb(frames):
    for made in frames:
        for cell in range(1, int(made.labels.max()) + 1):
            mask = made.labels == cell
            assert components(mask)[1] == 1
            assert mask.sum() >= MIN_LABEL_PX


def test_frames_have_the_asked_shape_and_dtype():
    made = synthetic_frame(1, shape=(96, 130))
    assert made.frame.shape == made.labels.shape == (96, 130)
    assert (made.frame.dtype, made.labels.dtype) == (np.uint16, np.uint32)


@pytest.mark.parametrize("look", LOOKS)
def test_labels_lie_on_the_cells_that_were_rendered(look):
    """Cells differ from their own surroundings, with the sign that the microscope gives."""
    steps = []
    for seed in SEEDS:
        made = synthetic_frame(seed, shape=(160, 160), look=look)
        frame = made.frame.astype(float)
        inside, outside = made.labels > 0, made.labels == 0
        if inside.any() and outside.any():
            steps.append((frame[inside].mean() - frame[outside].mean()) / frame.std())
    steps = np.array(steps)
    if look == "fluorescence":
        assert (steps > 0.3).all()
    elif look == "phase":
        assert (steps < -0.3).mean() > 0.8  # a few are negative phase contrast
    else:
        assert (np.abs(steps) > 0.2).mean() > 0.7


def test_shifting_the_labels_off_the_cells_loses_contrast():
    """An off-by-some error between image and labels would show here."""
    made = synthetic_frame(14, shape=(200, 200), look="fluorescence")
    frame = made.frame.astype(float)

    def contrast(shift):
        moved = np.roll(made.labels, shift, axis=(0, 1)) > 0
        return frame[moved].mean() - frame[~moved].mean()

    aligned = contrast((0, 0))
    assert all(aligned > contrast(step) for step in [(2, 0), (-2, 0), (0, 2), (0, -2)])


def test_ghosts_are_drawn_but_not_labelled():
    cells = found(np.array([20.0, 60.0]), np.array([40.0, 40.0]), habit=Habit(radius=6), rng=_rng())
    geometry = rasterise(cells, (80, 80))
    labels = label_cells(geometry, np.array([1.0, -1.0]))
    assert labels.max() == 1
    assert labels[20, 40] == 1
    assert labels[60, 40] == 0
    assert geometry.owner[60, 40] == 2


def test_largest_piece_of_a_torn_label_is_kept():
    labels = np.zeros((20, 40), np.int32)
    labels[2:12, 2:12] = 3
    labels[2:10, 20:28] = 3
    labels[15:17, 30:32] = 5  # a crumb
    kept = largest_pieces(labels)
    assert (kept[2:12, 2:12] == 3).all()
    assert (kept > 0).sum() == 100


def test_relaxed_cells_do_not_overlap():
    """Parted cells cover the sum of their areas; a crowd of overlapping ones covers less."""
    habit = Habit(radius=4, gap=1.0)
    spots = 170 + _rng(1).uniform(0, 60, (2, 25))
    crowd = found(*spots, habit=habit, rng=_rng())
    crowd.bend[:] = 0
    whole = (np.pi * crowd.radius**2 + 4 * crowd.radius * crowd.half).sum()

    def covered(cells):
        return (rasterise(cells, (400, 400)).depth > 0).sum() / whole

    assert covered(crowd) < 0.9
    assert covered(relax(crowd, gap=1.0, n_sweeps=600)) > 0.98


def test_daughters_fill_the_place_of_their_mother():
    habit = Habit(radius=5, gap=1.0, turn=0.0)
    cells = found(np.array([50.0]), np.array([50.0]), habit=habit, rng=_rng())
    cells.half[:] = cells.limit
    pair = divide(cells, habit=habit, rng=_rng())
    ends = np.hypot(pair.y - 50, pair.x - 50) + pair.half
    assert len(pair) == 2
    np.testing.assert_allclose(ends, cells.half[0])
    assert np.hypot(*(np.diff(pair.y), np.diff(pair.x)))[0] >= pair.half.sum() + 2 * 5


def test_training_set_skips_frames_without_cells():
    frames, labels = training_set(4, first_seed=0, min_cells=20)
    assert len(frames) == len(labels) == 4
    assert min(one.max() for one in labels) >= 20


def test_an_unknown_look_or_kind_is_refused():
    with pytest.raises(SettingsError, match="no look 'sepia'"):
        synthetic_frame(0, look="sepia")
    with pytest.raises(SettingsError, match="no kind 'heap'"):
        synthetic_frame(0, kind="heap")


def test_movie_has_its_axes_dtypes_and_metadata(movie):
    assert movie.frames.shape == (12, 2, 256, 256)
    assert movie.labels.shape == (12, 256, 256)
    assert (movie.frames.dtype, movie.labels.dtype) == (np.uint16, np.uint16)
    assert movie.channel_names == ("Brightfield", "Chlorophyll")
    assert movie.pixel_size_um > 0
    assert movie.interval_s > 0


def test_movie_cells_grow_in_number(movie):
    counts = movie.labels.max(axis=(1, 2)).astype(int)
    assert counts[0] == 6
    assert (np.diff(counts) >= 0).all()
    assert counts[-1] >= 4 * counts[0]


def test_movie_cells_are_dark_in_brightfield_and_bright_in_chlorophyll(movie):
    for t, labels in enumerate(movie.labels):
        cells = labels > 0
        dark, bright = (
            np.median(plane[cells]) / np.median(plane[~cells]) for plane in movie.frames[t]
        )
        assert dark < 0.9
        assert bright > 3
        assert np.median(movie.frames[t, 0][~cells]) == pytest.approx(25_000, rel=0.1)
        assert np.median(movie.frames[t, 1][~cells]) == pytest.approx(250, rel=0.2)


def test_movie_is_the_same_for_the_same_seed(movie):
    np.testing.assert_array_equal(synthetic_movie().frames, movie.frames)
    assert not np.array_equal(synthetic_movie(seed=1, n_frames=1).frames[0], movie.frames[0])


def test_movie_may_have_one_channel_and_outgrow_its_frame():
    movie = synthetic_movie(n_frames=14, shape=(64, 80), n_channels=1, start_cells=4, seed=5)
    assert movie.frames.shape == (14, 1, 64, 80)
    assert movie.channel_names == ("Brightfield",)
    assert (movie.labels[-1] > 0).mean() > 0.5


@pytest.mark.parametrize("wrong", [{"n_channels": 3}, {"n_frames": 0}, {"start_cells": 0}])
def test_impossible_movies_are_refused(wrong):
    with pytest.raises(SettingsError, match="at least 1 frame"):
        synthetic_movie(**wrong)


def _rng(seed=0):
    return np.random.default_rng(seed)
