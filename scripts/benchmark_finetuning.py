"""Show what fine-tuning is worth: 20 labelled frames of a look that the model has never seen.

    python scripts/benchmark_finetuning.py --folder finetuning

The look is differential interference contrast, a relief lit from one side, which is not among those
that the bundled networks are trained on. 16 of the 20 frames are learned from and 4 choose the best
epoch; the scores before and after are those of other frames. Takes some minutes on two cores;
killed, it continues.
"""

import argparse
import logging
from pathlib import Path

from cypose_dask.engine.network import load_networks
from cypose_dask.learn import Examples, Recipe, evaluate_labels, synthetic_frame, train_network
from cypose_dask.learn.training.validation import segment_like
from cypose_dask.models import resolve_model

TRAINING, VALIDATION, UNSEEN = (
    range(800_000, 800_016),
    range(800_016, 800_020),
    range(800_100, 800_120),
)
KINDS = ("colony", "lawn", "scatter", "chains")
SHAPE = (224, 224)


def new_look(seeds: range) -> Examples:
    """Render labelled frames of the new look, of every kind in turn."""
    made = [
        synthetic_frame(seed, shape=SHAPE, look="dic", kind=KINDS[seed % len(KINDS)])
        for seed in seeds
    ]
    frames = tuple(one.frame[None] for one in made)
    return Examples(frames, tuple(one.labels for one in made), tuple(map(str, seeds)))


def scores(model: str, examples: Examples) -> str:
    """Score a model on frames, each at its truth's median diameter."""
    network = load_networks(resolve_model(model), "cpu").segmentation
    pairs = zip(examples.frames, examples.labels, strict=True)
    predicted = [segment_like(labels, frame, network) for frame, labels in pairs]
    result = evaluate_labels(examples.labels, predicted)
    ap = " / ".join(f"{value:.2f}" for value in result.mean_ap)
    return f"{ap} | {result.pooled.pq:.2f}"


def main() -> None:
    """Score, fine-tune, score again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where training writes")
    parser.add_argument("--model", default="default", help="where to start from")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("cellpose").setLevel(logging.WARNING)
    tuned = train_network(
        new_look(TRAINING),
        new_look(VALIDATION),
        folder=args.folder,
        name="dic",
        recipe=Recipe(n_epochs=60, crops_per_epoch=16, learning_rate=0.001),
        start=resolve_model(args.model),
    )
    unseen = new_look(UNSEEN)
    print(f"| {len(unseen)} unseen frames | AP at IoU 0.5 / 0.75 / 0.9 | PQ |")
    print("| --- | --- | --- |")
    print(f"| before | {scores(args.model, unseen)} |")
    print(f"| after {len(TRAINING) + len(VALIDATION)} frames | {scores(str(tuned), unseen)} |")


if __name__ == "__main__":
    main()
