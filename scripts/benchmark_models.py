"""Score models on frames that none of them was trained on, and print the tables of README.md.

    python scripts/benchmark_models.py                          # the bundled models
    python scripts/benchmark_models.py --model cyto3 --model ./my_weights
    python scripts/benchmark_models.py --write                  # into README.md and models/*.md

Synthetic movies of each kind (seeds that training never uses), and the labelled real images of
--real where that folder exists. Every frame is segmented at its truth's median diameter, with a
flow threshold of 0.75 and the default number of steps. AP is the mean over frames, PQ that of all
cells; where truth is known to be partial, recall stands in the place of AP.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cypose_dask.engine.network import Network, load_networks
from cypose_dask.learn import Examples, evaluate_labels, synthetic_frame, synthetic_movie
from cypose_dask.learn.generator.movie import MOVIE_LOOKS, SPECIES
from cypose_dask.learn.training.validation import segment_like
from cypose_dask.models import resolve_model
from cypose_dask.models.registry import bundled_names

# The readers of real truth belong to the tests; this runs in the same checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.real_truth import real_sets

ROOT = Path(__file__).resolve().parents[1]
MARKERS = ("<!-- scores -->", "<!-- end of scores -->")
N_SCENES = 24
FIRST_SEED = 990_000  # training and its validation stay below 800,000
PIXEL_SIZES_UM = (0.08, 0.14)
SHOWN_FRAMES = (4, 8, 12)
SPEED_PIXEL_UM, SPEED_SHAPE, SPEED_ROUNDS = 0.16, (512, 512), 3


@dataclass(frozen=True)
class Test:
    """Frames of one kind; `rules` are keywords of `evaluate_labels`."""

    name: str
    examples: Examples
    rules: dict[str, bool] = field(default_factory=dict)


def all_tests(real: Path | None) -> Iterator[Test]:
    """Every test; frames of synthetic movies have chlorophyll as their second channel."""
    for species in SPECIES:
        for look in MOVIE_LOOKS:
            yield Test(f"synthetic {species}, {look}", film_examples(species, look))
        glow = with_channels(film_examples(species, "brightfield"), slice(1, 2))
        yield Test(f"synthetic {species}, chlorophyll alone", glow)
    yield Test("random scenes with dead cells as dark as living ones", scene_examples())
    for one in real_sets(real) if real else ():
        yield Test(f"real {one.name}", one.examples, one.rules)


def film_examples(species: str, look: str) -> Examples:
    """Take a few frames (2, Y, X) of two movies with different pixel sizes."""
    movies = [
        synthetic_movie(
            n_frames=SHOWN_FRAMES[-1] + 1, seed=FIRST_SEED + i, species=species, look=look,
            pixel_size_um=pixel, start_cells=8,
        )
        for i, pixel in enumerate(PIXEL_SIZES_UM)
    ]  # fmt: skip
    return Examples(
        tuple(movie.frames[t] for movie in movies for t in SHOWN_FRAMES),
        tuple(movie.labels[t] for movie in movies for t in SHOWN_FRAMES),
        tuple(f"{species} {i}" for i in range(len(movies)) for _ in SHOWN_FRAMES),
    )


def scene_examples() -> Examples:
    """Frames (2, Y, X) of the kind that the two-channel network learned from, of other seeds."""
    seeds = range(FIRST_SEED, FIRST_SEED + N_SCENES)
    made = [synthetic_frame(seed, shape=(224, 224), chlorophyll=True) for seed in seeds]
    kept = [one for one in made if one.labels.any()]
    frames, labels = zip(*((one.frame, one.labels) for one in kept), strict=True)
    return Examples(frames, labels, ("scenes",) * len(kept))


def with_channels(examples: Examples, channels: slice) -> Examples:
    """Keep some channels of every frame."""
    frames = tuple(frame[channels] for frame in examples.frames)
    return Examples(frames, examples.labels, examples.movies)


@dataclass(frozen=True)
class Row:
    """What one model makes of one test; `scores` are AP, or recall where truth is partial."""

    test: str
    model: str
    cells: int
    scores: tuple[float, ...]
    pq: float | None

    def markdown(self) -> str:
        """Format as a row of a table."""
        scores = " / ".join(f"{value:.2f}" for value in self.scores)
        pq = "" if self.pq is None else f"{self.pq:.2f}"
        return f"| {self.test} | {self.cells} | {self.model} | {scores} | {pq} |"


def score(network: Network, test: Test, model: str) -> Row:
    """Segment every frame at its truth's median diameter and compare."""
    pairs = zip(test.examples.frames, test.examples.labels, strict=True)
    predicted = [segment_like(labels, frame, network) for frame, labels in pairs]
    result = evaluate_labels(test.examples.labels, predicted, **test.rules)
    cells = sum(len(np.unique(labels)) - 1 for labels in test.examples.labels)
    if result.partial_truth:
        return Row(test.name, model, cells, result.pooled.recall, None)
    return Row(test.name, model, cells, result.mean_ap, result.pooled.pq)


