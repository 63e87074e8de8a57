"""Over TLS a run gives the same labels, and who has no certificate is told so at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from conftest import ROOT
from cypose_dask.errors import RunError, SettingsError
from cypose_dask.run import Certificates, connect
from helpers.certificates import make_certificates
from helpers.cluster_processes import no_hang, running_cluster


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the cluster's members have."""
    return make_certificates(tmp_path_factory.mktemp("certificates") / "ours")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """As good, but of another authority."""
    return make_certificates(tmp_path_factory.mktemp("certificates") / "theirs")


@pytest.fixture(scope="module")
def encrypted(files, tmp_path_factory):
    """A scheduler and a worker that speak TLS."""
    flags = [*files.flags, "--protocol", "tls"]
    with running_cluster(tmp_path_factory.mktemp("cluster"), flags=flags) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def address(encrypted):
    return json.loads(encrypted.scheduler_file.read_text())["address"]


def certificates(files):
    return Certificates(ca_file=files.ca_file, cert=files.cert, key=files.key)


def test_a_run_over_tls_gives_the_labels_of_a_local_one(
    nd2_path, encrypted, files, expected_labels, cli, tmp_path
):
    tif = tmp_path / "m.tif"
    where = ["--scheduler-file", encrypted.scheduler_file, *files.flags]
    code, _, err = cli("segment", nd2_path, "-o", tif, *where)
    assert code == 0, err
    np.testing.assert_array_equal(tifffile.imread(tif), expected_labels)
    lines = (tmp_path / "m.journal.jsonl").read_text().splitlines()
    assert all('"worker": "tls://' in line for line in lines)


def test_dasks_configuration_is_enough(nd2_path, address, files, expected_labels, tmp_path):
    command = [sys.executable, ROOT / "scripts" / "run_segmentation.py", "--input_file", nd2_path,
               "--output_file", tmp_path / "m.tif", "--end_frame", "2"]  # fmt: skip
    environment = {**os.environ, **files.environment, "DASK_SCHEDULER_ADDRESS": address}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "m.tif"), expected_labels[:2])


def test_an_address_without_a_scheme_is_encrypted_when_certificates_are_given(address, files):
    with connect(scheduler=address.removeprefix("tls://"), tls=certificates(files)) as client:
        assert client.scheduler.address == address


def test_without_certificates_the_command_says_what_to_give(nd2_path, address, cli, tmp_path):
    with no_hang(15):
        code, _, err = cli("segment", nd2_path, "-o", tmp_path / "m.tif", "--scheduler", address)
    assert code == 2
    assert "no certificate of the authority" in err
    assert "--tls-ca-file, --tls-cert and --tls-key" in err


def test_half_of_the_certificates_is_not_enough(address, files):
    with no_hang(15), pytest.raises(SettingsError, match="there is no certificate of this client"):
        connect(scheduler=address, tls=Certificates(ca_file=files.ca_file)).__enter__()


def test_a_client_of_another_authority_is_refused(address, strangers):
    with no_hang(15), pytest.raises(RunError, match="do not trust each other"):
        connect(scheduler=address, tls=certificates(strangers)).__enter__()


def test_a_client_whose_certificate_is_not_of_the_authority_is_refused(address, files, strangers):
    forged = replace(certificates(strangers), ca_file=files.ca_file)
    with no_hang(15), pytest.raises(RunError, match="do not trust each other"):
        connect(scheduler=address, tls=forged).__enter__()


def test_refused_clients_do_not_block_the_next_one(address, files, strangers):
    """A refused `Client` of Dask's is left half made, and its end could block its successor."""
    with no_hang(15):
        for _ in range(10):
            with pytest.raises(RunError):
                connect(scheduler=address, tls=certificates(strangers)).__enter__()
        with connect(scheduler=address, tls=certificates(files)) as client:
            assert client.scheduler.address == address


def test_an_unencrypted_client_is_told_to_encrypt(address):
    with no_hang(15), pytest.raises(RunError, match="is encrypted, give tls://"):
        connect(scheduler=address.replace("tls", "tcp")).__enter__()


def test_certificates_are_not_left_unused(client, files):
    with pytest.raises(SettingsError, match="is not encrypted, but TLS was asked for"):
        connect(scheduler=client.scheduler.address, tls=certificates(files)).__enter__()


def test_a_scheduler_that_is_not_encrypted_is_refused(client, files):
    address = client.scheduler.address.replace("tcp", "tls")
    with no_hang(15), pytest.raises(RunError, match="if it is not encrypted"):
        connect(scheduler=address, tls=certificates(files)).__enter__()


@pytest.mark.parametrize("name", ["ca_file", "cert", "key"])
def test_a_file_that_is_no_certificate_is_named(name, address, files, tmp_path):
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    given = replace(certificates(files), **{name: rubbish})
    with pytest.raises(SettingsError, match=f"cannot be used .*{name} .*rubbish.pem"):
        connect(scheduler=address, tls=given).__enter__()


def test_a_key_of_another_certificate_is_refused(address, files, strangers):
    given = replace(certificates(files), key=strangers.key)
    with pytest.raises(SettingsError, match="the key must be that of the certificate"):
        connect(scheduler=address, tls=given).__enter__()


def test_a_file_that_is_not_there_is_wrong_usage(nd2_path, address, files, cli):
    flags = ["--tls-ca-file", "nowhere.pem", "--tls-cert", files.cert]
    code, _, err = cli("segment", nd2_path, "--scheduler", address, *flags)
    assert code == 2
    assert "nowhere.pem" in err


def test_a_cluster_that_is_started_here_is_encrypted_too(files):
    with connect(workers=1, tls=certificates(files)) as client:
        workers = client.run(os.getpid)
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        assert all(worker.startswith("tls://127.0.0.1:") for worker in workers)
        with no_hang(15), pytest.raises(SettingsError, match="speaks TLS"):
            connect(scheduler=address).__enter__()
