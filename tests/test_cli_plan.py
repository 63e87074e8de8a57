"""``cypose-dask plan`` tries a few frames, prints what a run would take, and leaves nothing."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cypose_dask.cli.plan import _parse_deadline, _size
from cypose_dask.cli.plan import command as plan_command
from cypose_dask.cli.segment import command as segment_command

LINES = ("speed", "memory", "vram", "disk", "time")


@pytest.fixture
def plan(cli, client):
    return lambda *args: cli("plan", *args, "--scheduler", client.scheduler.address)


def lines_of(out, word):
    return [line[10:] for line in out.splitlines() if line.startswith(f"{word:<10}")]


def test_plan_has_the_options_of_segment():
    def spellings(command):
        return {(p.name, *p.opts) for p in command.params}

    own = {name for name, *_ in spellings(plan_command) ^ spellings(segment_command)}
    assert own == {"deadline_s", "link", "preview", "progress", "report"}


def test_a_plan_says_what_a_run_would_take(plan, nd2_path, tmp_path):
    before = sorted(nd2_path.parent.iterdir())
    code, out, err = plan(nd2_path, "-o", tmp_path / "m.tif")
    assert code == 0, err
    assert all(len(lines_of(out, word)) == 1 for word in LINES), out
    assert lines_of(out, "movie")[0].startswith(str(nd2_path))
    assert "frames/s on 2 workers with 2 blocks at once" in lines_of(out, "speed")[0]
    assert lines_of(out, "vram") == ["-"]
    assert f"are free in {tmp_path}" in lines_of(out, "disk")[0]
    assert lines_of(out, "deadline") == lines_of(out, "left") == []
    assert (sorted(nd2_path.parent.iterdir()), list(tmp_path.iterdir())) == (before, [])


def test_a_deadline_says_how_many_workers(plan, nd2_path):
    out = plan(nd2_path, "--deadline", "2d")[1]
    assert lines_of(out, "deadline")[0].startswith("1 worker like these in 2 d 0 h")
    out = plan(nd2_path, "--deadline", "1s", "--flow-threshold", "0", "--end-frame", "1")[1]
    assert "1 worker" in lines_of(out, "deadline")[0]  # one block is left, and never more workers


def test_a_deadline_that_blocks_cannot_meet_is_told(cli, found, capsys, monkeypatch, nd2_path):
    slow = replace(found, frames_per_s=1e-6)
    monkeypatch.setattr("cypose_dask.run.estimate", lambda *args, **options: slow)
    code, out, _ = cli("plan", nd2_path, "--deadline", "6h", "--workers", "1")
    assert code == 0
    assert f"{slow.blocks_left} workers like these in 6 h 0 min" in out
    assert "not even then: there are no more blocks" in out


@pytest.fixture(scope="session")
def found(movie, client):
    from cypose_dask.run import estimate
    from cypose_dask.settings import Settings

    return estimate(movie, Settings(channels=(0,)), client=client)


def test_a_result_that_is_there_is_continued_in_the_estimate(cli, plan, client, nd2_path, tmp_path):
    where = (nd2_path, "-o", tmp_path / "m.tif")
    assert cli("segment", *where, "--scheduler", client.scheduler.address)[0] == 0
    code, out, _ = plan(*where, "--deadline", "1h")
    assert code == 0
    assert lines_of(out, "left") == [f"0 frames; the others are in {tmp_path / 'm.zarr'}"]
    assert lines_of(out, "deadline") == ["no frame is left to segment"]
    code, _, err = plan(*where, "--diameter", "9")
    assert (code, "was made by another plan" in err) == (1, True)


def test_movies_are_summed_and_one_that_is_refused_stops_none(plan, nd2_path, tmp_path):
    for name in ("a.nd2", "b.nd2"):
        shutil.copy(nd2_path, tmp_path / name)
    (tmp_path / "c.nd2").write_bytes(b"nothing")
    code, out, err = plan(tmp_path)
    assert code == 1
    assert lines_of(out, "all") == ["2 movies, 10 frames left"]
    assert len(lines_of(out, "time")) == 3
    assert f"refused   {tmp_path / 'c.nd2'}" in err


def test_a_dry_run_times_nothing(plan, nd2_path, monkeypatch):
    monkeypatch.setattr("cypose_dask.run.estimate", None)
    code, out, _ = plan(nd2_path, "--dry-run")
    assert (code, "frames    0 to 4" in out, lines_of(out, "speed")) == (0, True, [])


@pytest.mark.parametrize("text", ["", "6", "h", "0h", "1h30", "-1h", "1.5.h", "soon"])
def test_a_deadline_that_is_no_time_is_wrong_usage(text, cli, nd2_path):
    code, _, err = cli("plan", nd2_path, "--deadline", text)
    assert code == 2
    assert "give one like 6h, 90m, 1h30m or 2d" in err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6h", 21600), ("90m", 5400), ("1h30m", 5400), ("2d", 172800), ("1H 30M", 5400), ("45s", 45)],
)
def test_a_deadline_is_read(text, seconds):
    assert _parse_deadline(click.Context(plan_command), plan_command.params[1], text) == seconds


@given(number=st.integers(0, 10**16))
def test_a_size_is_near_what_it_says(number):
    value, unit = re.fullmatch(r"([\d.e+]+) (\w+)", _size(number)).groups()
    factor = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert float(value) * factor == pytest.approx(number, rel=0.005)
