"""Jobs of SLURM: what they ask for, and that others take their place until the work is done."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from distributed import as_completed
from hypothesis import given
from hypothesis import strategies as st

from cypose_dask.errors import RunError, SettingsError
from cypose_dask.movies import open_movie
from cypose_dask.run import connect, segment
from cypose_dask.run.clusters import SlurmJobs, job_script, renewal, slurm
from cypose_dask.settings import RunOptions
from helpers import real_slurm
from helpers.pretended_slurm import PretendedSlurm
from helpers.small_movies import labels_of_movie, write_small_movie

# On two cores these take longer than a job of a minute.
N_FRAMES = 5000


def directives(script):
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if "#SBATCH" in line]


def worker_command(script):
    return script.splitlines()[-1].split()


def option(script, name):
    command = worker_command(script)
    return command[command.index(name) + 1]


def test_a_job_is_one_worker_with_a_thread_for_every_core():
    script = job_script(SlurmJobs(cores=6, memory="20GB", walltime="4:00:00"))
    asked = directives(script)
    assert {"--cpus-per-task=6", "-n 1", "-t 4:00:00"} <= set(asked)
    assert option(script, "--nthreads") == "6"
    assert "--nworkers" not in script
    assert worker_command(script)[:3] == [sys.executable, "-m", "distributed.cli.dask_worker"]
    assert "export OMP_NUM_THREADS=6" in script.splitlines()


@pytest.mark.parametrize(
    ("cores", "memory", "threads"),
    [(4, "64GB", "4"), (32, "256GB", "8"), (8, "5GB", "3"), (8, "1GB", "1")],
)
def test_threads_fit_the_memory_of_a_job(cores, memory, threads):
    assert option(job_script(SlurmJobs(cores=cores, memory=memory)), "--nthreads") == threads


def test_a_job_on_a_gpu_asks_for_one_and_has_threads_for_the_overlap():
    script = job_script(SlurmJobs(cores=8), gpu=True)
    assert {"--gres=gpu:1", "--cpus-per-task=8"} <= set(directives(script))
    assert option(script, "--nthreads") == "3"


@pytest.mark.parametrize("own", ["--gres=gpu:a100:1", "--gpus=1", "-G 1", "--gpus-per-task=1"])
def test_a_gpu_that_is_asked_for_in_other_words_is_not_asked_for_twice(own):
    asked = directives(job_script(SlurmJobs(sbatch=own), gpu=True))
    assert own in asked
    assert "--gres=gpu:1" not in asked


def test_more_options_of_sbatch_are_taken_as_they_are_written():
    text = "-p gpu --account=lab --exclude n1,n2 --comment='two words'"
    asked = directives(job_script(SlurmJobs(sbatch=text)))
    assert asked[-4:] == ["-p gpu", "--account=lab", "--exclude n1,n2", "--comment='two words'"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--time=1:00", "walltime"),
        ("-t 60", "walltime"),
        ("-t60", "walltime"),
        ("--mem 4G", "memory"),
        ("--cpus-per-task=4", "cores"),
        ("--array=0-3", "workers"),
        ("gpu", "no option of sbatch"),
        ("--comment='open", "cannot be read"),
        ("--comment='a\nrm -rf b'", "line break"),
    ],
)
def test_options_that_jobs_settle_or_that_are_none_are_an_error(text, message):
    with pytest.raises(SettingsError, match=message):
        job_script(SlurmJobs(sbatch=text))


@given(st.integers(0, 20), st.integers(0, 23), st.integers(1, 59), st.integers(0, 59))
def test_every_way_to_write_a_walltime_is_read(days, hours, minutes, seconds):
    whole = ((days * 24 + hours) * 60 + minutes) * 60
    assert slurm._seconds(f"{days}-{hours}:{minutes:02}:{seconds:02}") == whole + seconds
    assert slurm._seconds(f"{days}-{hours}:{minutes:02}") == whole
    assert slurm._seconds(f"{days * 24 + hours}:{minutes:02}:{seconds:02}") == whole + seconds
    assert slurm._seconds(f"{minutes}:{seconds:02}") == minutes * 60 + seconds
    assert slurm._seconds(str(whole // 60)) == whole
    assert slurm._seconds(f"{days}-{hours + 1}") == (days * 24 + hours + 1) * 3600


@given(st.integers(1, 40_000))
def test_a_worker_leaves_before_its_job_ends(minutes):
    left = minutes * 60 - slurm._lifetime_s(str(minutes))
    assert 15 <= left <= 300
    assert left < minutes * 60 / 2


@pytest.mark.parametrize("walltime", ["", "4h", "1:2:3:4", "-5", "0:30", "0", "UNLIMITED"])
def test_a_walltime_that_is_none_is_an_error(walltime):
    with pytest.raises(SettingsError, match="walltime is"):
        slurm._seconds(walltime)


def test_a_memory_that_is_none_is_an_error():
    with pytest.raises(SettingsError, match="memory is 'much'"):
        job_script(SlurmJobs(memory="much"))


def test_what_is_not_given_comes_from_the_configuration_of_the_site():
    import dask

    site = {
        "walltime": "2:00:00",
        "cores": 3,
        "memory": "9GiB",
        "queue": "day",
        "job-extra-directives": ["--qos=low"],
        "job-script-prologue": ["module load cuda"],
        "worker-extra-args": ["--resources", "a=1"],
    }
    with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in site.items()}):
        script = job_script(SlurmJobs(sbatch="--nice=5"))
    wanted = {"-t 2:00:00", "--cpus-per-task=3", "--mem=9G", "-p day", "--qos=low", "--nice=5"}
    assert wanted <= set(directives(script))
    assert "module load cuda" in script.splitlines()
    assert option(script, "--resources") == "a=1"
    assert "export CYPOSE_LEAVE_AT=$(($(date +%s) + 6900))" in script.splitlines()


def test_without_dask_jobqueue_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(SettingsError, match=r"pip install 'cypose-dask\[slurm\]'"):
        connect(kind="slurm").__enter__()


def test_without_slurm_the_error_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="sbatch, squeue, scancel cannot be found"):
        connect(kind="slurm").__enter__()


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    """SLURM whose jobs are processes here, looked after twice a second."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(renewal, "_LOOK_EVERY_S", 0.5)
    monkeypatch.chdir(tmp_path)
    found = PretendedSlurm.install(tmp_path)
    yield found
    try:
        found.wait_for_end()
    finally:
        for job in found.alive:
            found.kill(job)