def score_all(networks: dict[str, Network], real: Path | None) -> Iterator[Row]:
    """Score every model on every test, two-channel models with and without chlorophyll."""
    for test in all_tests(real):
        alone = Test(test.name, with_channels(test.examples, slice(0, 1)), test.rules)
        both = len(test.examples.frames[0]) == 2
        for name, network in networks.items():
            two = len(network.spec.wants) == 2
            if two and both:
                yield score(network, test, f"{name}, both channels")
            yield score(network, alone, f"{name}, first channel alone" if two else name)


def speed_rows(networks: dict[str, Network]) -> Iterator[str]:
    """Time one frame of rods of 16 px, alternating between models; the first counts as 1."""
    movie = synthetic_movie(
        n_frames=22, shape=SPEED_SHAPE, seed=FIRST_SEED, pixel_size_um=SPEED_PIXEL_UM, start_cells=9
    )
    frame, labels = movie.frames[-1, :1], movie.labels[-1]
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(SPEED_ROUNDS + 1):
        for name, network in networks.items():
            began = time.perf_counter()
            segment_like(labels, frame, network)
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - began)
    base = float(np.median(next(iter(seconds.values()))))
    for name, network in networks.items():
        speed = base / float(np.median(seconds[name]))
        yield f"| {name} | {network.spec.diam_mean:.0f} px | {speed:.2f} |"


def report(networks: dict[str, Network], real: Path | None) -> Iterator[str]:
    """Yield the lines of both tables, as they become known."""
    yield "| frames | cells | model | AP at IoU 0.5 / 0.75 / 0.9 | PQ |"
    yield "| --- | --- | --- | --- | --- |"
    yield from (row.markdown() for row in score_all(networks, real))
    yield ""
    yield "| model | cells are scaled to | frames per second, relative |"
    yield "| --- | --- | --- |"
    yield from speed_rows(networks)


def rows_of(name: str, lines: list[str]) -> list[str]:
    """Keep the first table's head and the rows of one model."""
    table = lines[: lines.index("")]
    return table[:2] + [row for row in table[2:] if f"| {name} |" in row or f"| {name}, " in row]


def write(path: Path, lines: list[str]) -> None:
    """Replace what stands between the two markers of a Markdown file."""
    before, _, rest = path.read_text(encoding="utf-8").partition(MARKERS[0])
    _, found, after = rest.partition(MARKERS[1])
    if not found:
        raise SystemExit(f"{path} has no {MARKERS[0]} ... {MARKERS[1]}")
    table = "\n".join(lines)
    path.write_text(f"{before}{MARKERS[0]}\n{table}\n{MARKERS[1]}{after}", encoding="utf-8")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", help="name or path; may be repeated")
    parser.add_argument("--real", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--write", action="store_true", help="into README.md and models/*.md")
    return parser.parse_args()


def main() -> None:
    """Print the tables."""
    args = parse()
    names = args.model or bundled_names()
    networks = {name: load_networks(resolve_model(name), "cpu").segmentation for name in names}
    real = args.real if args.real.is_dir() else None
    if real is None:
        print(f"{args.real} is not there: no real images.", file=sys.stderr)
    lines = []
    for line in report(networks, real):
        print(line, flush=True)
        lines.append(line)
    if args.write:
        write(ROOT / "README.md", lines)
        for name in set(names) & set(bundled_names()):
            write(ROOT / "models" / f"{name}.md", rows_of(name, lines))


if __name__ == "__main__":
    main()
