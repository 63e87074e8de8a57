"""SLURM on one node: Debian's munged, slurmctld and slurmd, with all their files in one folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["is_there", "one_node"]

_DAEMONS = ("munged", "slurmctld", "slurmd")
_PATIENCE_S = 30.0
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MailProg=/bin/true
KillWait=5
NodeName={host} CPUs={cores} RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def is_there() -> bool:
    """Tell whether SLURM is installed, and may be started."""
    return os.geteuid() == 0 and all(shutil.which(name) for name in _DAEMONS)


@contextmanager
def one_node(folder: Path, cores: int) -> Iterator[Path]:
    """Run SLURM; yield its configuration, to which ``SLURM_CONF`` must point."""
    configuration = folder / "slurm.conf"
    host, ports = socket.gethostname().partition(".")[0], _free_ports(2)
    text = _CONFIGURATION.format(host=host, ports=ports, folder=folder, cores=cores)
    configuration.write_text(text)
    try:
        _start_munged(folder)
        for name in ("slurmctld", "slurmd"):
            subprocess.run([name, "-f", configuration], check=True)
        _wait_until_idle(configuration)
        yield configuration
    finally:
        for name in reversed(_DAEMONS):
            _end(folder / f"{name}.pid")


def _start_munged(folder: Path) -> None:
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(1024))
    files = {
        "socket": "munge.socket",
        "key-file": "munge.key",
        "pid-file": "munged.pid",
        "log-file": "munged.log",
        "seed-file": "munge.seed",
    }
    options = [f"--{option}={folder / name}" for option, name in files.items()]
    subprocess.run(["munged", "--force", *options], check=True)


def _wait_until_idle(configuration: Path) -> None:
    until = time.monotonic() + _PATIENCE_S
    environment = os.environ | {"SLURM_CONF": str(configuration)}
    state = ""
    while state.strip() != "idle":
        assert time.monotonic() < until, f"the node of SLURM is {state!r}"
        time.sleep(0.2)
        state = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True
        ).stdout


def _end(pid_file: Path) -> None:
    with suppress(FileNotFoundError, ProcessLookupError, ValueError):
        os.kill(int(pid_file.read_text()), signal.SIGTERM)


def _free_ports(count: int) -> list[int]:
    found = [socket.socket() for _ in range(count)]
    for one in found:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in found]
    for one in found:
        one.close()
    return ports
