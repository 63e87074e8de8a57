"""The equal mean of several weights files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cypose_dask.errors import ModelError
from cypose_dask.learn import average_weights
from cypose_dask.models import resolve_model
from helpers.weights import write_weights


def state(seed: int, **changes) -> dict:
    rng = np.random.default_rng(seed)
    numbers = {
        "conv.weight": torch.from_numpy(rng.normal(size=(3, 2)).astype(np.float32)),
        "norm.running_var": torch.from_numpy(rng.uniform(size=3).astype(np.float32)),
        "norm.num_batches_tracked": torch.tensor(10 * seed),
        "diam_mean": torch.tensor([18.0]),
    }
    return {key: value for key, value in (numbers | changes).items() if value is not None}


@pytest.fixture
def save(tmp_path):
    def run(*states):
        paths = [tmp_path / f"net {i}" for i in range(len(states))]
        for path, one in zip(paths, states, strict=True):
            torch.save(one, path)
        return paths

    return run


def averaged(paths, tmp_path) -> dict:
    made = average_weights(paths, tmp_path / "mean")
    assert made == tmp_path / "mean"
    return torch.load(made, weights_only=True)


def test_every_number_is_the_mean_and_integers_are_the_firsts(save, tmp_path):
    one, two, three = (state(seed) for seed in (1, 2, 3))
    mean = averaged(save(one, two, three), tmp_path)
    for key in ("conv.weight", "norm.running_var"):
        expected = np.mean([s[key].numpy() for s in (one, two, three)], axis=0)
        np.testing.assert_allclose(mean[key].numpy(), expected, rtol=1e-6)
    assert mean["norm.num_batches_tracked"] == 10
    assert mean["diam_mean"] == 18


def test_the_order_of_the_files_does_not_matter(save, tmp_path):
    states = [state(seed, **{"norm.num_batches_tracked": None}) for seed in range(4)]
    paths = save(*states)
    one, other = averaged(paths, tmp_path), averaged(paths[::-1], tmp_path)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_equal_files_are_their_own_mean(save, tmp_path):
    one = state(1)
    mean = averaged(save(one, one, one), tmp_path)
    assert all(torch.equal(mean[key], one[key]) for key in one)


def test_half_precision_becomes_single(save, tmp_path):
    small = {"conv.weight": torch.full((3, 2), 60_000.0, dtype=torch.float16)}
    mean = averaged(save(state(1, **small), state(2, **small)), tmp_path)
    assert mean["conv.weight"].dtype == torch.float32
    assert (mean["conv.weight"] == 60_000).all()  # a sum in float16 would be infinite


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conv.weight": None}, "only one of them has conv.weight"),
        ({"more": torch.zeros(1)}, "only one of them has more"),
        ({"conv.weight": torch.zeros(2, 2)}, r"shapes of conv.weight are \(2, 2\) and \(3, 2\)"),
        ({"diam_mean": torch.tensor([30.0])}, r"scale cells to 30 and 18 px \(diam_mean\)"),
    ],
)
def test_networks_that_differ_are_refused(changes, words, save, tmp_path):
    paths = save(state(1), state(2, **changes))
    with pytest.raises(ModelError, match=f"net 1 and .*net 0 cannot be averaged: .*{words}"):
        average_weights(paths, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_no_files_and_no_weights_are_refused(save, tmp_path):
    with pytest.raises(ModelError, match="no weights to average"):
        average_weights([], tmp_path / "mean")
    (tmp_path / "rubbish").write_bytes(b"PK\x03\x04")
    for path in (tmp_path / "rubbish", tmp_path / "none", *save([torch.zeros(1)])):
        with pytest.raises(ModelError, match=f"{path}"):
            average_weights([path], tmp_path / "mean")


def test_the_mean_is_a_model(tmp_path):
    paths = [write_weights(tmp_path / f"net {i}") for i in range(2)]
    spec = resolve_model(average_weights(paths, tmp_path / "mean"))
    assert spec.diam_mean == resolve_model(paths[0]).diam_mean
