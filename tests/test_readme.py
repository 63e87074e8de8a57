"""The README tells the truth: its Python runs, its commands and options exist."""

from __future__ import annotations

import re

import pytest

from conftest import ROOT
from cypose_dask.cli import COMMANDS, group

README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


@pytest.mark.parametrize("code", blocks("python"), ids=range(len(blocks("python"))))
def test_python_examples_run(code, nd2_path, client, tmp_path, monkeypatch):
    import shutil

    monkeypatch.chdir(tmp_path)
    shutil.copy(nd2_path, tmp_path / "movie.nd2")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", client.scheduler.address)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})


def test_every_command_and_option_in_shell_examples_exists():
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    calls = [line.split("#")[0].split() for line in lines if line.startswith("cypose-dask ")]
    assert calls
    for _, name, *args in calls:
        command = group.get_command(None, name)
        assert command is not None, name
        known = {spelling for parameter in command.params for spelling in parameter.opts}
        assert {arg for arg in args if re.match(r"-\D", arg)} <= known, (name, args)


def test_every_command_is_in_the_readme():
    for name in COMMANDS:
        assert f"cypose-dask {name}" in README
