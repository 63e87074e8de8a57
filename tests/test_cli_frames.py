"""``cypose-dask frames`` as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from cypose_dask.movies import open_movie


def test_frames_lie_in_the_folder_and_the_next_steps_are_said(nd2_path, cli, tmp_path):
    code, out, err = cli("frames", nd2_path, "-n", 3, "-o", tmp_path / "todo")
    assert code == 0, err
    names = sorted(path.name for path in (tmp_path / "todo").iterdir())
    assert names[0] == "frames.json"
    assert len(names) == 4
    for words in ("3 frames, t 0 to 4", "wrote     3 TIFs", "_seg.npy", "cypose-dask train"):
        assert words in out
    assert str(tmp_path / "todo") in out


def test_every_option_arrives(nd2_path, cli, tmp_path):
    code, _, err = cli(
        "frames", nd2_path, "-o", tmp_path, "-n", 2, "--crop", 32, "--channels", "1", "--seed", 5,
        "--start-frame", 1, "--end-frame", 4, "--plane", 0, "--position", 0,
    )  # fmt: skip
    assert code == 0, err
    record = json.loads((tmp_path / "frames.json").read_text())
    (call,) = record["calls"]
    expected = {"n": 2, "crop_px": 32, "z": 0, "start_frame": 1, "end_frame": 4, "seed": 5}
    assert {name: call[name] for name in expected} == expected
    movie = open_movie(nd2_path)
    for entry in record["frames"]:
        y, x, side = entry["window"]
        assert 1 <= entry["t"] < 4
        assert entry["channels"] == ["Chlorophyll"]
        expected = movie.read_frame(entry["t"])[1, y : y + side, x : x + side]
        np.testing.assert_array_equal(tifffile.imread(tmp_path / entry["file"]), expected)


def test_again_leaves_files_alone_and_another_choice_is_refused(nd2_path, cli, tmp_path):
    assert cli("frames", nd2_path, "-n", 2, "-o", tmp_path)[0] == 0
    code, out, _ = cli("frames", nd2_path, "-n", 2, "-o", tmp_path)
    assert code == 0
    assert "wrote     0 TIFs" in out
    assert "2 were there and stay as they are" in out
    code, _, err = cli("frames", nd2_path, "-n", 3, "-o", tmp_path)
    assert code == 2
    assert "n was 2, is 3" in err
    code, out, _ = cli("frames", nd2_path, "-n", 3, "-o", tmp_path, "--add")
    assert code == 0
    assert len(list(tmp_path.glob("*.tif"))) == 5


def test_one_bad_movie_does_not_stop_the_others(nd2_path, cli, tmp_path):
    (tmp_path / "bad.tif").write_text("rubbish")
    code, out, err = cli("frames", tmp_path / "bad.tif", nd2_path, "-n", 2, "-o", tmp_path / "o")
    assert code == 1
    assert "left out" in err
    assert "wrote     2 TIFs" in out


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["missing.nd2"], 3, "There is no file"),
        (["MOVIE", "--channels", "GFP"], 1, "1: Chlorophyll"),
        (["MOVIE", "--channels", "mean"], 2, "a mean cannot be annotated"),
        (["MOVIE", "--crop", "500"], 2, "too small for crops"),
        (["MOVIE", "--plane", "7"], 2, "plane 7"),
        (["MOVIE", "-n", "0"], 2, "x>=1"),
    ],
)
def test_mistakes_have_codes_and_words(args, code, words, nd2_path, cli, tmp_path):
    args = [nd2_path if arg == "MOVIE" else arg for arg in args]
    found, _, err = cli("frames", *args, "-o", tmp_path / "out")
    assert found == code
    assert words in err
    assert not (tmp_path / "out").exists()
