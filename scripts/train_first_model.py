"""Train the first bundled model, `cyano-rods`, on synthetic frames alone, and bundle it.

    python scripts/train_first_model.py --folder /tmp/train
    python scripts/train_first_model.py --folder /tmp/train --bundle models --card CARD.md

The first line trains (about 45 minutes on two quiet cores with AVX512-BF16; checkpoints appear in
FOLDER/models); with --bundle the weights are written to that folder as float16, with the card and
a registry entry. --weights bundles weights that are already there instead of training, and
--start goes on from weights. Where other work shares the machine, OMP_NUM_THREADS=1 is three times
as fast: two threads wait for each other at every layer.
"""

import argparse
import logging
from pathlib import Path

from cypose_dask.learn import Recipe, bundle_model, train_network, training_set
from cypose_dask.learn.bundle import Entry

log = logging.getLogger("train_first_model")

# Substrings of channel names that mean transmitted light. Not "ph": it is in "chlorophyll".
TRANSMITTED = ("brightfield", "bright field", "phase", "bf", "dia", "trans", "tl")
PHASE_RINGS = ("ph1", "ph2", "ph3")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where checkpoints are written")
    parser.add_argument("--name", default="cyano-rods")
    parser.add_argument("--n-frames", type=int, default=800)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--n-epochs", type=int, default=Recipe.n_epochs)
    parser.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    parser.add_argument("--save-every", type=int, default=Recipe.save_every, help="epochs")
    parser.add_argument("--start", type=Path, help="weights to begin with")
    parser.add_argument("--weights", type=Path, help="bundle these instead of training")
    parser.add_argument("--bundle", type=Path, help="folder of the bundled models")
    parser.add_argument("--trained", help="the registry's sentence, where it took several stages")
    parser.add_argument("--card", type=Path, help="Markdown to go with the bundled model")
    args = parser.parse_args()
    if args.bundle and not args.card:
        parser.error("--bundle needs --card")
    return args


def train(args: argparse.Namespace) -> Path:
    """Generate frames and train on them."""
    frames, labels = training_set(args.n_frames, first_seed=args.first_seed)
    recipe = Recipe(
        n_epochs=args.n_epochs, learning_rate=args.learning_rate, save_every=args.save_every
    )
    return train_network(
        frames, labels, folder=args.folder, name=args.name, recipe=recipe, start=args.start
    )


def bundle(args: argparse.Namespace, weights: Path) -> Path:
    """Write weights, card and registry entry."""
    entry = Entry(
        wants=((*TRANSMITTED, *PHASE_RINGS),),
        diameter=Recipe.diameter,
        licence="BSD-3-Clause",
        trained=args.trained
        or (
            f"From scratch on {args.n_frames} synthetic frames (seeds from {args.first_seed}, no "
            f"real image) for {args.n_epochs} epochs by scripts/train_first_model.py."
        ),
    )
    card = args.card.read_text(encoding="utf-8")
    return bundle_model(weights, args.bundle, name=args.name, entry=entry, card=card)


def main() -> None:
    """Train, unless weights are given; bundle, if asked to."""
    args = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    weights = args.weights or train(args)
    log.info("weights: %s", bundle(args, weights) if args.bundle else weights)


if __name__ == "__main__":
    main()
