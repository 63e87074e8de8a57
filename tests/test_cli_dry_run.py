"""``segment --dry-run`` prints and does nothing."""

from __future__ import annotations

import pytest


@pytest.fixture
def before(nd2_path, tmp_path):
    """The folder as it is before, with a way to look at it again."""
    return lambda: sorted(path.name for path in tmp_path.rglob("*"))


def test_a_dry_run_prints_the_plan_and_the_outputs(cli, nd2_path, client, tmp_path, before):
    where = ("--scheduler", client.scheduler.address)
    code, out, err = cli("segment", nd2_path, "-o", tmp_path / "m.tif", "--dry-run", *where)
    assert code == 0, err
    for words in ("frames    0 to 4", "model     ", "engine    ", f"labels    {tmp_path}/m.tif"):
        assert words in out
    assert "continued" not in out
    assert before() == []


def test_a_dry_run_says_what_would_be_continued(cli, nd2_path, client, tmp_path):
    command = (
        "segment",
        nd2_path,
        "-o",
        tmp_path / "m.tif",
        "--scheduler",
        client.scheduler.address,
    )
    assert cli(*command)[0] == 0
    assert "(is there, and would be continued)" in cli(*command, "--dry-run")[1]
    assert "continued" not in cli(*command, "--dry-run", "--restart")[1]


def test_a_dry_run_names_what_would_be_refused(cli, nd2_path, client, tmp_path):
    where = ("--scheduler", client.scheduler.address)
    code, _, err = cli("segment", nd2_path, "--dry-run", "--channels", "nonsense", *where)
    assert code == 1
    assert f"refused   {nd2_path}: " in err


def test_a_dry_run_on_slurm_shows_the_job_script_and_submits_none(
    cli, nd2_path, tmp_path, before, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path))  # no sbatch
    code, out, err = cli(
        "segment", nd2_path, "-o", tmp_path / "m.tif", "--dry-run", "--cluster", "slurm",
        "--workers", "3", "--job-cores", "6", "--walltime", "2:00:00", "--sbatch", "--qos=low",
    )  # fmt: skip
    assert code == 0, err
    assert "job       3 at once" in out
    for line in ("#SBATCH --cpus-per-task=6", "#SBATCH -t 2:00:00", "#SBATCH --qos=low"):
        assert line in out.splitlines()
    assert "--gres" not in out
    assert before() == []


def test_options_of_another_cluster_are_refused(cli, nd2_path):
    code, _, err = cli("segment", nd2_path, "--walltime", "1:00:00")
    assert code == 2
    assert "--walltime needs --cluster slurm" in err
