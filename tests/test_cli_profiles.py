"""Cluster profiles: where they are found, what they may say, and who is believed before them."""

from __future__ import annotations

import inspect

import click
import pytest

from cypose_dask.cli.options import cluster_options, take_cluster
from cypose_dask.errors import SettingsError
from cypose_dask.run import Gpus, SlurmJobs, connect
from cypose_dask.run.clusters import profile

SLURM = """\
[profiles.lab]
cluster = "slurm"
workers = 4
gpu = true
walltime = "4:00:00"
job-cores = 8
job-memory = "16GB"
sbatch = "--partition=gpu"
"""
RUNNING = '[profiles.lab]\nscheduler = "tcp://file:1"\n'
HERE = "[profiles.lab]\nworkers = 3\n"


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Empty places to look in: the working folder, and the user's."""
    for name in ("CYPOSE_PROFILE", "CYPOSE_PROFILES", "DASK_SCHEDULER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config" / "cypose-dask").mkdir(parents=True)
    return {
        "named": tmp_path / "named.toml",
        "here": tmp_path / "cypose-dask.toml",
        "user": tmp_path / "config" / "cypose-dask" / "profiles.toml",
    }


@pytest.fixture
def here(places):
    return places["here"]


def told(*args):
    """Return what `connect` would be told by a command line, and whether a GPU is demanded."""

    @click.command()
    @click.option("--gpu", is_flag=True)
    @cluster_options
    def command(**given):
        return {**take_cluster(given), "gpu": given["gpu"]}

    return command.main([str(arg) for arg in args], standalone_mode=False)


@pytest.mark.parametrize("place", ["named", "here", "user"])
def test_a_profile_is_found_in_each_place(place, places, monkeypatch):
    places[place].write_text(HERE)
    if place == "named":
        monkeypatch.setenv("CYPOSE_PROFILES", str(places[place]))
    assert profile("lab")["workers"] == told("--profile", "lab")["workers"] == 3


def test_the_nearest_file_that_has_a_profile_is_taken(places, monkeypatch):
    names = ("user", "here", "named")
    monkeypatch.setenv("CYPOSE_PROFILES", str(places["named"]))
    places["named"].write_text("")
    for workers, name in enumerate(names, start=1):
        places[name].write_text(f"[profiles.lab]\nworkers = {workers}\n")
        assert profile("lab")["workers"] == workers
    places["user"].write_text("[profiles.other]\nworkers = 9\n")
    assert profile("other")["workers"] == 9


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"workers": 4},
        {"cluster": "gpus", "gpus": "0,1"},
        {"cluster": "slurm", "workers": 2, "walltime": "4:00:00", "job-cores": 8, "gpu": True},
        {"cluster": "slurm", "job-memory": "16GB", "sbatch": "--qos=low --account=me"},
        {"scheduler": "tcp://there:1"},
        {"scheduler-file": "s.json"},
        {"scheduler": "tls://there:1", "tls-ca-file": "a.pem", "tls-cert": "c.pem"},
    ],
)
def test_a_profile_means_the_same_as_its_options(table, here, tmp_path):
    def place(value):
        return str(tmp_path / value) if str(value).endswith((".pem", ".json")) else value

    for name in ("a.pem", "c.pem"):
        (tmp_path / name).touch()
    words = {True: "true"}
    lines = [
        f"{k} = {words.get(v, v) if type(v) is not str else repr(v)}" for k, v in table.items()
    ]
    here.write_text("\n".join(["[profiles.lab]", *lines]))
    args = [
        arg
        for key, value in table.items()
        for arg in ([f"--{key}"] if value is True else [f"--{key}", place(value)])
    ]
    assert told("--profile", "lab") == told(*args)
    assert profile("lab") == {k: v for k, v in told(*args).items() if (k, v) != ("gpu", False)}


def test_a_profile_is_made_of_arguments_of_connect(here):
    here.write_text(SLURM)
    given = profile("lab")
    assert given["kind"] == SlurmJobs(
        walltime="4:00:00", cores=8, memory="16GB", sbatch="--partition=gpu"
    )
    assert given["gpu"] is True
    assert given.keys() <= inspect.signature(connect).parameters.keys()


def test_python_connects_by_a_profile(here, client):
    here.write_text(f'[profiles.lab]\nscheduler = "{client.scheduler.address}"\n')
    with connect(**profile("lab")) as found:
        assert found.scheduler.address == client.scheduler.address


def test_a_command_runs_on_the_cluster_of_a_profile(
    cli, here, nd2_path, client, tmp_path, monkeypatch
):
    monkeypatch.setattr("cypose_dask.run.clusters.existing._CONNECT_TIMEOUT_S", 1.0)
    here.write_text('[profiles.lab]\nscheduler = "tcp://127.0.0.1:1"\n')
    command = ("convert", nd2_path, "-o", tmp_path / "out", "--profile", "lab")
    code, _, err = cli(*command)
    assert (code, "No Dask scheduler answers at tcp://127.0.0.1:1" in err) == (4, True)
    here.write_text(f'[profiles.lab]\nscheduler = "{client.scheduler.address}"\n')
    assert cli(*command)[0] == 0


def test_files_are_named_from_the_folder_of_the_profile(places, tmp_path, monkeypatch):
    folder = places["user"].parent
    (folder / "ca.pem").touch()
    text = '[profiles.lab]\ntls-ca-file = "ca.pem"\nscheduler-file = "~/s.json"\n'
    places["user"].write_text(text)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert profile("lab")["tls"].ca_file == str(folder / "ca.pem")
    assert profile("lab")["scheduler_file"] == str(tmp_path / "home" / "s.json")


