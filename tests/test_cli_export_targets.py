"""``cypose-dask export --to``: the same files as the functions, what is said, and exit codes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from cypose_dask.cli.export import parse_frames
from cypose_dask.results import (
    Status,
    export_ctc,
    export_cyan,
    export_ome_zarr,
    export_seg_npy,
    export_trackmate,
)
from helpers.handed_on import hand_on

DONE, FAILED, PENDING = (int(s) for s in (Status.DONE, Status.FAILED, Status.PENDING))


def files_in(place) -> dict[str, bytes]:
    """Content by name, of a file or of all files of a folder."""
    if place.is_file():
        return {"": place.read_bytes()}
    return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("target", "name", "function", "options"),
    [
        ("seg-npy", "gui", export_seg_npy, {}),
        ("ome-zarr", "x.ome.zarr", export_ome_zarr, {}),
        ("trackmate", "x.tif", export_trackmate, {}),
        ("ctc", "ctc", export_ctc, {"unlinked": True}),
        ("cyan", "masks", export_cyan, {}),
    ],
)
def test_the_command_writes_what_the_function_writes(
    tmp_path, cli, target, name, function, options
):
    made = hand_on(tmp_path)
    flags = [f"--{option}" for option in options]
    code, out, err = cli("export", made.result.path, "--to", target, "-o", tmp_path / name, *flags)
    assert (code, err) == (0, "")
    assert str(tmp_path / name) in out
    function(made.result, tmp_path / f"again_{name}", **options)
    assert files_in(tmp_path / name) == files_in(tmp_path / f"again_{name}") != {}


@pytest.mark.parametrize(
    ("target", "name", "flags"),
    [
        ("tif", "movie_cp_masks.tif", []),
        ("seg-npy", "movie_seg_npy", []),
        ("ome-zarr", "movie.ome.zarr", []),
        ("trackmate", "movie_trackmate.tif", []),
        ("ctc", "movie_ctc", ["--unlinked"]),
        ("cyan", "movie_cyan", []),
    ],
)
def test_without_a_name_files_lie_beside_the_result(tmp_path, cli, target, name, flags):
    made = hand_on(tmp_path)
    assert cli("export", made.result.path, "--to", target, *flags)[0] == 0
    assert (tmp_path / name).exists()


def test_labelled_tifs_are_the_default(tmp_path, cli):
    made = hand_on(tmp_path, counts=[2, 0, 3, 1])
    assert cli("export", made.result.path)[1].strip() == str(tmp_path / "movie_cp_masks.tif")
    assert tifffile.imread(tmp_path / "movie_cp_masks.tif").max() == 3
    cli("export", made.result.path, "--ids", "movie")
    assert tifffile.imread(tmp_path / "movie_cp_masks.tif").max() == 6


@pytest.mark.parametrize(
    ("flags", "times"),
    [
        (["--frames", "3,0"], [0, 3]),
        (["--frames", "1-3"], [1, 2, 3]),
        (["--every", "2"], [1, 3]),
        (["--every", "9"], [1]),
        ([], [1, 2, 3, 4]),
    ],
)
def test_frames_are_chosen_by_number_or_by_distance(tmp_path, cli, flags, times):
    start = 0 if flags[:2] == ["--frames", "3,0"] else 1
    made = hand_on(tmp_path, t=5, start_frame=start)
    _, out, _ = cli("export", made.result.path, "--to", "seg-npy", *flags)
    entries = json.loads((tmp_path / "movie_seg_npy" / "frames.json").read_text())["frames"]
    assert [entry["t"] for entry in entries] == times
    assert f"wrote     {len(times)} frame" in out
    assert f"cypose-dask train {tmp_path / 'movie_seg_npy'}" in out


@pytest.mark.parametrize("text", ["", "a", "1,,2", "3-1", "1-2-3", "-1"])
def test_what_is_no_list_of_frames_is_refused(tmp_path, cli, text):
    made = hand_on(tmp_path)
    code, _, err = cli("export", made.result.path, "--to", "seg-npy", "--frames", text)
    assert code == 2
    assert "--frames" in err


def test_ranges_are_meant_with_both_ends():
    assert parse_frames(None, None, "0,10,20-22") == [0, 10, 20, 21, 22]


@pytest.mark.parametrize(
    ("target", "flags", "said"),
    [
        ("tif", ["--every", "2"], "--every means nothing with --to tif"),
        ("tif", ["--unlinked"], "--unlinked means nothing with --to tif"),
        ("ctc", ["--ids", "movie"], "--ids means nothing with --to ctc"),
        ("cyan", ["--movie", "x"], "--movie means nothing with --to cyan"),
        ("trackmate", ["--debug"], "--debug means nothing with --to trackmate"),
        ("seg-npy", ["--every", "2", "--frames", "1"], "with --frames or with --every"),
        ("fiji", [], "'fiji' is not one of"),
    ],
)
def test_options_of_another_target_are_refused(tmp_path, cli, target, flags, said):
    made = hand_on(tmp_path)
    code, _, err = cli("export", made.result.path, "--to", target, *flags)
    assert code == 2
    assert said in err


@pytest.mark.parametrize(
    ("target", "flags", "instead"),
    [
        ("seg-npy", [], "left out"),
        ("trackmate", [], "blank"),
        ("ctc", ["--unlinked"], "blank"),
        ("cyan", [], "blank"),
    ],
)
def test_frames_without_labels_are_refused_or_said(tmp_path, cli, target, flags, instead):
    made = hand_on(tmp_path, t=6, p=2, start_frame=1, status=[DONE, FAILED, FAILED, DONE, PENDING])
    before = sorted(tmp_path.iterdir())
    code, out, err = cli("export", made.result.path, "--to", target, *flags)
    assert (code, out) == (2, "")
    assert "--allow-incomplete" in err
    assert sorted(tmp_path.iterdir()) == before
    code, _, err = cli("export", made.result.path, "--to", target, *flags, "--allow-incomplete")
    assert code == 1
    counted = f"{instead} (frames count from 0, as in the movie)"
    assert err.splitlines() == [
        f"warning   p={p}, t {times}: {kind}, {counted}"
        for p in (0, 1)
        for times, kind in (("5", "pending"), ("2-3", "failed"))
    ]


def test_only_chosen_frames_are_said_to_be_left_out(tmp_path, cli):
    made = hand_on(tmp_path, status=[DONE, FAILED, DONE, FAILED])
    flags = ("--to", "seg-npy", "--allow-incomplete", "--frames")
    code, _, err = cli("export", made.result.path, *flags, "0,1")
    assert code == 1
    assert "t 1: failed, left out" in err
    assert cli("export", made.result.path, *flags, "0,2", "-o", tmp_path / "other")[0] == 0


def test_a_movie_that_was_moved_is_named(tmp_path, cli):
    made = hand_on(tmp_path)
    moved = made.movie.rename(tmp_path / "moved.nd2")
    code, _, err = cli("export", made.result.path, "--to", "trackmate")
    assert code == 3
    assert "--movie PATH" in err
    assert cli("export", made.result.path, "--to", "trackmate", "--movie", moved)[0] == 0


def test_tracks_are_asked_for(tmp_path, cli):
    made = hand_on(tmp_path)
    code, _, err = cli("export", made.result.path, "--to", "ctc")
    assert code == 2
    assert "--unlinked" in err


def test_what_cyan_will_count_otherwise_is_said(tmp_path, cli, monkeypatch):
    made = hand_on(tmp_path, counts=[2, 1, 2, 0])
    from cypose_dask.results.handoff import cyan

    monkeypatch.setattr(cyan, "with_gaps", lambda labels: np.asarray(labels) > 0)
    code, _, err = cli("export", made.result.path, "--to", "cyan")
    assert code == 0
    assert err.startswith("warning   movie_series1_cellMask.tif: CyAn will count another number")
    assert "frames 0, 2," in err
