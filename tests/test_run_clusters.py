"""Clusters on this machine talk to this machine alone, and divide its cores."""

from __future__ import annotations

import os

import psutil
import pytest

from cypose_dask.engine import usable_cores
from cypose_dask.errors import RunError
from cypose_dask.run import connect
from cypose_dask.run.clusters import local


def listening(process):
    found = [process, *process.children(recursive=True)]
    return {
        connection.laddr.ip
        for one in found
        for connection in one.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }


def test_threads_listen_on_loopback_only():
    before = listening(psutil.Process())
    with connect(processes=False):
        assert listening(psutil.Process()) - before <= {"127.0.0.1"}


def test_processes_listen_on_loopback_only(client):
    for pid in client.run(os.getpid).values():
        assert listening(psutil.Process(pid)) == {"127.0.0.1"}
    assert client.scheduler.address.startswith("tcp://127.0.0.1:")


def test_the_scheduler_and_its_dashboard_listen_on_loopback_only(client):
    info = client.scheduler_info()
    ports = {int(info["address"].rpartition(":")[2]), info["services"]["dashboard"]}
    found = [
        connection.laddr
        for connection in psutil.Process().net_connections()
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port in ports
    ]
    assert {address.port for address in found} == ports
    assert {address.ip for address in found} == {"127.0.0.1"}


def test_workers_divide_the_cores(client):
    share = max(1, usable_cores() // 2)
    # Not `os.environ.get` itself: it would be sent with this process's environment.
    found = client.run(lambda: os.environ.get("OMP_NUM_THREADS"))
    assert set(found.values()) == {str(share)}


def test_a_cluster_leaves_the_threads_of_its_caller_alone(monkeypatch):
    """Else a second cluster, and frames that are segmented here, would have one core."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with connect(workers=1):
        assert "OMP_NUM_THREADS" not in os.environ


def test_a_gpu_gets_one_process_with_threads_for_the_overlap():
    options = local.local_options(None, gpu=True, processes=True)
    assert (options["n_workers"], options["threads_per_worker"]) == (1, 3)


@pytest.mark.parametrize(
    ("cores", "gigabytes", "workers", "expected"),
    [
        (2, 24, None, (1, 2, 2)),
        (8, 64, None, (1, 8, 8)),
        (64, 512, None, (8, 8, 8)),
        (64, 512, 16, (16, 4, 4)),
        (8, 6, None, (1, 4, 8)),  # memory for four frames: each may use two cores
        (2, 1, None, (1, 1, 2)),
        (2, 24, 4, (4, 1, 1)),
    ],
)
def test_every_core_has_a_thread_where_memory_allows(
    cores, gigabytes, workers, expected, monkeypatch
):
    from distributed import system

    monkeypatch.setattr(local, "usable_cores", lambda: cores)
    monkeypatch.setattr(system, "MEMORY_LIMIT", gigabytes * 2**30)
    assert local.layout(workers, gpu=False, processes=True) == expected


def test_the_environment_names_a_scheduler(client, monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", client.scheduler.address)
    with connect() as found:
        assert found.scheduler.address == client.scheduler.address


def test_a_scheduler_file_is_found(client, tmp_path):
    import json

    path = tmp_path / "scheduler.json"
    path.write_text(json.dumps({"address": client.scheduler.address}))
    with connect(scheduler_file=str(path)) as found:
        assert found.scheduler.address == client.scheduler.address


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"address"', "7"])
def test_a_damaged_scheduler_file_is_an_error(content, tmp_path):
    path = tmp_path / "scheduler.json"
    path.write_text(content)
    with pytest.raises(RunError, match="names no scheduler"):
        connect(scheduler_file=str(path)).__enter__()


def test_a_wrong_address_is_an_error():
    with (
        pytest.raises(RunError, match="No Dask scheduler answers"),
        connect(scheduler="nonsense://"),
    ):
        pass
