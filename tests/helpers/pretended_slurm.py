"""The commands of SLURM, on PATH, where there is none: jobs are processes of this machine."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from helpers.cluster_processes import wait_until

__all__ = ["PretendedSlurm"]

_SBATCH = """
[ -e "{folder}/refuse" ] && {{ echo "sbatch: error: invalid partition" >&2; exit 1; }}
cp "$1" "{folder}/$$.script"
if [ -e "{folder}/broken" ]; then set -- /bin/false; else set -- bash "{folder}/$$.script"; fi
setsid "$@" > "slurm-$$.out" 2>&1 &
echo $! > "{folder}/$$.pid"
echo "Submitted batch job $$"
"""
_SQUEUE = """
for file in "{folder}"/*.pid; do
    [ -e "$file" ] || continue
    case "$(ps -o stat= -p "$(cat "$file")")" in ""|Z*) ;; *) basename "$file" .pid ;; esac
done
"""
_SCANCEL = """
kill -KILL -- "-$(cat "{folder}/$1.pid")"
"""


@dataclass(frozen=True)
class PretendedSlurm:
    """What a test needs to see jobs, and to do them harm."""

    folder: Path

    @classmethod
    def install(cls, folder: Path) -> PretendedSlurm:
        """Write the commands to a folder, which the caller puts on PATH."""
        for name, text in {"sbatch": _SBATCH, "squeue": _SQUEUE, "scancel": _SCANCEL}.items():
            program = folder / name
            program.write_text("#!/bin/bash" + text.format(folder=folder))
            program.chmod(0o755)
        return cls(folder)

    @property
    def submitted(self) -> list[str]:
        """The numbers of all jobs until now."""
        return [path.stem for path in self.folder.glob("*.pid")]

    @property
    def alive(self) -> list[str]:
        """The numbers of the jobs that run."""
        return [job for job in self.submitted if self._runs(self._leader(job))]

    def wait_for_end(self) -> None:
        """Wait until no job runs; what is killed dies a little later."""
        wait_until(lambda: not self.alive)

    def kill(self, job: str) -> None:
        """End a job as its walltime does, or its node."""
        with suppress(ProcessLookupError):
            os.killpg(self._leader(job), signal.SIGKILL)

    def _leader(self, job: str) -> int:
        return int((self.folder / f"{job}.pid").read_text())

    @staticmethod
    def _runs(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