SMALL = SlurmJobs(cores=1, memory="2GB", walltime="5")


def test_jobs_have_a_worker_each_and_end_with_the_work(pretended, tmp_path):
    with connect(kind=SMALL, workers=2) as client:
        client.wait_for_workers(2, timeout=60)
        assert list(client.nthreads().values()) == [1, 1]
        found = client.run(lambda: os.environ["OMP_NUM_THREADS"])
        assert set(found.values()) == {"1"}
        assert len(pretended.alive) == 2
        (keys,) = tmp_path.glob(".*")
        assert keys.stat().st_mode & 0o077 == 0
    pretended.wait_for_end()
    assert list(tmp_path.glob(".*")) == []


def test_what_listens_to_the_network_is_encrypted(pretended):
    before = open_ports(os.getpid())
    with connect(kind=SMALL) as client:
        (worker,) = client.run(os.getpid)
        assert client.scheduler.address.startswith("tls://")
        assert worker.startswith("tls://")
        assert open_ports(os.getpid()) - before == {port_of(client.scheduler.address)}
        assert open_ports(client.run(os.getpid)[worker]) == {port_of(worker)}


def port_of(address):
    return int(address.rpartition(":")[2])


def open_ports(pid):
    """Return the ports on which a process listens to more than its own machine."""
    return {
        connection.laddr.port
        for connection in psutil.Process(pid).net_connections()
        if connection.status == psutil.CONN_LISTEN and connection.laddr.ip != "127.0.0.1"
    }


def naps(client, count):
    """Begin tasks that give their numbers, after a fifth of a second each."""

    def nap(number):  # not of this module, which jobs cannot import
        time.sleep(0.2)
        return number

    return client.map(nap, range(count))


