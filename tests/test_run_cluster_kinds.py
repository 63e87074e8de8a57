"""Which cluster `connect` starts, and that each GPU has a worker process that sees it alone."""

from __future__ import annotations

import os
import signal
import sys

import psutil
import pytest

from cypose_dask.errors import DeviceError, SettingsError
from cypose_dask.run import connect
from cypose_dask.run.clusters import Gpus
from cypose_dask.run.clusters.gpus import chosen_gpus

FIRST, SECOND = "GPU-5d5ba0d6-d33d-2b2c", "GPU-77aa0d6b-1234-5678"
PART, OTHER_PART = "MIG-c6d4f1ef-42e4-5de3", "MIG-cba663e8-9bed-5b25"
LIST = f"""\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: {FIRST})
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {SECOND})
"""
DIVIDED = f"""\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: {FIRST})
  MIG 3g.20gb     Device  0: (UUID: {PART})
  MIG 3g.20gb     Device  1: (UUID: {OTHER_PART})
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {SECOND})
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A machine whose nvidia-smi lists what the test says, and where no mask is set."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))

    def install(listed, code=0):
        program.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{listed}END\nexit {code}\n")
        program.chmod(0o755)

    return install


def what_workers_see(client):
    def look():
        return os.environ["CUDA_VISIBLE_DEVICES"], "torch" in sys.modules

    return sorted(client.run(look).values())


def test_each_gpu_has_a_worker_that_sees_it_alone_before_torch_is_imported(driver):
    driver(LIST)
    with connect(kind="gpus") as client:
        assert what_workers_see(client) == [(FIRST, False), (SECOND, False)]
        assert set(client.nthreads().values()) == {3}
        assert client.scheduler.address.startswith("tcp://127.0.0.1:")
        assert all(address.startswith("tcp://127.0.0.1:") for address in client.nthreads())
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def listening_to_others(pid):
    return {
        connection.laddr
        for connection in psutil.Process(pid).net_connections()
        if connection.status == psutil.CONN_LISTEN and connection.laddr.ip != "127.0.0.1"
    }


def test_a_cluster_of_gpus_listens_on_loopback_only(driver):
    driver(LIST)
    before = listening_to_others(os.getpid())
    with connect(kind=Gpus("0")) as client:
        (worker,) = client.run(os.getpid).values()
        assert listening_to_others(worker) == set()
        assert listening_to_others(os.getpid()) == before


def test_a_worker_that_was_killed_comes_back_with_its_gpu(driver):
    driver(LIST)
    with connect(kind=Gpus("1")) as client:
        (before,) = client.run(os.getpid).values()
        os.kill(before, signal.SIGKILL)
        after = client.submit(os.getpid, pure=False).result(timeout=60)
        assert after != before
        assert what_workers_see(client) == [(SECOND, False)]


def test_gpu_workers_divide_the_cores_and_leave_signals_to_the_client(driver, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    driver(LIST)

    def look():
        return os.environ["OMP_NUM_THREADS"], signal.getsignal(signal.SIGTERM)

    with connect(kind="gpus") as client:
        assert set(client.run(look).values()) == {("4", signal.SIG_IGN)}


@pytest.mark.parametrize(
    ("names", "listed", "expected"),
    [
        ("", LIST, [FIRST, SECOND]),
        ("1", LIST, [SECOND]),
        ("1, 0", LIST, [SECOND, FIRST]),
        (SECOND, LIST, [SECOND]),
        ("GPU-77", LIST, [SECOND]),
        (("0", SECOND), LIST, [FIRST, SECOND]),
        ("", DIVIDED, [PART, OTHER_PART, SECOND]),
        (OTHER_PART, DIVIDED, [OTHER_PART]),
        ("MIG-cb,1", DIVIDED, [OTHER_PART, SECOND]),
    ],
)
def test_gpus_are_named_by_index_or_uuid(names, listed, expected, driver):
    driver(listed)
    assert chosen_gpus(Gpus(names).listed()) == expected


@pytest.mark.parametrize(
    ("mask", "names", "expected"),
    [
        ("1", "", ["1"]),
        ("0,1", "1", ["1"]),
        ("0,1", SECOND, ["1"]),
        (f"{FIRST},{SECOND}", "1", [SECOND]),
        ("GPU-5d", FIRST, ["GPU-5d"]),
        (f"{FIRST}", "GPU-5d", [FIRST]),
        ("1,-1,0", "", ["1"]),
    ],
)
def test_a_mask_confines_the_choice_and_names_it(mask, names, expected, driver, monkeypatch):
    """CUDA counts in another order than nvidia-smi, so a mask's own words are kept."""
    driver(LIST)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    assert chosen_gpus(Gpus(names).listed()) == expected


