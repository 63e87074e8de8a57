"""Training, scoring and bundling: small enough to run on every change."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from cypose_dask.errors import CyposeError, SettingsError
from cypose_dask.learn import (
    Examples,
    average_precision,
    bundle_model,
    train_network,
    training_set,
)
from cypose_dask.learn.scoring.evaluation import median_diameter
from cypose_dask.learn.training import loop
from cypose_dask.learn.training.bundle import Entry, to_float16
from cypose_dask.learn.training.checkpoint import content_hash
from cypose_dask.learn.training.loop import Recipe, new_network
from cypose_dask.learn.training.targets import prepare
from cypose_dask.models import resolve_model

MODELS = Path(__file__).parent.parent / "models"
ENTRY = Entry(
    wants=(("phase", "bf"),), diameter=18.0, licence="BSD-3-Clause", trained='by "us", 1 epoch'
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights as Cellpose saves them."""
    path = tmp_path_factory.mktemp("weights") / "random"
    new_network(Recipe()).save_model(str(path))
    return path


def test_average_precision_is_one_for_the_truth_and_falls_with_a_lost_cell():
    truth = np.zeros((30, 30), int)
    truth[2:10, 2:10], truth[15:25, 15:25] = 1, 2
    scores = average_precision([truth, truth], [truth, np.where(truth == 1, 0, truth)])
    np.testing.assert_allclose(scores.ap, [[1, 1, 1], [0.5, 0.5, 0.5]])
    np.testing.assert_allclose(scores.mean_ap, [0.75] * 3)
    np.testing.assert_allclose(scores.recall, [0.75] * 3)


def test_swapping_truth_and_prediction_swaps_misses_and_inventions_only():
    truth = np.zeros((20, 20), int)
    truth[2:8, 2:8] = 1
    more = truth.copy()
    more[12:18, 12:18] = 2
    one, two = average_precision([truth], [more]), average_precision([more], [truth])
    np.testing.assert_array_equal(one.ap, two.ap)
    np.testing.assert_array_equal(one.fp, [[1, 1, 1]])
    np.testing.assert_array_equal(one.fp, two.fn)
    np.testing.assert_array_equal(one.fn, two.fp)


def test_unequal_numbers_of_frames_are_refused():
    with pytest.raises(SettingsError, match="1 true and 0 predicted"):
        average_precision([np.ones((2, 2), int)], [])


def test_median_diameter_is_that_of_a_disc_of_the_same_area():
    labels = np.zeros((20, 20), int)
    labels[5:15, 5:15] = 1
    assert median_diameter(labels) == pytest.approx(np.sqrt(100 * 4 / np.pi), rel=1e-3)


def tiny(seed=0, n=2, shape=(48, 48), channels=1) -> Examples:
    """Frames of a few round cells, far from anything that needs learning."""
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    frames, labels = [], []
    for _ in range(n):
        truth = np.zeros(shape, np.uint16)
        for number, (y, x) in enumerate(rng.integers(8, min(shape) - 8, (3, 2)), 1):
            truth[(rows - y) ** 2 + (columns - x) ** 2 < 30] = number
        frames.append(
            (rng.normal(100, 5, (channels, *shape)) - 40 * (truth > 0)).astype(np.float32)
        )
        labels.append(truth)
    return Examples(tuple(frames), tuple(labels), tuple(f"movie {seed} {i}" for i in range(n)))


def tiny_recipe(**changes) -> Recipe:
    return Recipe(
        **{"n_epochs": 3, "crops_per_epoch": 2, "crop_px": 32, "batch_size": 2, "validate_every": 1}
        | changes
    )


@pytest.fixture
def train(tmp_path):
    """Train a tiny network and return its float32 weights."""
    import torch

    def run(name, recipe=None, *, data=None, validation=None, **options):
        path = train_network(
            tiny() if data is None else data,
            tiny(1, n=1) if validation is None else validation,
            folder=tmp_path / name,
            name="net",
            recipe=recipe or tiny_recipe(),
            **options,
        )
        return torch.load(path, weights_only=True)

    return run


def same(one, other) -> bool:
    import torch

    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture
def scores(monkeypatch):
    """Let validations return given scores, one after the other, instead of segmenting."""

    def give(*values):
        left = iter(values)
        monkeypatch.setattr(loop, "mean_precision", lambda net, examples: (next(left),) * 3)

    return give


class StopError(Exception):
    pass


def stop_after(epochs):
    def watch(line):
        if line.epoch == epochs:
            raise StopError

    return watch


def test_training_refuses_to_begin_without_frames(train):
    with pytest.raises(SettingsError, match="nothing to train on"):
        train("none", data=tiny().take([]))
    empty = Examples(tiny().frames, tuple(np.zeros_like(a) for a in tiny().labels), ("a", "b"))
    with pytest.raises(SettingsError, match="2 frames without a single labelled cell"):
        train("none", data=empty)