def test_the_command_line_is_believed_before_a_profile(here):
    here.write_text(SLURM)
    given = told("--profile", "lab", "--workers", "1", "--walltime", "1:00:00")
    assert given["workers"] == 1
    assert given["kind"] == SlurmJobs(
        walltime="1:00:00", cores=8, memory="16GB", sbatch="--partition=gpu"
    )


@pytest.mark.parametrize(
    ("options", "kind", "scheduler"),
    [
        (["--cluster", "local"], "local", None),
        (["--cluster", "gpus", "--gpus", "1"], Gpus("1"), None),
        (["--scheduler", "tcp://there:1"], "local", "tcp://there:1"),
    ],
)
def test_another_cluster_on_the_command_line_puts_that_of_the_profile_aside(
    options, kind, scheduler, here, capsys
):
    here.write_text(SLURM)
    given = told("--profile", "lab", *options)
    assert (given["kind"], given.get("scheduler")) == (kind, scheduler)
    assert ("workers" in given, given["gpu"]) == (False, False)
    assert "profile lab describes another cluster" in capsys.readouterr().err


def test_the_same_cluster_on_the_command_line_keeps_the_profile(here, capsys):
    here.write_text(SLURM)
    assert told("--profile", "lab", "--cluster", "slurm") == told("--profile", "lab")
    assert capsys.readouterr().err == ""


def test_another_scheduler_takes_the_place_of_the_profiles(here):
    here.write_text('[profiles.lab]\nscheduler-file = "s.json"\n')
    given = told("--profile", "lab", "--scheduler", "tcp://there:1")
    assert (given["scheduler"], given.get("scheduler_file")) == ("tcp://there:1", None)


@pytest.mark.parametrize("text", [SLURM, RUNNING, HERE])
def test_the_environment_is_believed_before_a_profile(text, here, monkeypatch):
    here.write_text(text)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://environment:1")
    given = told("--profile", "lab")
    assert given == {
        "kind": "local", "scheduler": "tcp://environment:1", "tls": None, "gpu": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--scheduler", "tcp://there:1"], {"kind": "local", "scheduler": "tcp://there:1"}),
        (["--cluster", "slurm"], {"kind": SlurmJobs()}),
        (["--cluster", "local"], {"kind": "local"}),
    ],
)
def test_the_command_line_is_believed_before_the_environment(options, expected, monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://environment:1")
    assert told(*options) == {**expected, "tls": None, "gpu": False}


def test_this_machine_is_taken_when_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:1")
    with connect(kind="local", processes=False) as client:
        assert client.scheduler.address.startswith("inproc://")


def test_the_environment_names_a_profile_and_the_command_line_another(here, monkeypatch):
    here.write_text(HERE + "[profiles.other]\nworkers = 5\n")
    monkeypatch.setenv("CYPOSE_PROFILE", "lab")
    assert told()["workers"] == 3
    assert told("--profile", "other")["workers"] == 5


def test_an_unknown_profile_is_an_error_that_lists_those_there_are(places, cli, nd2_path):
    places["here"].write_text(HERE)
    places["user"].write_text(SLURM.replace("lab", "lab-a100"))
    code, _, err = cli("segment", nd2_path, "--profile", "lab-h100")
    assert code == 2
    assert "no cluster profile 'lab-h100'" in err
    assert "lab (in cypose-dask.toml)" in err
    assert f"lab-a100 (in {places['user']})" in err


def test_without_any_profile_the_error_says_where_one_belongs(places):
    with pytest.raises(SettingsError, match=r"there are none.*cypose-dask.toml, .*profiles.toml"):
        profile("lab")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wokers = 3", "'wokers' is unknown. Known are cluster, workers"),
        ("workers = '3'", "workers is '3'; expected a whole number above 0"),
        ("workers = 0", "workers is 0; expected a whole number above 0"),
        ("workers = true", "workers is True; expected a whole number above 0"),
        ("walltime = 04:00:00", "expected text in quotes"),
        ("gpus = 0", "gpus is 0; expected text in quotes"),
        ("gpu = 'yes'", "gpu is 'yes'; expected true or false"),
        ("cluster = 'moon'", "cluster is 'moon'; expected one of local, gpus, slurm"),
        ("walltime = '1:00:00'", "--walltime needs --cluster slurm"),
        ("cluster = 'slurm'\ngpus = '0'", "--gpus needs --cluster gpus"),
        ("workers = ", "cannot be read"),
    ],
)
def test_a_profile_that_is_wrong_is_an_error(text, message, here):
    here.write_text(f"[profiles.lab]\n{text}\n")
    with pytest.raises(SettingsError, match=message):
        profile("lab")
    with pytest.raises(SettingsError, match=message):
        told("--profile", "lab")


@pytest.mark.parametrize("text", ["profiles = 3", "[profiles]\nlab = 3"])
def test_a_profile_that_is_no_table_is_an_error(text, here):
    here.write_text(text)
    with pytest.raises(SettingsError, match=r"expected (a table|tables)"):
        profile("lab")


def test_a_file_that_is_named_and_missing_is_an_error(monkeypatch):
    monkeypatch.setenv("CYPOSE_PROFILES", "nowhere.toml")
    with pytest.raises(SettingsError, match=r"CYPOSE_PROFILES names nowhere.toml"):
        profile("lab")


def test_a_broken_profile_does_not_keep_help_from_being_shown(monkeypatch, here, cli):
    here.write_text("[")
    monkeypatch.setenv("CYPOSE_PROFILE", "lab")
    code, out, _ = cli("segment", "--help")
    assert (code, "--profile NAME" in out) == (0, True)