@pytest.mark.parametrize("mask", [None, "0,2"])
def test_without_a_list_of_the_driver_names_are_believed(mask, driver, monkeypatch):
    if mask:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    assert chosen_gpus(["2", "0"]) == ["2", "0"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("2", "There is no GPU '2'; nvidia-smi lists 0 .*, 1 "),
        ("GPU-00", "There is no GPU 'GPU-00'"),
        ("GPU-", "may be any of GPU-5d5b.*, GPU-77aa"),
        ("0,0", "named more than once"),
        (f"0,{FIRST}", "named more than once"),
        ("0,,1", "empty name"),
    ],
)
def test_a_gpu_that_is_not_one_is_an_error(names, message, driver):
    driver(LIST)
    with pytest.raises(SettingsError, match=message):
        chosen_gpus(Gpus(names).listed())


def test_a_divided_gpu_is_named_by_its_part(driver):
    driver(DIVIDED)
    with pytest.raises(SettingsError, match=f"GPU '0' may be any of {PART}, {OTHER_PART}"):
        chosen_gpus(["0"])


@pytest.mark.parametrize("names", ["0", FIRST, "2", "GPU-5d"])
def test_a_gpu_outside_the_mask_is_an_error(names, driver, monkeypatch):
    driver(LIST)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(SettingsError, match="not among those of CUDA_VISIBLE_DEVICES"):
        chosen_gpus(Gpus(names).listed())


@pytest.mark.parametrize("mask", ["", "-1"])
def test_a_mask_that_hides_all_gpus_is_an_error(mask, driver, monkeypatch):
    driver(LIST)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    with pytest.raises(DeviceError, match="hides all GPUs"):
        chosen_gpus(["0"])


@pytest.mark.parametrize("listed", [None, "", "NVIDIA-SMI has failed\n"])
def test_a_machine_without_gpus_is_an_error(listed, driver):
    if listed is not None:
        driver(listed, code=9)
    with pytest.raises(DeviceError, match="No GPU was found"):
        connect(kind="gpus").__enter__()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "moon"}, "kind is 'moon'"),
        ({"kind": "gpus", "scheduler": "tcp://there:8786"}, "another kind of cluster"),
        ({"kind": "gpus", "scheduler_file": "there.json"}, "another kind of cluster"),
        ({"kind": Gpus("0"), "workers": 2}, "one worker a GPU"),
        ({"kind": "gpus", "processes": False}, "a worker process of its own"),
        ({"kind": "slurm", "processes": False}, "a worker process of its own"),
        ({"kind": "slurm", "scheduler": "tcp://there:8786"}, "another kind of cluster"),
        ({"workers": 2, "scheduler": "tcp://there:8786"}, "its own workers"),
    ],
)
def test_arguments_of_which_one_would_be_ignored_are_an_error(arguments, message):
    with pytest.raises(SettingsError, match=message):
        connect(**arguments).__enter__()


def test_a_kind_that_is_asked_for_wins_over_the_scheduler_of_the_environment(driver, monkeypatch):
    driver(LIST)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:1")
    with connect(kind=Gpus("0")) as client:
        assert what_workers_see(client) == [(FIRST, False)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpus", "0"], "--gpus needs --cluster gpus"),
        (["--cluster", "gpus", "--gpus", "7"], "There is no GPU '7'"),
        (["--cluster", "gpus", "--workers", "2"], "one worker a GPU"),
        (["--cluster", "gpus", "--scheduler", "tcp://there:1"], "another kind of cluster"),
    ],
)
def test_the_command_line_refuses_what_contradicts(
    options, message, driver, nd2_path, cli, tmp_path
):
    driver(LIST)
    code, _, errors = cli("convert", nd2_path, "-o", tmp_path / "out", *options)
    assert code == 2
    assert message in errors


def test_the_command_line_starts_a_worker_on_each_gpu(driver, nd2_path, cli, tmp_path):
    driver(LIST)
    code, _, _ = cli("convert", nd2_path, "-o", tmp_path / "out", "--cluster", "gpus")
    assert code == 0
    assert (tmp_path / "out" / "movie.ome.zarr").is_dir()
