"""Synthetic frames and movies: seeded, exactly labelled, and what they claim to be."""

from itertools import islice, pairwise

import numpy as np
import pytest
from scipy.ndimage import label as components
from skimage.measure import regionprops

from cypose_dask.errors import SettingsError
from cypose_dask.learn import film, synthetic_frame, synthetic_movie, training_set
from cypose_dask.learn.generator import filament
from cypose_dask.learn.generator.colony import Habit, divide, found, relax
from cypose_dask.learn.generator.movie import MOVIE_LOOKS, SPECIES
from cypose_dask.learn.generator.raster import MIN_LABEL_PX, label_cells, largest_pieces, rasterise
from cypose_dask.learn.generator.scenes import draw_scene
from cypose_dask.learn.generator.synthetic import render

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


@pytest.mark.parametrize("look", ["phase", "brightfield", "fluorescence"])
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


def test_the_second_channel_shows_the_living_and_not_the_lysed():
    """Ghosts may be as dark as cells in brightfield; only chlorophyll tells them."""
    told = 0
    for seed in range(40):
        scene = draw_scene((160, 160), kind="scatter", decoys=True, rng=_rng(seed))
        solid = ~scene.labelled & (scene.cells.tone > 0.6)
        if not solid.any():
            continue
        made = render(scene, look="brightfield", chlorophyll=True, rng=_rng(seed))
        geometry = rasterise(scene.cells, scene.shape, warp=scene.warp, blunt=scene.blunt)
        core = geometry.depth > 1
        ghosts = core & np.isin(geometry.owner, 1 + np.flatnonzero(solid))
        living = core & (made.labels > 0)
        if ghosts.sum() < 20 or living.sum() < 20:
            continue
        assert not made.labels[ghosts].any()
        second = made.frame[1].astype(float)
        assert np.median(second[ghosts]) < np.median(second[living])
        told += 1
    assert told >= 3


def test_dic_is_a_relief_that_is_never_drawn_unasked():
    assert {synthetic_frame(seed, shape=(64, 64)).look for seed in range(40)} == {
        "phase", "brightfield", "fluorescence",
    }  # fmt: skip
    made = synthetic_frame(5, shape=(160, 160), look="dic", kind="scatter")
    inside, frame = made.labels > 0, made.frame.astype(float)
    empty = np.median(frame[~inside])
    assert (frame[inside] > empty + frame.std()).any()
    assert (frame[inside] < empty - frame.std()).any()


def test_movie_has_its_axes_dtypes_and_metadata(movie):
    assert movie.frames.shape == (12, 2, 256, 256)
    assert movie.labels.shape == (12, 256, 256)
    assert (movie.frames.dtype, movie.labels.dtype) == (np.uint16, np.uint16)
    assert movie.channel_names == ("Brightfield", "Chlorophyll")
    assert movie.pixel_size_um > 0
    assert movie.interval_s > 0


@pytest.mark.parametrize("species", SPECIES)
@pytest.mark.parametrize("look", MOVIE_LOOKS)
def test_movie_cells_are_dark_in_transmitted_light_and_bright_in_chlorophyll(species, look):
    movie = synthetic_movie(n_frames=4, shape=(200, 200), seed=4, species=species, look=look)
    assert movie.channel_names == (look.capitalize(), "Chlorophyll")
    for t, labels in enumerate(movie.labels):
        cells = labels > 0
        dark, bright = (
            np.median(plane[cells]) / np.median(plane[~cells]) for plane in movie.frames[t]
        )
        assert dark < 0.9
        assert bright > 3
        assert np.median(movie.frames[t, 0][~cells]) == pytest.approx(25_000, rel=0.15)
        assert np.median(movie.frames[t, 1][~cells]) == pytest.approx(250, rel=0.3)


@pytest.mark.parametrize("species", SPECIES)
def test_movie_cells_grow_in_number(species):
    movie = synthetic_movie(shape=(320, 320), species=species, pixel_size_um=0.16, n_frames=10)
    counts = movie.labels.max(axis=(1, 2)).astype(int)
    assert counts[0] == 6
    assert counts[-1] >= 2 * counts[0]


@pytest.mark.parametrize(("species", "width_um"), [("rods", 1.7), ("ovals", 2.0), ("filaments", 3)])
@pytest.mark.parametrize("pixel_size_um", [0.06, 0.11, 0.17])
def test_cells_are_as_wide_as_the_species_at_every_pixel_size(species, width_um, pixel_size_um):
    shape = (int(30 / pixel_size_um),) * 2
    labels = synthetic_movie(
        n_frames=1, shape=shape, species=species, pixel_size_um=pixel_size_um, seed=1
    ).labels[0]
    widths = [region.axis_minor_length * pixel_size_um for region in regionprops(labels)]
    assert np.median(widths) == pytest.approx(width_um, rel=0.2)


def test_a_film_goes_on_where_a_movie_of_it_ends():
    movie = synthetic_movie(n_frames=3, shape=(64, 64), seed=9)
    reel = islice(film(shape=(64, 64), seed=9), 5)
    frames, labels = zip(*reel, strict=True)
    np.testing.assert_array_equal(np.stack(frames[:3]), movie.frames)
    np.testing.assert_array_equal(np.stack(labels[:3]), movie.labels)


