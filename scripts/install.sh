#!/usr/bin/env bash
# Make .venv with the package and the extras named in $1, under constraints.txt. Called by demo.sh
# and test.sh; fast when nothing changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras="$1"

find_python() {
    for candidate in "${PYTHON:-}" python3.12 python3.11 python3 python; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 or 3.12 is needed and was not found (Cellpose 3 has no wheels for others)." >&2
    echo "Install one, or name it: PYTHON=/path/to/python3.12 bash scripts/demo.sh" >&2
    exit 2
}

torch_pin=$(grep '^torch==' constraints.txt)

install_torch() {
    .venv/bin/python -c 'import torch' 2>/dev/null && return
    if [ -n "${CYPOSE_TORCH_INDEX:-}" ]; then
        echo "Installing $torch_pin from CYPOSE_TORCH_INDEX."
        .venv/bin/pip install -q --index-url "$CYPOSE_TORCH_INDEX" "$torch_pin"
        return
    fi
    echo "Installing $torch_pin. On Linux, PyPI's build brings CUDA: several GB. For the CPU alone, stop"
    echo "and set CYPOSE_TORCH_INDEX to PyTorch's CPU index first (see README.md)."
    .venv/bin/pip install -q "$torch_pin"
}

[ -x .venv/bin/python ] || "$(find_python)" -m venv .venv
wanted=$({ cat pyproject.toml constraints.txt; pwd; } | .venv/bin/python -c \
    'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
stamp=".venv/installed-$extras"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing cypose_dask[$extras] into .venv (a few minutes the first time)."
    install_torch
    # Through the environment, so that the build of the package itself is pinned too.
    PIP_CONSTRAINT=constraints.txt .venv/bin/pip install -q --disable-pip-version-check -e ".[$extras]"
    echo "$wanted" >"$stamp"
fi
