"""Time what a cluster costs on this machine, and print the tables of docs/clusters.md.

    python scripts/benchmark_cluster.py                       # about ten minutes
    python scripts/benchmark_cluster.py --only workers        # one and two real workers
    python scripts/benchmark_cluster.py --only simulated --block-seconds 5 0.05

`workers` segments the same movie with one and with two single-threaded workers in turns, beside one
and two processes that multiply matrices, which is all that two cores can give. `simulated` runs a
movie of 100,000 frames on 64 workers whose blocks sleep, and shows from which length of a block on
the scheduler is the limit.
"""

import argparse
import sys
from pathlib import Path

# The parts belong to the tests; this runs in the same checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from benchmarks import cluster_parts
from benchmarks.parts import Bench


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["workers", "simulated"], help="one part")
    parser.add_argument("--side", type=int, default=512, help="frame side, px")
    parser.add_argument("--frames", type=int, default=128, help="frames a turn of `workers`")
    parser.add_argument("--rounds", type=int, default=3, help="turns that count")
    parser.add_argument("--model", default="default", help="name or path")
    parser.add_argument("--folder", type=Path, default=Path("benchmark"), help="scratch folder")
    parser.add_argument("--simulated-frames", type=int, default=100_000)
    parser.add_argument("--simulated-workers", type=int, default=64)
    parser.add_argument(
        "--block-seconds", type=float, nargs="+", default=[5, 1, 0.2, 0.05],
        help="mean times of a simulated block, s",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    """Print the tables."""
    args = parse()
    print(cluster_parts.cores_text())
    if args.only != "simulated":
        bench = Bench(
            args.side, model=args.model, niter=None, rounds=args.rounds, n_frames=args.frames,
            folder=args.folder,
        )  # fmt: skip
        show(cluster_parts.second_worker(bench))
    if args.only != "workers":
        simulation = (args.simulated_frames, args.simulated_workers, args.block_seconds)
        show(cluster_parts.simulated(*simulation))


def show(lines: cluster_parts.Iterator[str]) -> None:
    """Print lines as they come."""
    print()
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":  # processes are started, which import this file again
    main()
