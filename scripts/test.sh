#!/usr/bin/env bash
# Install into .venv with the test extra; lint, types, import contracts, tests. Arguments go to
# pytest: `bash scripts/test.sh --slow` runs everything.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/install.sh cpu,test
run() { echo "== $*"; ".venv/bin/$@"; }
run ruff check .
run ruff format --check .
run mypy
run lint-imports
run pytest "$@"
