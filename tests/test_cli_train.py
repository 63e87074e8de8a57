"""``cypose-dask train`` as a user types it, on frames of 48 px."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest
import tifffile

from cypose_dask.cli import train as train_command
from cypose_dask.learn.training import loop
from cypose_dask.models import resolve_model

TINY = ["--epochs", "2", "--crop-px", "32", "--batch-size", "16", "--validate-every", "1"]


@pytest.fixture
def train(cli, monkeypatch):
    """Run ``cypose-dask train`` with scores that rise by 0.01 a validation."""
    count = itertools.count(10)
    monkeypatch.setattr(loop, "mean_precision", lambda net, given: (next(count) / 100,) * 3)
    return lambda *args: cli("train", *args, *TINY)


@pytest.fixture
def frames(tmp_path):
    """Two movies of two labelled frames each."""
    return write_frames(tmp_path / "frames", ["a_1", "a_2", "b_1", "b_2"])


def write_frames(folder, names, **more):
    folder.mkdir()
    rows, columns = np.ogrid[:48, :48]
    for i, name in enumerate(names):
        rng = np.random.default_rng(i)
        labels = np.zeros((48, 48), np.uint16)
        for number, (y, x) in enumerate([(12, 12), (12, 34), (34, 20)], 1):
            labels[(rows - y) ** 2 + (columns - x - i) ** 2 < 40] = number
        pixels = (rng.normal(1000, 20, (48, 48)) - 300 * (labels > 0)).astype(np.uint16)
        axes = more.get("axes", "YX")
        if axes == "CYX":
            pixels = np.stack([pixels, pixels[::-1]])
        metadata = {"axes": axes, **{k: v for k, v in more.items() if k != "axes"}}
        tifffile.imwrite(folder / f"{name}.tif", pixels, imagej=True, metadata=metadata)
        tifffile.imwrite(folder / f"{name}_masks.tif", labels, imagej=True)
    return folder


def tensors(path):
    import torch

    return torch.load(path, weights_only=True)


def same(one, other) -> bool:
    import torch

    one, other = tensors(one), tensors(other)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# ---- what is written -----------------------------------------------------------------------


def test_a_model_is_written_with_its_card_and_its_entry(train, frames, tmp_path):
    output = tmp_path / "models" / "mine"
    code, out, err = train(
        frames, "-o", output, "--licence", "CC-BY-4.0", "--describe", "Rods | of a test"
    )
    assert code == 0, err
    spec = resolve_model(output)
    start = resolve_model()
    assert (spec.diam_mean, spec.network_inputs) == (start.diam_mean, start.network_inputs)
    assert spec.diameter == pytest.approx(np.sqrt(4 * 121 / np.pi), rel=0.03)
    # Nothing names the channel of these files, so that what the first model wanted stays.
    assert spec.wants == start.wants
    entry = tomllib.loads((output.parent / "registry.toml").read_text())["models"]["mine"]
    assert (entry["file"], entry["sha256"], entry["inputs"]) == ("mine", spec.sha256, 1)
    assert (entry["licence"], entry["diameter"]) == (
        "CC-BY-4.0",
        pytest.approx(spec.diameter, 0.01),
    )
    assert "From cyano-rods on 2 frames of 1 movie with 6 cells" in entry["trained"]
    card = output.with_name("mine.md").read_text()
    for words in (
        "# mine", "Rods | of a test", start.sha256, "CC-BY-4.0", "frames/a: 2 frames, 6 cells",
        "frames/b: 2 frames, 6 cells", f"--licence CC-BY-4.0 --describe '{'Rods | of a test'}'",
        "n_epochs 2", "seed 0", "torch ", "| before | 0.100 | 0.100 | 0.100 |",
        "| after (epoch 2) | 0.120 | 0.120 | 0.120 |", "| 0 |  | 0.100", "## Limits",
        "(To be filled in: what it gets wrong",
    ):  # fmt: skip
        assert words in card, words
    assert "optimistic" not in out + err
    assert sorted(p.name for p in output.parent.iterdir()) == [
        "mine", "mine.md", "mine.training", "registry.toml",
    ]  # fmt: skip


def test_progress_scores_and_the_next_command_are_printed(train, frames, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = train("frames", "-o", "mine")
    assert code == 0
    lines = out.splitlines()
    assert any(
        line.startswith("epoch    0 of 2  before training  AP@0.5/0.75/0.9 0.100") for line in lines
    )
    assert any("epoch    2 of 2  loss" in line and "best 0.120" in line for line in lines)
    assert "before 0.100 / 0.100 / 0.100 -> after 0.120 / 0.120 / 0.120 (epoch 2)" in out
    # A plain name could be that of a built-in model.
    assert lines[-1].endswith("cypose-dask segment movie.nd2 --model ./mine")


def test_names_of_channels_become_what_the_model_wants(train, tmp_path):
    names = {"mode": "grayscale", "Labels": ["Brightfield", "Chlorophyll"]}
    folder = write_frames(tmp_path / "two", ["a_1", "b_1"], axes="CYX", **names)
    output = tmp_path / "two-channel"
    code, _, err = train(folder, "-o", output, "--channels", "chlorophyll,0")
    assert code == 0, err
    assert resolve_model(output).wants == (("chlorophyll",), ("brightfield",))


def test_channels_are_matched_with_what_the_first_model_wants(train, tmp_path):
    names = {"mode": "grayscale", "Labels": ["Chlorophyll", "Brightfield"]}
    folder = write_frames(tmp_path / "two", ["a_1", "b_1"], axes="CYX", **names)
    output = tmp_path / "one-channel"
    assert train(folder, "-o", output)[0] == 0
    assert resolve_model(output).wants == (("brightfield",),)


def test_a_model_from_scratch_has_no_score_before(train, frames, tmp_path):
    code, out, err = train(frames, "-o", tmp_path / "new", "--from-scratch", "--diameter", "14")
    assert code == 0, err
    assert "start     random weights" in out
    assert "scores    AP@0.5/0.75/0.9 0.110 / 0.110" in out
    assert "before" not in out
    assert resolve_model(tmp_path / "new").diam_mean == 14
    assert "| before |" not in (tmp_path / "new.md").read_text()


def test_a_model_that_was_not_made_better_says_so(cli, frames, tmp_path, monkeypatch):
    left = iter([0.9, 0.2, 0.1])
    monkeypatch.setattr(loop, "mean_precision", lambda net, given: (next(left),) * 3)
    code, out, err = cli("train", frames, "-o", tmp_path / "m", *TINY)
    assert code == 0
    assert "after 0.900 / 0.900 / 0.900 (epoch 0)" in out
    assert "no epoch was better" in err


# ---- which frames --------------------------------------------------------------------------


def test_one_movie_is_split_in_time_with_a_warning(train, tmp_path):
    folder = write_frames(tmp_path / "one", ["a_1", "a_2", "a_3"])
    code, out, err = train(folder, "-o", tmp_path / "m")
    assert code == 0
    assert "all frames come from one movie, one/a" in err
    assert "optimistic" in err
    assert "train on  one/a: 2 frames" in out
    assert "score on  one/a: 1 frame," in out
    assert "come from the same movie" in (tmp_path / "m.md").read_text()


def test_frames_for_validation_can_be_named(train, frames, tmp_path):
    other = write_frames(tmp_path / "other", ["c_1", "c_2", "c_3", "c_4", "c_5"])
    for path in other.glob("c_[1-4]*"):  # the same pixels as in the first folder
        path.unlink()
    code, out, _ = train(frames, "-o", tmp_path / "m", "--validation", other)
    assert code == 0
    assert "score on  other/c: 1 frame, 3 cells" in out
    assert "train on  frames/a: 2 frames" in out
    assert "train on  frames/b: 2 frames" in out


def test_validation_frames_that_are_trained_on_are_refused(train, frames, tmp_path):
    code, _, err = train(frames, "-o", tmp_path / "m", "--validation", frames)
    assert code == 2
    assert "4 of 4 validation frames are trained on" in err


def test_images_without_labels_are_named(train, frames, tmp_path):
    (frames / "a_1_masks.tif").unlink()
    _, out, _ = train(frames, "-o", tmp_path / "m")
    assert "1 image without labels, left out: a_1.tif." in out


@pytest.fixture
def small_synthetic(monkeypatch):
    from cypose_dask import learn

    def fake(n, *, first_seed, chlorophyll):
        rng = np.random.default_rng(first_seed)
        labels = np.zeros((48, 48), np.uint32)
        labels[5:15, 5:15] = 1
        shape = (2, 48, 48) if chlorophyll else (48, 48)
        return [rng.integers(0, 99, shape).astype(np.uint16) for _ in range(n)], [labels] * n

    monkeypatch.setattr(learn, "training_set", fake, raising=False)
    monkeypatch.setattr(train_command, "_SYNTHETIC_VALIDATION", 1)


def test_synthetic_frames_alone_are_scored_on_others(train, tmp_path, small_synthetic):
    code, out, err = train("-o", tmp_path / "m", "--synthetic", 3, "--seed", 4)
    assert code == 0, err
    assert "train on  synthetic frames, seeds from 10800000: 3 frames, 3 cells" in out
    assert "score on  synthetic frames, seeds from 10900000: 1 frame" in out


def test_synthetic_frames_are_added_to_train_on_alone(train, frames, tmp_path, small_synthetic):
    code, out, _ = train(frames, "-o", tmp_path / "m", "--synthetic", 3)
    assert code == 0
    assert out.count("train on  synthetic frames") == 1
    assert "score on  synthetic" not in out


# ---- continuing ----------------------------------------------------------------------------


def test_an_interrupted_training_continues_to_the_same_model(cli, frames, tmp_path, monkeypatch):
    def scores(*values):
        left = iter(values)

        def give(net, given):
            value = next(left)
            if value is None:
                raise KeyboardInterrupt
            return (value,) * 3

        monkeypatch.setattr(loop, "mean_precision", give)

    scores(0.1, 0.2, 0.3)
    assert cli("train", frames, "-o", tmp_path / "whole", *TINY)[0] == 0
    scores(0.1, 0.2, None)
    code, _, err = cli("train", frames, "-o", tmp_path / "cut", *TINY)
    assert code == 4
    assert "Run the same command again to continue" in err
    assert not (tmp_path / "cut").exists()
    scores(0.3)
    code, out, _ = cli("train", frames, "-o", tmp_path / "cut", *TINY)
    assert code == 0
    assert "before 0.100 / 0.100 / 0.100 -> after 0.300" in out
    assert same(tmp_path / "whole", tmp_path / "cut")


def test_the_same_command_again_leaves_a_card_that_was_filled_in(train, frames, tmp_path):
    output = tmp_path / "m"
    assert train(frames, "-o", output)[0] == 0
    card = tmp_path / "m.md"
    card.write_text(card.read_text() + "\nfilled in\n")
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    code, out, _ = train(frames, "-o", output)
    assert code == 0
    assert "epoch    2 of 2" in out
    assert before == {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}


@pytest.mark.slow
def test_another_recipe_is_refused_until_restart(train, frames, tmp_path):
    output = tmp_path / "m"
    assert train(frames, "-o", output)[0] == 0
    first = output.read_bytes()
    code, out, err = train(frames, "-o", output, "--seed", 1, "--learning-rate", "0.002")
    assert code == 2
    assert "learning_rate was 0.001, is 0.002; seed was 0, is 1" in err
    assert "--restart" in err
    assert "epoch " not in out
    assert output.read_bytes() == first
    assert train(frames, "-o", output, "--seed", 1, "--restart")[0] == 0
    assert output.read_bytes() != first
    assert resolve_model(output).sha256  # fits its registry
    assert "restart" not in (tmp_path / "m.md").read_text()


def test_other_labels_are_refused(train, frames, tmp_path):
    assert train(frames, "-o", tmp_path / "m")[0] == 0
    path = frames / "a_1_masks.tif"
    tifffile.imwrite(path, np.roll(tifffile.imread(path), 1, 0), imagej=True)
    code, _, err = train(frames, "-o", tmp_path / "m")
    assert code == 2
    assert "data differs" in err


@pytest.mark.slow
def test_a_training_killed_for_real_continues_to_the_same_model(frames, tmp_path):
    def command(output):
        call = "from cypose_dask.cli import main; main()"
        return [sys.executable, "-c", call, "train", str(frames), "-o", str(output),
                *TINY, "--epochs", "6"]  # fmt: skip

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    process = subprocess.Popen(command(tmp_path / "cut"), stdout=subprocess.DEVNULL)
    curve = tmp_path / "cut.training" / "cut.curve.json"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if curve.exists() and len(json.loads(curve.read_text())["epochs"]) >= 3:
            break
        time.sleep(0.02)
    assert process.poll() is None, "the training ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut").exists()
    subprocess.run(command(tmp_path / "cut"), check=True, capture_output=True)
    assert same(tmp_path / "whole", tmp_path / "cut")


# ---- refusals ------------------------------------------------------------------------------


def test_files_that_are_no_model_of_ours_are_never_overwritten(train, frames, tmp_path):
    (tmp_path / "precious").write_text("data")
    for more in ([], ["--restart"]):
        code, _, err = train(frames, "-o", tmp_path / "precious", *more)
        assert code == 2
        assert "is no model in" in err
    assert (tmp_path / "precious").read_text() == "data"


@pytest.mark.slow
def test_a_model_without_its_training_is_replaced_only_by_restart(train, frames, tmp_path):
    import shutil

    assert train(frames, "-o", tmp_path / "m")[0] == 0
    shutil.rmtree(tmp_path / "m.training")
    code, _, err = train(frames, "-o", tmp_path / "m")
    assert code == 2
    assert "cannot be continued" in err
    assert train(frames, "-o", tmp_path / "m", "--restart")[0] == 0


def test_models_says_how_a_model_was_trained(train, frames, cli, tmp_path):
    train(frames, "-o", tmp_path / "mine")
    code, out, err = cli("models", tmp_path / "mine")
    assert code == 0, err
    [line] = [line for line in out.splitlines() if line.startswith("trained ")]
    assert "on 2 frames of 1 movie" in line
    (tmp_path / "registry.toml").unlink()
    assert "trained " not in cli("models", tmp_path / "mine")[1]


@pytest.mark.parametrize("name", ["", "registry.toml", ".hidden", ".."])
def test_a_name_that_is_none_is_refused(train, frames, tmp_path, name):
    code, _, err = train(frames, "-o", f"{tmp_path}/{name}")
    assert code == 2
    assert "is no name for a model" in err


@pytest.mark.parametrize("text", ["[crates]\n", "[["])
def test_a_registry_of_something_else_is_left_alone(train, frames, tmp_path, text):
    (tmp_path / "registry.toml").write_text(text)
    code, _, err = train(frames, "-o", tmp_path / "m")
    assert code == 2
    assert "registry.toml" in err
    assert (tmp_path / "registry.toml").read_text() == text


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "Give a SOURCE of labelled frames"),
        (["FRAMES", "--from-scratch", "--start", "default"], "--start MODEL or --from-scratch"),
        (["FRAMES", "--channels", "mean"], "cannot be trained on their mean"),
        (["FRAMES", "--frames", "5:5"], "chooses no frame"),
        (["FRAMES", "--frames", "a"], "is no choice of frames"),
        (["FRAMES", "--frames", "5:"], "is no choice of frames"),
        (["FRAMES", "--frames=-3:5"], "is no choice of frames"),
        (["FRAMES", "--crop-px", "33"], "expected a multiple of 16"),
        (["FRAMES", "--start", "cyano-rod"], "Did you mean cyano-rods"),
        (["FRAMES", "--channels", "3"], "no one channel 3"),
        (["FRAMES", "--validation", "nowhere"], "no such folder or file"),
    ],
)
def test_wrong_usage_is_an_error_of_one_line(cli, frames, tmp_path, args, words):
    code, out, err = cli(
        "train", *[frames if a == "FRAMES" else a for a in args], "-o", tmp_path / "m"
    )
    assert code in (2, 3)
    assert words in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "m.training").exists()


def test_more_channels_than_the_network_has_inputs_are_refused(train, tmp_path):
    folder = write_frames(tmp_path / "two", ["a_1", "b_1"], axes="CYX")
    code, _, err = train(folder, "-o", tmp_path / "m", "--channels", "0,1,0")
    assert code == 2
    assert "channels" in err


def test_a_gpu_that_is_not_there_is_refused(train, frames, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    code, _, err = train(frames, "-o", tmp_path / "m", "--gpu")
    assert code != 0
    assert "A GPU was asked for" in err


@pytest.mark.parametrize(
    ("text", "frames"),
    [("0:3", (0, 1, 2)), ("7", (7,)), ("0:10:5,2", (0, 2, 5)), ("3,1,1", (1, 3))],
)
def test_frames_are_ranges_with_an_exclusive_end(text, frames):
    assert train_command._parse_frames(None, None, text) == frames