def test_training_refuses_to_begin_without_frames_to_validate_on(train, tmp_path):
    with pytest.raises(SettingsError, match="no frames to validate on"):
        train_network(tiny(), tiny().take([]), folder=tmp_path, name="net", recipe=tiny_recipe())


def test_more_channels_than_inputs_are_refused(train):
    with pytest.raises(CyposeError, match=r"3 .*(channels|inputs)"):
        train("three", data=tiny(channels=3))


def test_a_frame_without_cells_is_trained_on_at_the_others_scale():
    data = tiny()
    empty = Examples(
        (*data.frames, data.frames[0]), (*data.labels, np.zeros((48, 48), int)), ("a", "b", "c")
    )
    prepared = prepare(empty, inputs=2, device=None)
    assert prepared.diameters[2] == np.median(prepared.diameters[:2])
    assert not prepared.targets[2].any()
    assert np.isfinite(prepared.images[2]).all()


@pytest.mark.parametrize("n_epochs", [1, 2, 3, 9, 10, 11, 40, 400])
def test_the_rate_rises_stays_and_falls(n_epochs):
    recipe = Recipe(n_epochs=n_epochs, learning_rate=0.004)
    rates = np.array([recipe.rate(epoch) for epoch in range(n_epochs)])
    assert (rates > 0).all()
    assert rates.max() <= 0.004
    steps = np.sign(np.diff(rates))
    assert (np.diff(steps[steps != 0]) <= 0).all()  # never rises after it fell
    if n_epochs >= 40:
        assert (rates[9 : n_epochs - n_epochs // 4] == 0.004).all()
        assert rates[0] == pytest.approx(0.0004)
        assert rates[-1] == pytest.approx(0.004 / 2**10)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_epochs", 0), ("crop_px", 100), ("learning_rate", 0.0), ("batch_size", 0)],
)
def test_a_recipe_out_of_range_is_refused(name, value):
    with pytest.raises(SettingsError, match=f"{name} is {value}"):
        Recipe(**{name: value})


def test_the_same_seed_twice_gives_the_same_weights_and_another_seed_others(train, scores):
    scores(*range(100))
    recipe = tiny_recipe(n_epochs=2, validate_every=2)
    one, two = train("one", recipe), train("two", recipe)
    assert same(one, two)
    assert not same(one, train("three", tiny_recipe(n_epochs=2, validate_every=2, seed=1)))


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_training_that_was_stopped_continues_to_the_same_weights(train, scores, epochs):
    scores(*range(100))
    whole = train("whole")
    with pytest.raises(StopError):
        train("stopped", watch=stop_after(epochs))
    seen = []
    assert same(whole, train("stopped", watch=lambda line: seen.append(line.epoch)))
    assert seen == [1, 2, 3]


def test_every_epoch_draws_its_own_crops(train, scores, monkeypatch):
    draw, drawn = loop.Crops.epoch, []

    def watched(self, n_crops, *, batch_size, seed):
        for images, targets in draw(self, n_crops, batch_size=batch_size, seed=seed):
            drawn.append(images.copy())
            yield images, targets

    monkeypatch.setattr(loop.Crops, "epoch", watched)
    scores(1, 2, 1, 2)
    recipe = tiny_recipe(n_epochs=2)
    train("one", recipe)
    train("two", recipe)
    first, second, again, _ = drawn
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)


def test_a_finished_training_is_not_trained_again(train, scores, tmp_path):
    scores(1, 2, 3)  # a fourth validation would raise StopIteration
    first = train("done")
    assert same(first, train("done"))


def test_the_weights_of_the_best_epoch_are_kept(train, scores, tmp_path):
    import torch

    scores(0.2, 0.6, 0.1)
    kept = train("best")
    scores(0.2, 0.6)
    shorter = tiny_recipe(n_epochs=2)
    # The rate of epoch 2 does not depend on how many follow while it rises.
    assert [tiny_recipe().rate(e) for e in (0, 1)] == [shorter.rate(e) for e in (0, 1)]
    assert same(kept, train("two", shorter))
    state = torch.load(tmp_path / "best" / "net.checkpoint", weights_only=True)
    assert not torch.equal(state["net"]["output.2.weight"], kept["output.2.weight"])


def test_weights_that_training_begins_with_are_kept_where_it_makes_them_worse(train, scores):
    import torch

    start = resolve_model(MODELS / "cyano-rods")
    scores(0.9, 0.1)
    seen = []
    kept = train("fine", tiny_recipe(n_epochs=1), start=start, watch=seen.append)
    assert [(line.epoch, line.loss is None) for line in seen] == [(0, True), (1, False)]
    before = torch.load(start.path, weights_only=True)
    assert torch.equal(kept["output.2.weight"], before["output.2.weight"].float())


