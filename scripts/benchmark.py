"""Time cypose_dask against Cellpose on this machine, and print the tables of README.md.

    python scripts/benchmark.py                       # 512 px, about ten minutes
    python scripts/benchmark.py --sides 512 1024 2048 --niter 2000
    python scripts/benchmark.py --only loop stages    # some parts

Everything runs in one process tree, in turns (A B A B ...), and medians are compared: absolute
times on a shared machine say little. Labels of every contender are held against the plain loop.
"""

import argparse
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

# The parts belong to the tests; this runs in the same checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from benchmarks import parts
from benchmarks.runtimes import runtimes

PARTS: dict[str, Callable[[parts.Bench], Iterator[str]]] = {
    "loop": parts.against_cellpose,
    "commands": parts.against_the_command_line,
    "dynamics": parts.dynamics_alone,
    "stages": parts.stages,
    "runtimes": runtimes,
    "start": parts.start,
    "empty": parts.empty_space,
}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[512], help="frame sides, px")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    parser.add_argument("--niter", type=int, help="steps; the default is Cellpose's own")
    parser.add_argument("--model", default="default", help="name or path")
    parser.add_argument("--rounds", type=int, default=3, help="turns that count")
    parser.add_argument("--frames", type=int, default=4, help="frames a turn")
    parser.add_argument("--folder", type=Path, default=Path("benchmark"), help="scratch folder")
    return parser.parse_args()


def machine() -> str:
    """Describe the processor, its cores and its rate of multiplying matrices."""
    model = next(
        (line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")),
        platform.processor(),
    )
    python = f"Python {platform.python_version()}, numpy {np.__version__}"
    return f"{model}, {parts.usable_cores()} cores, {python}"


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    """Print the tables."""
    args = parse()
    print(machine())
    for side in args.sides:
        bench = parts.Bench(
            side, model=args.model, niter=args.niter, rounds=args.rounds, n_frames=args.frames,
            folder=args.folder,
        )  # fmt: skip
        print(f"\n## {bench.workload.name}, {bench.workload.cells} cells a frame")
        for name in args.only:
            print()
            for line in PARTS[name](bench):
                print(line, flush=True)


warnings.filterwarnings("ignore", category=UserWarning)  # of Cellpose's sparse tensors
if __name__ == "__main__":  # the cluster starts processes, which import this file again
    main()
