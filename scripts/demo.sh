#!/usr/bin/env bash
# Install into .venv, make a sample movie, segment it on a local Dask cluster. Writes under demo/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/install.sh cpu
.venv/bin/python scripts/make_demo_movie.py demo
for movie in demo/movie.nd2 demo/movie.tif; do
    echo
    .venv/bin/cypose-dask segment "$movie" -o demo/results-"${movie##*.}" --preview
done