@pytest.mark.slow
def test_a_job_that_was_lost_is_replaced(pretended):
    with connect(kind=SMALL) as client:
        tasks = naps(client, 20)
        (lost,) = pretended.alive
        pretended.kill(lost)
        assert client.gather(tasks) == list(range(20))
        (other,) = pretended.alive
        assert other != lost


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_leave_with_their_tasks_finished_and_are_replaced(pretended, monkeypatch, tmp_path):
    monkeypatch.setattr(slurm, "_lifetime_s", lambda walltime: 6)  # a worker starts in 2 to 5 s
    begun = tmp_path / "begun"

    def nap(number):
        with begun.open("a") as file:
            file.write(f"{number}\n")
        time.sleep(0.5)
        return number

    with connect(kind=SMALL) as client:
        found = []
        for task, result in as_completed(client.map(nap, range(20)), with_results=True):
            task.release()
            found.append(result)
    assert sorted(found) == list(range(20))
    assert len(pretended.submitted) > 1
    assert sorted(int(line) for line in begun.read_text().split()) == list(range(20))


def test_jobs_that_end_before_their_workers_come_are_not_submitted_for_ever(pretended, tmp_path):
    (tmp_path / "broken").touch()
    with pytest.raises(RunError, match=r"before their workers came.*slurm-JOB\.out"):
        connect(kind=SMALL).__enter__()
    assert len(pretended.submitted) == 3


def test_a_job_that_slurm_refuses_is_an_error_with_its_words_and_the_script(pretended, tmp_path):
    (tmp_path / "refuse").touch()
    with pytest.raises(RunError, match="invalid partition") as raised:
        connect(kind=SMALL).__enter__()
    assert "#SBATCH --cpus-per-task=1" in str(raised.value)


def test_the_command_line_describes_jobs(pretended, nd2_path, cli, tmp_path):
    options = ["--cluster", "slurm", "--job-cores", "1", "--job-memory", "2GB", "--walltime", "5"]
    options += ["--sbatch=--comment=mine"]
    code, _, errors = cli("convert", nd2_path, "-o", tmp_path / "out", *options)
    assert (code, errors) == (0, "")
    (script,) = (path.read_text() for path in tmp_path.glob("*.script"))
    assert {"--comment=mine", "-t 5", "--cpus-per-task=1"} <= set(directives(script))


@pytest.mark.parametrize("name", ["--walltime", "--job-cores", "--job-memory", "--sbatch"])
def test_options_of_jobs_without_jobs_are_an_error(name, nd2_path, cli, tmp_path):
    code, _, errors = cli("convert", nd2_path, "-o", tmp_path / "out", f"{name}=5")
    assert code == 2
    assert f"{name} needs --cluster slurm" in errors


@pytest.fixture
def one_node(tmp_path, monkeypatch):
    """A real SLURM with a slot for each of two jobs."""
    if not real_slurm.is_there():
        pytest.skip("SLURM is not installed, or may not be started by this user")
    monkeypatch.setattr(renewal, "_LOOK_EVERY_S", 2.0)
    monkeypatch.chdir(tmp_path)
    with real_slurm.one_node(tmp_path, cores=2) as configuration:
        monkeypatch.setenv("SLURM_CONF", str(configuration))
        yield


def queue():
    told = subprocess.run(["squeue", "--noheader", "--format=%A"], capture_output=True, text=True)
    return told.stdout.split()


@pytest.mark.slow
def test_a_movie_is_segmented_in_jobs_that_are_cancelled_and_end(one_node, tmp_path):
    movie = open_movie(write_small_movie(tmp_path / "movie.nd2", N_FRAMES))
    cancelled = []

    def cancel_one(record, done, total):
        if done > 100 and not cancelled:
            cancelled.extend(queue()[:1])
            subprocess.run(["scancel", *cancelled], check=True)

    jobs = SlurmJobs(cores=1, memory="3GB", walltime="1")
    with connect(kind=jobs, workers=2) as client:
        client.wait_for_workers(2, timeout=60)
        options = RunOptions(frames_per_block=4)
        result = segment(
            movie, tmp_path / "movie.zarr", client=client, options=options, progress=cancel_one
        )
        assert len(cancelled) == 1
    assert np.array_equal(result.labels()[:, 0], labels_of_movie(N_FRAMES))
    # Two at first, one for that which was cancelled, and one for each that came to its end.
    assert len(list(tmp_path.glob("slurm-*.out"))) >= 5
    assert queue() == []
