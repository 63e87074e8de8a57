"""Train the first bundled model, `cyano-rods`, on synthetic frames.

    python scripts/train_first_model.py --folder /tmp/train

About an hour on two quiet cores. Checkpoints appear in FOLDER/models.
"""

import argparse
import logging
from pathlib import Path

from cypose_dask.learn.synthetic import training_set
from cypose_dask.learn.training import Recipe, train_network

log = logging.getLogger(__name__)


def main() -> None:
    """Parse, generate, train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where weights are written")
    parser.add_argument("--name", default="cyano-rods")
    parser.add_argument("--n-frames", type=int, default=600)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--n-epochs", type=int, default=Recipe.n_epochs)
    parser.add_argument("--learning-rate", type=float, default=Recipe.learning_rate)
    parser.add_argument("--start", type=Path, help="weights to begin with")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    frames, labels = training_set(args.n_frames, first_seed=args.first_seed)
    recipe = Recipe(n_epochs=args.n_epochs, learning_rate=args.learning_rate)
    path = train_network(
        frames, labels, folder=args.folder, name=args.name, recipe=recipe, start=args.start
    )
    log.info("wrote %s", path)


if __name__ == "__main__":
    main()