def test_another_recipe_or_other_data_is_refused_by_name(train, scores):
    scores(*range(100))
    train("one", tiny_recipe(n_epochs=1))
    with pytest.raises(SettingsError, match=r"n_epochs was 1, is 2.*--restart"):
        train("one", tiny_recipe(n_epochs=2))
    with pytest.raises(SettingsError, match="training: training data differs"):
        train("one", tiny_recipe(n_epochs=1), data=tiny(5))
    with pytest.raises(SettingsError, match="training: validation data differs"):
        train("one", tiny_recipe(n_epochs=1), validation=tiny(5))
    with pytest.raises(SettingsError, match="start differs"):
        train("one", tiny_recipe(n_epochs=1), start=resolve_model(MODELS / "cyano-rods"))


def test_a_damaged_checkpoint_is_refused(train, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "net.checkpoint").write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(SettingsError, match="cannot be read"):
        train("one")


def test_labels_shifted_by_a_pixel_are_other_data():
    data = tiny()
    shifted = Examples(data.frames, tuple(np.roll(a, 1, 0) for a in data.labels), data.movies)
    renamed = Examples(data.frames, data.labels, ("x", "y"))
    assert content_hash(data) == content_hash(renamed) == content_hash(tiny())
    assert content_hash(data) != content_hash(shifted)
    assert content_hash(data) != content_hash(data.take([1, 0]))


def test_inputs_that_the_first_weights_do_not_have_are_refused():
    with pytest.raises(SettingsError, match="has 2 inputs and cannot become a network of 1"):
        new_network(Recipe(inputs=1), start=resolve_model(MODELS / "cyano-rods"))


def test_the_same_seed_gives_the_same_first_weights():
    import torch

    first, second, other = (
        new_network(Recipe(seed=seed)).state_dict()["output.2.weight"] for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_float16_file_is_flat_half_the_size_and_loads_in_cellpose(weights, tmp_path):
    import torch
    from cellpose.models import CellposeModel

    path = to_float16(weights, tmp_path / "half")
    state = torch.load(path, weights_only=True)
    kinds = {key: value.dtype for key, value in state.items()}
    wide = [key for key in kinds if key.startswith("diam_") or ".running_" in key]
    assert {kinds.pop(key) for key in wide} == {torch.float32}
    assert {kind for kind in kinds.values() if kind.is_floating_point} == {torch.float16}
    assert path.stat().st_size < 0.6 * weights.stat().st_size
    assert CellposeModel(gpu=False, pretrained_model=str(path)).diam_mean == pytest.approx(18)


def test_a_variance_beyond_float16_stays_finite(weights, tmp_path):
    import torch

    state = torch.load(weights, weights_only=True)
    key = next(key for key in state if key.endswith("running_var"))
    state[key][0] = 1e6
    torch.save(state, tmp_path / "wide")
    small = torch.load(to_float16(tmp_path / "wide", tmp_path / "half"), weights_only=True)
    assert small[key][0] == 1e6


def test_bundling_writes_weights_registry_and_card_and_keeps_the_other_models(weights, tmp_path):
    import hashlib

    bundle_model(weights, tmp_path, name="one", entry=ENTRY, card="# one\n")
    path = bundle_model(weights, tmp_path, name="two", entry=ENTRY, card="# two\n")
    registry = tomllib.loads((tmp_path / "registry.toml").read_text())
    assert registry["default"] == "one"
    assert set(registry["models"]) == {"one", "two"}
    entry = registry["models"]["two"]
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert entry["wants"] == [["phase", "bf"]]
    assert (entry["inputs"], entry["diameter"], entry["trained"]) == (1, 18.0, ENTRY.trained)
    assert (tmp_path / "two.md").read_text() == "# two\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "one", "one.md", "registry.toml", "two", "two.md",
    ]  # fmt: skip


@pytest.mark.slow
def test_training_lowers_the_loss_and_leaves_a_file_that_cellpose_loads(tmp_path):
    from cellpose.models import CellposeModel

    frames, labels = training_set(8, min_cells=20)
    data = Examples(tuple(frame[np.newaxis] for frame in frames), tuple(labels), tuple("abcdefgh"))
    recipe = Recipe(n_epochs=20, crops_per_epoch=8, crop_px=112, validate_every=5)
    curve = []
    path = train_network(
        data.take(range(7)),
        data.take([7]),
        folder=tmp_path,
        name="small",
        recipe=recipe,
        watch=curve.append,
    )
    assert [line.epoch for line in curve] == [5, 10, 15, 20]
    assert curve[-1].loss < 0.9 * curve[0].loss
    assert CellposeModel(gpu=False, pretrained_model=str(path)).diam_mean == pytest.approx(18)


def test_importing_learn_loads_neither_torch_nor_cellpose():
    import subprocess
    import sys

    code = "import sys, cypose_dask.learn; print({'torch', 'cellpose', 'dask'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
