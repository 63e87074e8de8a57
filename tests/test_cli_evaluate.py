"""``cypose-dask evaluate`` as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from cypose_dask.learn import evaluate_files
from cypose_dask.learn.scoring.worst_frames import draw_frame, open_backdrops
from cypose_dask.results import Status
from helpers.results import write_result

TRUTH = np.zeros((4, 40, 50), np.uint16)
TRUTH[:, 2:12, 2:12], TRUTH[:, 2:12, 20:30], TRUTH[:, 20:32, 20:32] = 1, 2, 3
PREDICTED = TRUTH.copy()
PREDICTED[1][TRUTH[1] == 1] = 0  # one missed
PREDICTED[2][TRUTH[2] > 1] = 0  # two missed
PREDICTED[3, 34:38, 2:8] = 9  # one too many
ORANGE, BLUE, GRAY = (213, 94, 0), (0, 114, 220), (110, 110, 110)


@pytest.fixture
def evaluate(cli):
    """Run ``cypose-dask evaluate``."""
    return lambda *args: cli("evaluate", *args)


@pytest.fixture
def files(tmp_path):
    """Prediction and truth as TIFs."""
    for name, labels in (("found", PREDICTED), ("truth", TRUTH)):
        tifffile.imwrite(tmp_path / f"{name}.tif", labels)
    return tmp_path / "found.tif", tmp_path / "truth.tif"


def row(out: str, name: str) -> list[str]:
    [line] = [line for line in out.splitlines() if line.startswith(f"{name} ")]
    return line.removeprefix(name).split()


def test_the_table_says_which_is_which_and_holds_the_scores(evaluate, files):
    code, out, err = evaluate(*files)
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == [f"prediction  {files[0]}", f"truth       {files[1]}"]
    assert row(out, "t=0")[:6] == ["3", "3", "1.000", "1.000", "1.000", "1.000"]
    assert row(out, "t=2")[:3] == ["3", "1", "0.333"]
    assert row(out, "pooled")[:3] == ["12", "10", "0.692"]
    assert row(out, "precision")[0] == "0.900"
    assert row(out, "recall")[0] == "0.750"
    assert (row(out, "missed")[0], row(out, "too many")[0]) == ("3", "1")


def test_the_other_order_swaps_precision_and_recall(evaluate, files):
    _, one, _ = evaluate(*files)
    _, two, _ = evaluate(*files[::-1])
    assert row(one, "precision") == row(two, "recall") != row(one, "recall")
    assert row(one, "recall") == row(two, "precision")
    assert row(one, "AP") == row(two, "AP")


@pytest.mark.parametrize(("n_empty", "says"), [(0, None), (1, "1 frame has"), (2, "2 frames have")])
def test_frames_without_cells_on_either_side_are_said(n_empty, says, evaluate, tmp_path):
    empty = np.zeros((n_empty, *TRUTH.shape[1:]), TRUTH.dtype)
    for name, labels in (("found", PREDICTED), ("truth", TRUTH)):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.concatenate([labels, empty]))
    _, out, _ = evaluate(tmp_path / "found.tif", tmp_path / "truth.tif")
    said = [line for line in out.splitlines() if "no cell on either side" in line]
    assert [line.startswith(says or "") for line in said] == [True] * bool(n_empty)


def test_help_says_which_is_which(evaluate):
    _, out, _ = evaluate("--help")
    assert "PREDICTION TRUTH" in out
    assert "(what the network found)" in out


def test_json_holds_every_number(evaluate, files, tmp_path):
    code, out, _ = evaluate(*files, "--json", tmp_path / "o.json")
    written = json.loads((tmp_path / "o.json").read_text())
    assert code == 0
    assert str(tmp_path / "o.json") in out
    assert (written["prediction"], written["truth"]) == tuple(map(str, files))
    found = evaluate_files(*files).evaluation
    assert written["pooled"] == json.loads(json.dumps(found.pooled.to_dict()))
    assert [frame["name"] for frame in written["frames"]] == ["t=0", "t=1", "t=2", "t=3"]
    assert written["mean_over_frames"]["ap"] == pytest.approx(list(found.mean_ap))


def test_partial_truth_shows_no_score_that_needs_all_cells(evaluate, files, tmp_path):
    code, out, _ = evaluate(*files, "--partial-truth", "--json", tmp_path / "o.json")
    assert code == 0
    assert "recall@0.5" in out
    for word in ("AP", "PQ", "precision", "F1", "too many"):
        assert word not in out
    pooled = json.loads((tmp_path / "o.json").read_text())["pooled"]
    assert pooled["recall"] == [0.75] * 3
    assert {pooled[name] for name in ("fp", "rq", "pq", "unpaired_predicted")} == {None}


def test_ignore_border_says_what_it_leaves_out(evaluate, tmp_path):
    labels = TRUTH.copy()
    labels[:, 36:, 40:] = 4
    tifffile.imwrite(tmp_path / "a.tif", labels)
    tifffile.imwrite(tmp_path / "b.tif", TRUTH)
    code, out, _ = evaluate(tmp_path / "a.tif", tmp_path / "b.tif", "--ignore-border")
    assert code == 0
    assert "0 true and 4 predicted cells are not scored" in out
    assert row(out, "AP")[0] == "1.000"


def test_many_frames_show_the_worst(evaluate, tmp_path):
    truth, found = np.repeat(TRUTH[:1], 30, axis=0), np.repeat(TRUTH[:1], 30, axis=0)
    found[17] = PREDICTED[2]
    found[3] = PREDICTED[1]
    for name, labels in (("f", found), ("t", truth)):
        tifffile.imwrite(tmp_path / f"{name}.tif", labels)
    _, out, _ = evaluate(tmp_path / "f.tif", tmp_path / "t.tif")
    assert "The worst 2 of 30 frames" in out
    shown = [line.split()[0] for line in out.splitlines() if line.startswith("t=")]
    assert shown == ["t=17", "t=3"]


def test_thresholds_are_chosen(evaluate, files):
    _, out, _ = evaluate(*files, "--threshold", "0.8", "--threshold", "0.3")
    assert "AP@0.3  AP@0.8" in out
    assert "AP@0.5" not in out


def test_failed_frames_are_warned_about_and_the_exit_code_says_so(evaluate, tmp_path):
    status = np.full((4, 1), Status.DONE, np.uint8)
    status[2] = Status.FAILED
    labels = PREDICTED[:, None, None].astype(np.uint32)
    write_result(tmp_path / "m.zarr", labels, status=status)
    tifffile.imwrite(tmp_path / "t.tif", TRUTH)
    code, out, err = evaluate(tmp_path / "m.zarr", tmp_path / "t.tif")
    assert code == 1
    assert "prediction t=2 failed" in err
    assert "3 frames" in out
    assert not [line for line in out.splitlines() if line.startswith("t=2")]


def test_a_result_as_truth_of_something_else_is_remarked_on(evaluate, tmp_path):
    write_result(tmp_path / "m.zarr", PREDICTED[:, None, None].astype(np.uint32))
    tifffile.imwrite(tmp_path / "t.tif", TRUTH)
    assert "swapped" in evaluate(tmp_path / "t.tif", tmp_path / "m.zarr")[2]
    assert evaluate(tmp_path / "m.zarr", tmp_path / "t.tif")[2] == ""


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ([], 2, "PREDICTION"),
        (["found.tif"], 2, "TRUTH"),
        (["nothing.tif", "truth.tif"], 3, "nothing.tif"),
        (["found.tif", "truth.tif", "--threshold", "0"], 2, "0<x<=1"),
        (["found.tif", "truth.tif", "--image", "found.tif"], 2, "--picture"),
        (["found.tif", "truth.tif", "--picture", "x.png", "--image", "no"], 2, "no such file"),
        (["found.tif", "truth.tif", "--json", "."], 2, "directory"),
        (["found.tif", "."], 2, "is a folder"),
    ],
)
def test_wrong_usage_is_explained(evaluate, files, monkeypatch, args, code, says):
    monkeypatch.chdir(files[0].parent)
    found, _, err = evaluate(*args)
    assert found == code
    assert says in err
    assert "Traceback" not in err


# The picture


def test_the_picture_has_a_row_for_each_of_the_worst_frames(evaluate, files, tmp_path):
    code, out, _ = evaluate(*files, "--picture", tmp_path / "x.png", "--worst", 2)
    assert code == 0
    assert out.splitlines()[-1].endswith("x.png: t=2, t=1")
    one, two = (Image.open(tmp_path / "x.png").height, draw_frame(TRUTH[2], PREDICTED[2]).shape[0])
    assert one == 2 * two


def test_a_perfect_prediction_has_a_picture_too(evaluate, files, tmp_path):
    code, out, _ = evaluate(files[1], files[1], "--picture", tmp_path / "x.png")
    assert code == 0
    assert out.splitlines()[-1].endswith("x.png: t=0")


def colours(picture) -> set:
    third = picture[22:, -picture.shape[1] // 3 + 10 :]
    return set(map(tuple, third.reshape(-1, 3)))


def test_the_third_panel_shows_what_is_missing_and_what_is_too_much():
    same, missed, extra = (colours(draw_frame(TRUTH[i], PREDICTED[i])) for i in (0, 1, 3))
    assert GRAY in same & missed & extra
    assert (ORANGE in same, ORANGE in missed, ORANGE in extra) == (False, True, False)
    assert (BLUE in same, BLUE in missed, BLUE in extra) == (False, False, True)
    assert BLUE not in colours(draw_frame(TRUTH[3], PREDICTED[3], partial_truth=True))


def test_a_rim_is_pale_where_cells_match():
    fat = TRUTH[0].copy()
    fat[1:13, 1:13] = 1
    assert (150, 210, 255) in colours(draw_frame(TRUTH[0], fat))
    assert (255, 200, 140) in colours(draw_frame(fat, TRUTH[0]))


def test_the_image_under_the_outlines_is_the_frame_of_the_result(evaluate, tmp_path):
    movie = np.zeros((9, 40, 50), np.uint16)
    movie[:] = np.arange(9)[:, None, None]
    tifffile.imwrite(tmp_path / "movie.tif", movie, metadata={"axes": "TYX"})
    write_result(tmp_path / "m.zarr", PREDICTED[:, None, None].astype(np.uint32), start_frame=5)
    tifffile.imwrite(tmp_path / "t.tif", TRUTH)
    found = evaluate_files(tmp_path / "m.zarr", tmp_path / "t.tif")
    pair = found.places[0][0]
    backdrops = open_backdrops(tmp_path / "movie.tif", [pair])
    assert [int(backdrops(pair, i).max()) for i in range(4)] == [5, 6, 7, 8]
    picture = tmp_path / "x.png"
    args = ("--picture", picture, "--image", tmp_path / "movie.tif")
    assert evaluate(tmp_path / "m.zarr", tmp_path / "t.tif", *args)[0] == 0
    assert picture.is_file()


def test_an_image_of_another_movie_is_refused(evaluate, files, tmp_path):
    for name, movie in (("short.tif", TRUTH[:2]), ("small.tif", TRUTH[:, 1:])):
        tifffile.imwrite(tmp_path / name, movie, imagej=True, metadata={"axes": "TYX"})
    for image, says in (("short.tif", "2 of the 4 frames"), ("small.tif", "(39, 50)")):
        code, _, err = evaluate(
            *files, "--picture", tmp_path / "x.png", "--image", tmp_path / image
        )
        assert code == 2
        assert says in err


def test_folders_take_their_images_by_name(evaluate, tmp_path):
    for folder, suffix in (("p", "_cp_masks"), ("t", "_masks"), ("i", "")):
        (tmp_path / folder).mkdir()
        for name in "ab":
            tifffile.imwrite(tmp_path / folder / f"{name}{suffix}.tif", TRUTH[0])
    args = (tmp_path / "p", tmp_path / "t", "--picture", tmp_path / "x.png")
    code, out, _ = evaluate(*args, "--image", tmp_path / "i")
    assert code == 0
    assert row(out, "a")[0] == row(out, "b")[0] == "3"
    (tmp_path / "i/b.tif").unlink()
    code, _, err = evaluate(*args, "--image", tmp_path / "i")
    assert code == 2
    assert "no image for 1 of 2" in err
    (tmp_path / "p/b_cp_masks.tif").unlink()
    assert evaluate(tmp_path / "p", tmp_path / "t")[0] == 2
    code, _, err = evaluate(tmp_path / "p", tmp_path / "t", "--allow-missing")
    assert code == 0
    assert "b_masks.tif (no prediction)" in err
