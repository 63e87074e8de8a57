"""The frame in view: which one it is, and that its labels are those of a run."""

from __future__ import annotations

import numpy as np
import pytest

from cypose_dask.engine import segment_frames
from cypose_dask.errors import DamagedFrameError, MovieError
from cypose_dask.movies import Movie
from cypose_dask.run import segment
from cypose_dask.settings import Settings
from cypose_dask.viewer.current_frame import (
    current_place,
    read_frame,
    segment_current,
    settings_behind,
    settings_of_run,
)
from cypose_dask.viewer.layers import image_layers
from cypose_dask.viewer.reader import layers_of
from helpers.handed_on import hand_on
from helpers.results import write_result


@pytest.mark.parametrize(
    ("shape", "point", "place"),
    [
        ((5, 1, 2, 8, 9), (3.2, 0.0, 0.9, 4.0, 4.0), (3, 0, 1)),
        ((5, 8, 9), (-2.0, 4.0, 4.0), (0,)),
        ((5, 8, 9), (17.0, 4.0, 4.0), (4,)),
        ((8, 9), (4.0, 4.0), ()),
    ],
)
def test_the_frame_in_view_is_the_nearest_one(shape, point, place):
    assert current_place(shape, point) == place


def test_the_frame_is_that_of_the_channel_and_the_time(movie, synthetic):
    (_, _, _), (planes, _, _) = image_layers(movie, movie.info)
    assert np.array_equal(read_frame(planes, (3, 0, 0)), synthetic.frames[3, 1])
    assert np.array_equal(read_frame(synthetic.frames, (2, 1)), synthetic.frames[2, 1])


def test_a_frame_without_pixels_is_refused_rather_than_empty(movie, monkeypatch):
    def damaged(*_):
        raise DamagedFrameError("t=0 is missing")

    monkeypatch.setattr(Movie, "read_frame", damaged)
    with pytest.warns(UserWarning, match="Shown as zeros"):
        (planes, _, _), *_ = image_layers(movie, movie.info)
    with pytest.raises(DamagedFrameError):
        segment_current([(planes, (0, 0, 0))], Settings())


@pytest.mark.parametrize(
    ("asked", "t"),
    [
        (Settings(cellprob_threshold=1.0, min_size_px=40, niter=50), 4),
        (Settings(model="cyano-chlorophyll", start_frame=2), 3),
        (Settings(diameter="estimate", normalize="movie"), 4),
        (Settings(channels="mean", diameter=14.3), 2),
    ],
    ids=["thresholds", "two channels", "measured", "mean"],
)
def test_labels_are_those_of_the_run_whose_movie_is_shown(movie, tmp_path, asked, t):
    result = segment(movie, tmp_path / "movie.zarr", asked)
    *images, (cells, _, _) = layers_of(result.path)
    taken = result.attributes["plan"]["channels"]
    chosen = images if taken == "mean" else [images[c] for c in taken]
    settings = settings_behind(chosen[0][1]["metadata"])
    labels = segment_current([(data, (t, 0, 0)) for data, _, _ in chosen], settings)
    assert (labels.shape, labels.dtype) == ((1, 1, 1, 64, 64), np.uint32)
    assert np.array_equal(labels[0, 0, 0], cells[t - result.start_frame, 0, 0])
    assert labels.max() > 2


def test_labels_have_the_axes_of_the_layer(synthetic):
    frames = synthetic.frames[:, 0]
    expected = segment_frames(synthetic.frames[4:, :1]).labels
    for shown, shape in [((frames, (4,)), (1, 64, 64)), ((frames[4], ()), (64, 64))]:
        labels = segment_current([shown], Settings())
        assert np.array_equal(labels, expected.reshape(shape))


def test_channels_of_two_sizes_are_refused():
    with pytest.raises(MovieError, match=r"\(8, 9\), \(9, 8\).*one movie"):
        segment_current([(np.zeros((8, 9)), ()), (np.zeros((9, 8)), ())], Settings())


def test_what_follows_from_the_model_is_left_to_the_model_that_is_tried(tmp_path):
    made = hand_on(tmp_path, invert=True)
    settings = settings_of_run(made.result)
    assert isinstance(made.settings.diameter, float)
    assert (settings.diameter, settings.niter, settings.invert) == ("model", None, True)
    assert settings.model == "cyano-rods"


def test_weights_of_a_file_are_found_from_everywhere(tmp_path, model_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("mine").symlink_to(model_path)
    made = hand_on(tmp_path, model="./mine")
    assert settings_of_run(made.result).model == model_path


def test_a_result_that_does_not_say_how_it_was_made_has_no_settings(tmp_path):
    result = write_result(tmp_path / "m.zarr", np.ones((2, 1, 1, 8, 9), np.uint32))
    assert settings_of_run(result) is None


@pytest.mark.parametrize("metadata", [{}, {"settings": 3}, {"settings": {"sigma": 2}}])
def test_other_layers_begin_with_the_defaults(metadata):
    assert settings_behind(metadata) == Settings()


def test_every_image_of_a_result_knows_its_settings_and_a_movie_has_none(tmp_path):
    made = hand_on(tmp_path, flow_threshold=0.3)
    *images, _ = layers_of(made.result.path)
    assert [settings_behind(a["metadata"]).flow_threshold for _, a, _ in images] == [0.3, 0.3]
    assert ["settings" in about["metadata"] for _, about, _ in layers_of(made.movie)] == [False] * 2
