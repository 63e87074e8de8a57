"""Workers on machines of their own: a network namespace each, with a bridge between them.

The disk is shared, as it must be on a cluster; addresses, routes and loopback are not.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from helpers.cluster_processes import (
    DASK,
    kill_group,
    running,
    wait_until,
    worker_processes,
)
from helpers.killed_runs import SmallRun
from helpers.small_movies import serial_labels, write_small_movie

# At some tens of blocks a second, time enough to lose a worker and to start another.
N_FRAMES = 400
SEGMENT = [sys.executable, "-c", "from cypose_dask.cli import main; main()", "segment"]
# Of the block for benchmarks of networks, which nobody routes. Source: RFC 2544.
SUBNET = "198.19.77"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass(frozen=True)
class Bridge:
    """A network of this test alone, whose first address is this machine's."""

    name: str
    address: str = f"{SUBNET}.1"

    @contextmanager
    def machine(self, number: int) -> Iterator[str]:
        """Make a namespace with one address on the bridge; yield its name."""
        name, here, there = (
            f"{self.name}n{number}",
            f"{self.name}v{number}",
            f"{self.name}w{number}",
        )
        ip("netns", "add", name)
        try:
            ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
            ip("link", "set", here, "master", self.name, "up")
            ip("-n", name, "address", "add", f"{address_of(number)}/24", "dev", there)
            for device in (there, "lo"):
                ip("-n", name, "link", "set", device, "up")
            yield name
        finally:  # takes the pair of devices along
            ip("netns", "delete", name)


def address_of(number: int) -> str:
    return f"{SUBNET}.{number + 10}"


@pytest.fixture
def bridge():
    """A bridge, where the user may make one."""
    if not shutil.which("ip"):
        pytest.skip("there is no ip command (iproute2)")
    name = f"cy{os.getpid()}"
    try:
        ip("link", "add", name, "type", "bridge")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no bridge may be made here: {error.stderr.decode().strip()}")
    try:
        with permission_for_namespaces(name):
            ip("address", "add", f"{SUBNET}.1/24", "dev", name)
            ip("link", "set", name, "up")
            yield Bridge(name)
    finally:
        ip("link", "delete", name)


@contextmanager
def permission_for_namespaces(name: str) -> Iterator[None]:
    try:
        ip("netns", "add", f"{name}try")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no namespace may be made here: {error.stderr.decode().strip()}")
    try:
        yield
    finally:
        ip("netns", "delete", f"{name}try")


@dataclass(frozen=True)
class Network:
    """A scheduler on a bridge, and what starts workers elsewhere."""

    bridge: Bridge
    scheduler_file: Path
    stack: ExitStack

    def start_worker(self, number: int) -> psutil.Popen:
        """Start a worker of one thread on a machine of its own; return its nanny."""
        name = self.stack.enter_context(self.bridge.machine(number))
        where = ["--scheduler-file", str(self.scheduler_file), "--host", address_of(number)]
        more = ["--nthreads", "1", "--no-dashboard", "--local-directory"]
        command = [DASK, "worker", *where, *more, str(self.scheduler_file.parent)]
        inside = ["ip", "netns", "exec", name, *command]
        return self.stack.enter_context(running(inside))


@pytest.fixture
def network(bridge, tmp_path):
    file = tmp_path / "scheduler.json"
    where = ["--scheduler-file", str(file), "--host", bridge.address, "--port", "0"]
    with ExitStack() as stack:
        stack.enter_context(running([DASK, "scheduler", *where, "--no-dashboard"]))
        wait_until(file.exists)
        yield Network(bridge, file, stack)


def can_be_reached(address: str, name: str) -> bool:
    """Tell whether a namespace can talk to what listens here on an address."""
    with socket.create_server((address, 0)) as server:
        to = (address, server.getsockname()[1])
        call = f"import socket; socket.create_connection({to}, timeout=5)"
        told = ["ip", "netns", "exec", name, sys.executable, "-c", call]
        return subprocess.run(told, capture_output=True, check=False).returncode == 0


def hosts_of(run: SmallRun) -> set[str]:
    """Return the addresses of the machines that finished a block."""
    return {worker.removeprefix("tcp://").partition(":")[0] for worker in run.workers()}


@pytest.mark.slow
def test_machines_of_their_own_come_and_go_and_the_labels_are_the_serial_ones(network, tmp_path):
    serial_labels()  # converts the model once for all processes
    run = SmallRun(write_small_movie(tmp_path / "m.nd2", N_FRAMES), tmp_path / "m.tif", N_FRAMES)
    first, _ = network.start_worker(0), network.start_worker(1)
    wait_until(lambda: worker_processes(first))
    command = [*SEGMENT, *run.arguments, "--scheduler-file", str(network.scheduler_file)]
    err = tmp_path / "stderr.txt"
    with err.open("w") as stderr, running(command, stderr=stderr) as client:

        def blocks_by(*numbers: int) -> None:
            wanted = {address_of(number) for number in numbers}
            wait_until(lambda: wanted <= hosts_of(run) or client.poll() is not None)
            assert client.poll() is None, f"it ended before {wanted} worked: {err.read_text()}"

        blocks_by(0, 1)
        kill_group(first.pid)  # the machine with all its processes
        network.start_worker(2)
        blocks_by(0, 1, 2)
        wait_until(lambda: client.poll() is not None)
    assert client.returncode == 0, err.read_text()
    run.assert_whole([])
    assert hosts_of(run) == {address_of(number) for number in range(3)}


def test_namespaces_are_machines_of_their_own(bridge):
    """Else the test above would prove no more than one on loopback."""
    with bridge.machine(0) as name:
        assert can_be_reached(bridge.address, name)
        assert not can_be_reached("127.0.0.1", name)
