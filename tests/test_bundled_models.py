"""The bundled models: what the registry, the cards, the scripts and the README say of them."""

from __future__ import annotations

import hashlib
import re
import sys
import tomllib

import pytest

from conftest import ROOT
from cypose_dask.learn import training_set
from cypose_dask.learn.scoring.evaluation import average_precision, median_diameter
from cypose_dask.models import resolve_model

sys.path.insert(0, str(ROOT / "scripts"))
import benchmark_finetuning
import benchmark_models
import train_bundled_models

MODELS = ROOT / "models"
REGISTRY = tomllib.loads((MODELS / "registry.toml").read_text())
NAMES = sorted(REGISTRY["models"])
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_registry_tells_the_truth_of_the_file(name):
    entry, spec = REGISTRY["models"][name], resolve_model(name)
    assert hashlib.sha256((MODELS / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert entry["inputs"] == len(entry["wants"]) <= spec.network_inputs
    assert entry["diameter"] == pytest.approx(spec.diameter, abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_has_a_card_that_says_where_it_comes_from(name):
    card = (MODELS / f"{name}.md").read_text()
    for needed in ("licence", "seed", "train_bundled_models.py", "## Scores", "## Limits"):
        assert needed in card, needed


@pytest.mark.parametrize("name", NAMES)
def test_the_script_can_train_every_model_that_is_bundled(name):
    plan = train_bundled_models.PLANS[name]
    assert [list(words) for words in plan.wants] == REGISTRY["models"][name]["wants"]
    assert plan.recipe.diameter == resolve_model(name).diam_mean


def test_no_frame_is_both_trained_on_and_scored():
    trained = set()
    for plan in train_bundled_models.PLANS.values():
        trained |= {*plan.seeds, *plan.alone}
    chosen_by = set(train_bundled_models.VALIDATION_SEEDS)
    first = benchmark_models.FIRST_SEED
    scored = set(range(first, first + 10_000))
    tuned = {*benchmark_finetuning.TRAINING, *benchmark_finetuning.VALIDATION}
    unseen = set(benchmark_finetuning.UNSEEN)
    for one, other in [
        (trained, chosen_by), (trained, scored), (chosen_by, scored),
        (tuned, unseen), (trained | chosen_by, unseen),
    ]:  # fmt: skip
        assert not one & other


def test_weights_stay_small():
    """At most 40 MB in the tree."""
    assert sum((MODELS / name).stat().st_size for name in NAMES) < 40e6


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_and_the_card_hold_the_rows_that_the_script_printed(name):
    """The script writes one table into the README, and each model's rows into its card."""
    table = README.split(benchmark_models.MARKERS[0])[1].split(benchmark_models.MARKERS[1])[0]
    scores, _, _ = table.strip().partition("\n\n")  # speeds follow, in the README alone
    rows = [line for line in scores.splitlines() if re.search(rf"\| {name}[ ,|]", line)]
    card = (MODELS / f"{name}.md").read_text()
    assert len(rows) > 8
    assert [row for row in rows if row not in card] == []


def test_a_table_replaces_the_one_between_the_markers_and_nothing_else(tmp_path):
    path = tmp_path / "page.md"
    start, end = benchmark_models.MARKERS
    path.write_text(f"before\n{start}\nold\n{end}\nafter\n")
    benchmark_models.write(path, ["| new |", "| --- |"])
    assert path.read_text() == f"before\n{start}\n| new |\n| --- |\n{end}\nafter\n"
    path.write_text("no markers")
    with pytest.raises(SystemExit, match="has no"):
        benchmark_models.write(path, [])
    assert path.read_text() == "no markers"


def test_the_default_model_segments_frames_that_it_never_saw():
    from cypose_dask.engine.network import load_networks
    from cypose_dask.learn.training.validation import segment_like

    frames, labels = training_set(2, first_seed=900_000, min_cells=15)
    network = load_networks(resolve_model("default"), "cpu").segmentation
    pairs = zip(frames, labels, strict=True)
    predicted = [segment_like(truth, frame[None], network) for frame, truth in pairs]
    scores = average_precision(labels, predicted)
    assert scores.mean_ap[0] > 0.8
    assert scores.mean_ap[1] > 0.6
    assert median_diameter(labels[0]) > 5
