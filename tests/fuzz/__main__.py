"""``python -m fuzz SEED NUMBER [FILE]``, in the folder ``tests``: make a mutant and read it.

Says what the mutant is and what the readers make of it, and writes it to a file; without arguments
it lists the seeds.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from fuzz.mutate import Parent, make_mutant
from fuzz.pool import Pool
from fuzz.seeds import make_seeds
from fuzz.verdict import verdict


def main(arguments: list[str]) -> None:
    """Run the command line."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = {path.name: path for path in make_seeds(Path(folder))}
        if not arguments:
            print("\n".join(seeds))
            return
        name, number = arguments[0], int(arguments[1])
        mutant = make_mutant(Parent.read(seeds[name]), number)
        target = Path(arguments[2]) if len(arguments) > 2 else Path(folder) / f"{number}-{name}"
        target.write_bytes(mutant.data)
        with Pool(1) as pool:
            intact, seen = pool.look(seeds[name]), pool.look(target)
        print(mutant.words, seen.words, seen.info, sep="\n")
        print(verdict(intact, seen, mutant.change, mutant.data))


if __name__ == "__main__":
    main(sys.argv[1:])
