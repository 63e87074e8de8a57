#!/usr/bin/env bash
# A scheduler and workers on this machine, each a process of its own, which talk over loopback alone.
#
#     bash scripts/clusters/one_machine.sh [-w WORKERS] [-t THREADS] [-f FILE] [COMMAND ...]
#
# With a command, such as `cypose-dask segment movie.nd2 -o out/`, the cluster lives as long as that
# and the exit code is its own; Ctrl-C and SIGTERM are handed to it, so that blocks under way are
# finished. Without one, it lives until Ctrl-C, and `--scheduler-file FILE` leads other commands to
# it. Run this where cypose-dask is installed (`source .venv/bin/activate`).
set -euo pipefail

workers=2 threads="" file=scheduler.json
while getopts "w:t:f:" option; do
    case "$option" in
        w) workers=$OPTARG ;;
        t) threads=$OPTARG ;;
        f) file=$OPTARG ;;
        *) sed -n 's/^#     //p' "$0" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
share=$(($(nproc) / workers))
threads=${threads:-$((share > 8 ? 8 : share > 0 ? share : 1))}
command -v dask >/dev/null || { echo "dask is not on PATH; activate its environment." >&2; exit 2; }

# What Dask remembers by default grows with the run.
export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False
export DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH=50
export DASK_DISTRIBUTED__DIAGNOSTICS__COMPUTATIONS__MAX_HISTORY=5
# A block that has cost two workers is repeated alone, in a process whose death costs none.
export DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=1

# Every process becomes the first of a group of its own: a terminal's Ctrl-C reaches this one alone.
set -m
groups=()
signal() { # to all groups; says whether there are any left
    local some=1 group
    for group in "${groups[@]}"; do kill -"$1" -- "-$group" 2>/dev/null && some=0; done
    return "$some"
}
stop() {
    signal TERM || true
    for ((i = 0; i < 100; i++)); do signal 0 || break; sleep 0.1; done
    signal KILL || true
    rm -f "$file"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

begin() { # the cores of this machine are divided among the workers
    for name in OMP MKL OPENBLAS NUMBA; do local -x "${name}_NUM_THREADS=$((share > 0 ? share : 1))"; done
    dask "$@" --scheduler-file "$file" --host 127.0.0.1 --dashboard-address 127.0.0.1:0 &
    groups+=($!)
}
rm -f "$file" # of a cluster that was killed
begin scheduler --port 0
scheduler=${groups[0]}
until [ -s "$file" ]; do
    kill -0 "$scheduler" 2>/dev/null || { echo "The scheduler did not start." >&2; exit 1; }
    sleep 0.1
done
for ((i = 0; i < workers; i++)); do
    begin worker --nthreads "$threads" --memory-limit 0 --death-timeout 60
done

if [ $# -eq 0 ]; then
    echo "$workers workers of $threads threads: give --scheduler-file $file. Ctrl-C ends them."
    wait "$scheduler"
    exit
fi
DASK_SCHEDULER_ADDRESS=$(sed -n 's/.*"address": "\([^"]*\)".*/\1/p' "$file") "$@" &
command=$!
trap 'kill -INT -- "-$command"' INT
trap 'kill -TERM -- "-$command"' TERM
while kill -0 "$command" 2>/dev/null; do wait "$command" || true; done
wait "$command"
