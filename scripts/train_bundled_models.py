"""Train the networks of models/ on synthetic frames, and bundle them.

    python scripts/train_bundled_models.py cyano-rods --folder training
    python scripts/train_bundled_models.py cyano-rods --folder training --average A B C
    python scripts/train_bundled_models.py cyano-rods --folder training --bundle models

The first line trains (hours on two cores; killed, it continues where it was), the second puts the
equal mean of several weights files in the place of the best epoch, and the third bundles what is
there: float16 weights and registry entry, beside the card models/NAME.md, which people write.
Where other work shares the machine, set OMP_NUM_THREADS=1: two threads wait for each other at
every layer.
"""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

from cypose_dask.learn import (
    Examples,
    Recipe,
    average_weights,
    bundle_model,
    synthetic_frame,
    train_network,
)
from cypose_dask.learn.training.bundle import Entry
from cypose_dask.models import resolve_model
from cypose_dask.models.probe import probe_weights

log = logging.getLogger("train_bundled_models")

# Validation frames are small: one or two network tiles each.
VALIDATION_SHAPE = (160, 160)
VALIDATION_SEEDS = range(700_000, 700_024)


# Words in the names of channels. Not "ph": it is in "chlorophyll".
TRANSMITTED = (
    "brightfield", "bright field", "phase", "bf", "dia", "trans", "tl", "ph1", "ph2", "ph3",
)  # fmt: skip
CHLOROPHYLL = ("chlorophyll", "chl", "autofluorescence", "cy5", "far red", "farred", "red")


@dataclass(frozen=True)
class Plan:
    """How one network of models/ came to be."""

    wants: tuple[tuple[str, ...], ...]
    recipe: Recipe
    seeds: range
    start: str | None
    chlorophyll: bool = False
    alone: range = range(0)  # seeds of frames whose second channel stays empty
    trained: str = ""  # for the registry, where the weights are not simply the best epoch


PLANS = {
    # Rods, ovals, chains and threads in one channel: phase, brightfield or fluorescence.
    "cyano-rods": Plan(
        (TRANSMITTED,),
        Recipe(diameter=18.0, n_epochs=100, learning_rate=0.001, validate_every=10, seed=3),
        seeds=range(50_000, 50_700),
        start="cyano-rods",
        trained=(
            "Equal mean of three stages of its own training and of cyano-chlorophyll, which began "
            "with one of them; synthetic frames alone (no real image); see the card."
        ),
    ),
    # For comparison, not bundled: cells scaled to 30 px, from the same weights, on the same frames,
    # in the same time (larger crops, fewer epochs).
    "rods-30": Plan(
        (TRANSMITTED,),
        Recipe(
            diameter=30.0, n_epochs=40, crop_px=176, learning_rate=0.001, validate_every=10, seed=3
        ),
        seeds=range(50_000, 50_700),
        start="cyano-rods",
    ),
    # The same in phase or brightfield, with chlorophyll in the second channel.
    "cyano-chlorophyll": Plan(
        (TRANSMITTED, CHLOROPHYLL),
        Recipe(diameter=18.0, n_epochs=240, learning_rate=0.002, validate_every=20, seed=2),
        seeds=range(40_000, 40_800),
        start="cyano-rods",
        chlorophyll=True,
        alone=range(41_000, 41_100),
    ),
}


def examples(seeds: range, *, chlorophyll: bool, shape: tuple[int, int] = (288, 288)) -> Examples:
    """Make one frame a seed; each counts as a movie of its own."""
    made = [synthetic_frame(seed, shape=shape, chlorophyll=chlorophyll) for seed in seeds]
    frames = tuple(m.frame.reshape(-1, *m.labels.shape) for m in made)
    return Examples(frames, tuple(m.labels for m in made), tuple(f"seed {s}" for s in seeds))


def train(name: str, folder: Path) -> Path:
    """Train one network, or go on with it."""
    plan = PLANS[name]
    alone = examples(plan.alone, chlorophyll=False)
    return train_network(
        examples(plan.seeds, chlorophyll=plan.chlorophyll) + alone,
        examples(VALIDATION_SEEDS, chlorophyll=plan.chlorophyll, shape=VALIDATION_SHAPE),
        folder=folder,
        name=name,
        recipe=plan.recipe,
        start=resolve_model(plan.start) if plan.start else None,
    )


def bundle(name: str, weights: Path, models: Path) -> Path:
    """Write weights and registry entry beside the card that is there."""
    plan = PLANS[name]
    n_frames = len(plan.seeds) + len(plan.alone)
    trained = plan.trained or (
        f"On {n_frames} synthetic frames (no real image) for {plan.recipe.n_epochs} epochs by "
        f"scripts/train_bundled_models.py, starting from {plan.start or 'random weights'}; see "
        "the card."
    )
    entry = Entry(
        wants=plan.wants,
        diameter=round(probe_weights(weights).diameter, 2),
        licence="BSD-3-Clause",
        trained=trained,
    )
    card = (models / f"{name}.md").read_text(encoding="utf-8")
    return bundle_model(weights, models, name=name, entry=entry, card=card)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(PLANS))
    parser.add_argument("--folder", type=Path, required=True, help="where training writes")
    parser.add_argument("--average", type=Path, nargs="+", help="weights to take the mean of")
    parser.add_argument("--bundle", type=Path, help="folder of the bundled models")
    return parser.parse_args()


def main() -> None:
    """Train, or bundle what was trained."""
    args = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("cellpose").setLevel(logging.WARNING)
    if args.average:
        log.info("mean of %d files: %s", len(args.average),
                 average_weights(args.average, args.folder / args.name))  # fmt: skip
    elif args.bundle:
        log.info("bundled %s", bundle(args.name, args.folder / args.name, args.bundle))
    else:
        log.info("best weights: %s", train(args.name, args.folder))


if __name__ == "__main__":
    main()