@pytest.mark.parametrize("species", SPECIES)
def test_a_long_film_keeps_only_the_cells_that_are_near(species, monkeypatch):
    """Growth is exponential; what leaves the frame is forgotten."""
    from cypose_dask.learn.generator import movie as module

    seen = []
    plain = module.rasterise
    monkeypatch.setattr(
        module, "rasterise", lambda cells, *a, **k: seen.append(len(cells)) or plain(cells, *a, **k)
    )
    for _ in islice(film(shape=(64, 64), species=species, pixel_size_um=0.16), 40):
        pass
    assert max(seen) < 150


def test_lysed_cells_pale_and_lose_their_label_and_do_not_come_back(monkeypatch):
    from cypose_dask.learn.generator import movie as module

    monkeypatch.setattr(module, "LYSIS_ODDS", 1.0)
    for species in SPECIES:
        movie = synthetic_movie(n_frames=3, shape=(128, 128), species=species, seed=2)
        before, after = movie.labels[0] > 0, movie.labels[1]
        assert before.any()
        assert not after.any()
        assert not movie.labels[2].any()
        paler = movie.frames[1, 0][before].mean() > movie.frames[0, 0][before].mean()
        dimmer = movie.frames[1, 1][before].mean() < 0.5 * movie.frames[0, 1][before].mean()
        assert paler
        assert dimmer


def test_heterocysts_are_spaced_larger_and_hardly_fluoresce():
    rng, habit = _rng(3), Habit(radius=8, aspect=1.15, gap=0.0)
    row = filament.found_filament(60, where=(0, 0, 0), habit=habit, rng=rng)
    for _ in range(30):
        row = filament.grow(row, habit=habit, rng=rng)
    special = np.isinf(row.cells.limit)
    assert 0.03 < special.mean() < 0.15
    assert np.diff(np.flatnonzero(special)).min() > 1
    assert row.cells.radius[special].mean() > 1.1 * row.cells.radius[~special].mean()
    assert row.cells.pigment[special].mean() < 0.5 * row.cells.pigment[~special].mean()


def test_neighbours_in_a_filament_touch_and_keep_their_order():
    rng, habit = _rng(1), Habit(radius=8, aspect=1.15, gap=0.0)
    row = filament.found_filament(8, where=(50, 60, 0.3), habit=habit, rng=rng)
    for _ in range(20):
        row = filament.grow(row, habit=habit, rng=rng)
    cells = row.cells
    steps = np.hypot(np.diff(cells.y), np.diff(cells.x))
    ends = cells.half + cells.radius
    assert len(cells) > 12
    np.testing.assert_allclose(steps, ends[1:] + ends[:-1], rtol=0.15)
    assert len(filament.in_sight(row, (40, 40), far_px=5).cells) < len(cells)


def test_movie_is_the_same_for_the_same_seed(movie):
    np.testing.assert_array_equal(synthetic_movie().frames, movie.frames)
    assert not np.array_equal(synthetic_movie(seed=1, n_frames=1).frames[0], movie.frames[0])


def test_movie_may_have_one_channel_and_outgrow_its_frame():
    movie = synthetic_movie(n_frames=14, shape=(64, 80), n_channels=1, start_cells=4, seed=5)
    assert movie.frames.shape == (14, 1, 64, 80)
    assert movie.channel_names == ("Brightfield",)
    assert (movie.labels[-1] > 0).mean() > 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_channels": 3},
        {"n_frames": 0},
        {"start_cells": 0},
        {"pixel_size_um": 11.0},
        {"species": "mice"},
        {"look": "sepia"},
    ],
)
def test_impossible_movies_are_refused(wrong):
    with pytest.raises(SettingsError, match=r"at least 1 (frame|cell)|no (species|look)"):
        synthetic_movie(**wrong)


def _rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("species", ["rods", "ovals", "filaments"])
def test_cells_keep_their_numbers_and_daughters_have_a_mother(species):
    movie = synthetic_movie(n_frames=10, shape=(200, 200), seed=2, species=species)
    for numbers, labels in zip(movie.numbers, movie.labels, strict=True):
        assert len(set(numbers.tolist())) == len(numbers) == labels.max()
        assert numbers.min() > 0
    first = set(movie.numbers[0].tolist())
    born = {n for numbers in movie.numbers for n in numbers.tolist()} - first
    assert born
    assert not first & movie.mothers.keys()
    for t, numbers in enumerate(movie.numbers[1:], 1):
        for cell in set(numbers.tolist()) & born - set(movie.numbers[t - 1].tolist()):
            assert movie.mothers[cell] not in numbers  # she is two others by now
    centres = [
        {n: np.argwhere(labels == k).mean(axis=0) for k, n in enumerate(numbers.tolist(), 1)}
        for numbers, labels in zip(movie.numbers, movie.labels, strict=True)
    ]
    steps = [
        np.hypot(*(after[n] - before[n]))
        for before, after in pairwise(centres)
        for n in before.keys() & after.keys()
    ]
    assert max(steps) < 30  # px; another cell's number would jump through the frame
