"""Everything is settled before the run, and a resumed run proves that it is the same plan."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from cypose_dask.errors import (
    ModelNotFoundError,
    MovieError,
    ResultError,
    ResultMismatchError,
    SettingsError,
)
from cypose_dask.models import resolve_model
from cypose_dask.movies import open_movie
from cypose_dask.run import make_plan, segment
from cypose_dask.run.channels import resolve_channels
from cypose_dask.settings import RunOptions, Settings
from helpers.nd2_writer import write_nd2


def test_plan_names_everything(movie):
    plan = make_plan(movie)
    text = "\n".join(plan.describe())
    for words in ("T 5, P 1, Z 1, C 2", "cyano-rods", "0 (Brightfield)", "stays zero", "px", "cpu"):
        assert words in text
    assert plan.settings.channels == (0,)
    assert plan.settings.end_frame == 5
    assert plan.settings.niter > 0


def test_blocks_cover_every_frame_once(movie):
    plan = make_plan(movie, options=RunOptions(frames_per_block=2))
    frames = [t for block in plan.blocks() for t in range(block.start, block.stop)]
    assert frames == list(range(5))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"end_frame": 6}, "has 5 frames along T"),
        ({"start_frame": 5}, "has 5 frames along T"),
        ({"channels": ("GFP",)}, "0 'Brightfield', 1 'Chlorophyll'"),
        ({"channels": (2,)}, "Channel 2 is not there"),
    ],
)
def test_what_the_movie_does_not_have_is_refused(settings, words, movie):
    with pytest.raises(SettingsError, match=words):
        make_plan(movie, Settings(**settings))


def test_a_mistyped_model_is_refused_before_any_work(movie, tmp_path, client):
    with pytest.raises(ModelNotFoundError, match="cyano-rods"):
        segment(movie, tmp_path / "m.zarr", Settings(model="cyano-rod"), client=client)
    assert not (tmp_path / "m.zarr").exists()


def test_channels_by_name_index_and_mean(movie):
    info, model = movie.info, resolve_model()
    assert resolve_channels(("chlorophyll", 0), info, model) == (1, 0)
    assert resolve_channels("mean", info, model) == "mean"


def test_channels_nobody_names_are_refused(movie):
    from dataclasses import replace

    model = resolve_model()
    unnamed = replace(movie.info, channel_names=("A", "B"))
    with pytest.raises(MovieError, match="--channels"):
        resolve_channels(None, unnamed, model)
    both = replace(movie.info, channel_names=("Phase", "BF"))
    with pytest.raises(MovieError, match="several of them"):
        resolve_channels(None, both, model)
    silent = replace(model, wants=())
    with pytest.raises(MovieError, match="does not say"):
        resolve_channels(None, movie.info, silent)


def test_words_are_found_whole(movie):
    from dataclasses import replace

    info = replace(movie.info, channel_names=("Graph", "Chlorophyll", "Ph2"))
    assert resolve_channels(None, info, replace(resolve_model(), wants=(("ph",),))) == (2,)


def test_estimated_diameter_is_settled_once_and_kept_on_resume(movie, client, tmp_path):
    settings = Settings(diameter="estimate", normalize="movie")
    first = segment(movie, tmp_path / "m.zarr", settings, client=client)
    stored = first.attributes["plan"]["settings"]
    assert 5 < stored["diameter"] < 40
    assert len(stored["normalize"]) == 2
    plans = []
    segment(movie, tmp_path / "m.zarr", settings, client=client, on_plan=plans.append)
    assert plans[0].settings.diameter == stored["diameter"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"diameter": 9.0}, "diameter"),
        ({"flow_threshold": 0.4}, "flow threshold"),
        ({"channels": (1,)}, "channels"),
        ({"end_frame": 4}, "end frame"),
        ({"normalize": "movie"}, "normalize"),
    ],
)
def test_other_settings_on_a_result_are_refused_by_name(change, field, movie, client, tmp_path):
    path = tmp_path / "m.zarr"
    segment(movie, path, Settings(end_frame=1), client=client)
    settings = Settings(**{"end_frame": 1, **change})
    with pytest.raises(ResultMismatchError, match=rf"{field}: .* before, .* now.*--restart"):
        segment(movie, path, settings, client=client)


def test_another_movie_on_a_result_is_refused(synthetic, movie, client, tmp_path):
    path = tmp_path / "m.zarr"
    segment(movie, path, Settings(end_frame=1), client=client)
    other = tmp_path / "other.nd2"
    changed = synthetic.frames.copy()
    changed[0] += 1
    write_nd2(other, changed, axes="TCYX", channels=list(synthetic.channel_names))
    with pytest.raises(ResultMismatchError, match="input content"):
        segment(open_movie(other), path, Settings(end_frame=1), client=client)


def test_other_weights_on_a_result_are_refused(movie, client, tmp_path):
    import torch

    weights = torch.load(resolve_model().path, weights_only=True)
    weights["output.2.bias"] = weights["output.2.bias"] + 0.1
    torch.save(weights, tmp_path / "other")
    segment(movie, tmp_path / "m.zarr", Settings(end_frame=1, channels=(0,)), client=client)
    settings = Settings(end_frame=1, channels=(0,), model=str(tmp_path / "other"))
    with pytest.raises(ResultMismatchError, match="model sha256"):
        segment(movie, tmp_path / "m.zarr", settings, client=client)


def test_another_position_channel_or_axes_of_the_same_file_is_refused(synthetic, client, tmp_path):
    import tifffile

    path = tmp_path / "grid.nd2"
    write_nd2(path, synthetic.frames[[[0, 4]]], axes="TPCYX", channels=["BF", "Chl"])
    segment(open_movie(path, position=0), tmp_path / "p.zarr", client=client)
    with pytest.raises(ResultMismatchError, match="position of the file: 0 before, 1 now"):
        segment(open_movie(path, position=1), tmp_path / "p.zarr", client=client)
    segment(open_movie(path, position=0, channels=[0]), tmp_path / "c.zarr", client=client)
    with pytest.raises(ResultMismatchError, match="channels of the file"):
        segment(open_movie(path, position=0, channels=[1]), tmp_path / "c.zarr", client=client)
    tif = tmp_path / "square.tif"
    tifffile.imwrite(tif, synthetic.frames[:4, 0].reshape(2, 2, 64, 64), photometric="minisblack")
    segment(open_movie(tif, axes="TZYX"), tmp_path / "a.zarr", client=client)
    with pytest.raises(ResultMismatchError, match="axes of the file: TZYX before, ZTYX now"):
        segment(open_movie(tif, axes="ZTYX"), tmp_path / "a.zarr", client=client)


def test_a_renamed_movie_is_the_same_movie(nd2_path, client, tmp_path):
    for name in ("a.nd2", "b.nd2"):
        shutil.copy2(nd2_path, tmp_path / name)
    seen = []
    settings = Settings(end_frame=1)
    segment(open_movie(tmp_path / "a.nd2"), tmp_path / "m.zarr", settings, client=client)
    segment(
        open_movie(tmp_path / "b.nd2"), tmp_path / "m.zarr", settings, client=client,
        progress=lambda *a: seen.append(a),
    )  # fmt: skip
    assert seen == []


def test_restart_costs_nothing_when_the_new_plan_cannot_be_made(movie, client, tmp_path):
    path = tmp_path / "m.zarr"
    segment(movie, path, Settings(end_frame=1), client=client)
    with pytest.raises(SettingsError):
        segment(
            movie, path, Settings(channels=("GFP",)), client=client,
            options=RunOptions(restart=True),
        )  # fmt: skip
    seen = []
    again = Settings(end_frame=1)
    segment(movie, path, again, client=client, progress=lambda *a: seen.append(a))
    assert seen == []


def test_a_path_is_no_movie(client, tmp_path):
    with pytest.raises(SettingsError, match="open it first with open_movie"):
        segment("movie.nd2", tmp_path / "m.zarr", client=client)


def test_a_touched_movie_only_warns(nd2_path, client, tmp_path, caplog):
    copy = tmp_path / "copy.nd2"
    shutil.copy(nd2_path, copy)
    segment(open_movie(copy), tmp_path / "m.zarr", Settings(end_frame=1), client=client)
    os.utime(copy, (1, 1))
    segment(open_movie(copy), tmp_path / "m.zarr", Settings(end_frame=1), client=client)
    assert "another modification time" in caplog.text


def test_restart_begins_again_and_deletes_only_results(movie, client, tmp_path):
    path = tmp_path / "m.zarr"
    segment(movie, path, Settings(end_frame=1), client=client)
    restart = RunOptions(restart=True)
    result = segment(movie, path, Settings(end_frame=1, niter=9), client=client, options=restart)
    assert result.attributes["plan"]["settings"]["niter"] == 9
    precious = tmp_path / "thesis.zarr"
    precious.mkdir()
    (precious / "text").write_text("three years")
    with pytest.raises(ResultError, match="no result of cypose-dask"):
        segment(movie, precious, client=client, options=restart)
    assert (precious / "text").exists()


def test_block_length_respects_memory(tmp_path):
    path = tmp_path / "large.nd2"
    write_nd2(path, (50, 1024, 1024), axes="TYX", frames=lambda i: np.full((1024, 1024, 1), i))
    plan = make_plan(open_movie(path))
    assert 1 <= plan.frames_per_block * 1024 * 1024 * 4 <= 128 * 2**20


@pytest.mark.parametrize(
    ("diameter", "said"),
    [
        (18.0, "36 tiles a frame (cells are scaled from 18 to 18 px)"),
        (9.0, "144 tiles a frame (cells are scaled from 9 to 18 px), 4.0 times more than at"),
        (36.0, "9 tiles a frame (cells are scaled from 36 to 18 px), 4.0 times less than at"),
        (500.0, "1 tile a frame (cells are scaled from 500 to 18 px), 36.0 times less than at"),
    ],
)
def test_the_plan_says_what_a_diameter_costs(diameter, said):
    from types import SimpleNamespace

    from cypose_dask.run import plan_text

    plan = SimpleNamespace(
        model=SimpleNamespace(diam_mean=18.0, diameter=18.0),
        settings=Settings(diameter=diameter),
        movie=SimpleNamespace(info=SimpleNamespace(sizes={"Y": 1024, "X": 1024})),
    )
    assert plan_text._work(plan).startswith(said)
