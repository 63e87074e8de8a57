"""The command line as a user types it. Runs go to the tests' own cluster by --scheduler."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tifffile

from cypose_dask.cli import COMMANDS
from cypose_dask.movies import open_movie
from cypose_dask.results import Status, open_result
from helpers.nd2_writer import write_nd2


@pytest.fixture
def segment(cli, client):
    """Run ``cypose-dask segment`` on the tests' cluster."""
    return lambda *args: cli("segment", *args, "--scheduler", client.scheduler.address)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_there(command, cli):
    code, out, _ = cli(*filter(None, [command, "--help"]))
    assert code == 0
    assert "Usage:" in out


def test_one_movie_to_a_named_tif(nd2_path, segment, expected_labels, tmp_path):
    tif = tmp_path / "out" / "labels.tif"
    code, out, err = segment(nd2_path, "-o", tif, "--preview")
    assert code == 0, err
    with tifffile.TiffFile(tif) as file:
        assert file.is_imagej
        assert file.series[0].axes == "TYX"
        np.testing.assert_array_equal(file.asarray(), expected_labels)
    written = {path.name for path in tif.parent.iterdir()}
    assert written == {
        "labels.tif",
        "labels.zarr",
        "labels.log",
        "labels.journal.jsonl",
        "labels_run.json",
        "labels_preview.png",
    }
    for words in ("T 5, P 1, Z 1, C 2", "0 (Brightfield)", "5 of 5 frames", str(tif)):
        assert words in out


def test_run_json_repeats_the_run(nd2_path, segment, tmp_path):
    segment(nd2_path, "-o", tmp_path / "a.tif", "--diameter", "19", "--end-frame", "1")
    record = json.loads((tmp_path / "a_run.json").read_text())
    assert record["plan"]["settings"]["diameter"] == 19
    assert record["plan"]["settings"]["channels"] == [0]
    assert len(record["plan"]["model"]["sha256"]) == 64
    assert record["plan"]["versions"]["cellpose"].startswith("3.")
    assert record["frames_not_done"] == []


def test_cellpose_spellings_mean_the_same(nd2_path, segment, tmp_path):
    ours = ("--diameter", "17", "--flow-threshold", "0.5", "--cellprob-threshold", "-1",
            "--min-size-px", "30", "--channels", "0,1", "--model", "cyano-rods")  # fmt: skip
    theirs = ("--diameter", "17", "--flow_threshold", "0.5", "--cellprob_threshold", "-1",
              "--min_size", "30", "--chan", "1", "--chan2", "2",
              "--pretrained_model", "cyano-rods")  # fmt: skip
    plans = []
    for name, spelling in (("a", ours), ("b", theirs)):
        code, _, err = segment(
            nd2_path, "-o", tmp_path / f"{name}.tif", *spelling, "--end-frame", 1
        )
        assert code == 0, err
        plans.append(json.loads((tmp_path / f"{name}_run.json").read_text())["plan"]["settings"])
    assert plans[0] == plans[1]


def test_every_setting_arrives(nd2_path, segment, tmp_path):
    code, _, err = segment(
        nd2_path, "-o", tmp_path / "a.tif", "--niter", "30", "--normalize", "100,30000",
        "--percentiles", "2", "98", "--invert", "--start-frame", "1", "--end-frame", "2",
        "--chan", "0", "--frames-per-block", "1",
    )  # fmt: skip
    assert code == 0, err
    settings = json.loads((tmp_path / "a_run.json").read_text())["plan"]["settings"]
    assert settings["niter"] == 30
    assert settings["normalize"] == [100, 30000]
    assert settings["percentiles"] == [2, 98]
    assert settings["invert"] is True
    assert settings["channels"] == "mean"
    assert (settings["start_frame"], settings["end_frame"]) == (1, 2)


def test_a_second_call_continues_and_computes_nothing(nd2_path, segment, tmp_path):
    segment(nd2_path, "-o", tmp_path / "a.tif")
    journal = (tmp_path / "a.journal.jsonl").read_text()
    (tmp_path / "a.tif").unlink()
    code, _, _ = segment(nd2_path, "-o", tmp_path / "a.tif")
    assert code == 0
    assert (tmp_path / "a.journal.jsonl").read_text() == journal
    assert (tmp_path / "a.tif").exists()


def test_other_settings_are_refused_until_restart(nd2_path, segment, tmp_path):
    segment(nd2_path, "-o", tmp_path / "a.tif", "--end-frame", "1")
    other = (nd2_path, "-o", tmp_path / "a.tif", "--end-frame", "1", "--niter", "11")
    code, _, err = segment(*other)
    assert code == 1
    assert "niter" in err
    assert "--restart" in err
    assert segment(*other, "--restart")[0] == 0


def test_debug_writes_flows_and_probabilities(nd2_path, segment, tmp_path):
    code, _, err = segment(nd2_path, "-o", tmp_path / "a.tif", "--debug", "--end-frame", "2")
    assert code == 0, err
    flows = tifffile.imread(tmp_path / "a.tif.flow.tif")
    probs = tifffile.imread(tmp_path / "a.tif.prob.tif")
    assert flows.shape == (2, 2, 64, 64)
    assert flows.dtype == probs.dtype == np.float32
    assert probs.shape == (2, 64, 64)
    assert probs.min() >= 0
    assert 0.9 < probs.max() <= 1


@pytest.fixture
def folder(nd2_path, synthetic, tmp_path):
    """A lab's folder: two movies of one stem, a deeper one, one broken file, somebody's notes."""
    lab = tmp_path / "lab"
    (lab / "deep").mkdir(parents=True)
    shutil.copy(nd2_path, lab / "a.nd2")
    frames = synthetic.frames[:2, 0]
    tifffile.imwrite(lab / "a.tif", frames, imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite(lab / "deep" / "b c#.tif", frames[:1])
    (lab / "broken.tif").write_text("not a tif")
    (lab / "notes.txt").write_text("x")
    return lab


def test_a_folder_is_segmented_and_one_bad_file_stops_nothing(
    folder, segment, expected_labels, tmp_path
):
    out = tmp_path / "out"
    code, text, err = segment(folder, "-o", out, "--recursive", "--end-frame", "1")
    assert code == 1
    assert "broken.tif" in err
    assert "3 of 4 movies are whole" in text
    tifs = sorted(str(path.relative_to(out)) for path in out.rglob("*.tif"))
    assert tifs == ["a.nd2_cp_masks.tif", "a.tif_cp_masks.tif", "deep/b c#_cp_masks.tif"]
    for name in tifs:
        np.testing.assert_array_equal(tifffile.imread(out / name), expected_labels[0])


def test_outputs_beside_inputs_are_never_inputs(folder, segment):
    (folder / "broken.tif").unlink()
    assert segment(folder, "--end-frame", "1")[0] == 0
    before = sorted(path.name for path in folder.iterdir())
    code, out, _ = segment(folder, "--end-frame", "1")
    assert code == 0
    assert "2 of 2 movies are whole" in out
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_sequence_is_one_movie(synthetic, segment, expected_labels, tmp_path):
    for t, frame in enumerate(synthetic.frames[:3, 0]):
        tifffile.imwrite(tmp_path / f"img{t + 1:03d}.tif", frame)
    code, _, err = segment(tmp_path / "img*.tif", "-o", tmp_path / "out")
    assert code == 0, err
    labels = tifffile.imread(tmp_path / "out" / "img_cp_masks.tif")
    np.testing.assert_array_equal(labels, expected_labels[:3])


def test_several_positions_give_one_tif_each(synthetic, segment, expected_labels, tmp_path):
    path = tmp_path / "grid.nd2"
    write_nd2(path, synthetic.frames[[[0, 1], [2, 3]]], axes="TPCYX", channels=["BF", "Chl"])
    code, _, err = segment(path)
    assert code == 0, err
    for position, frames in enumerate(([0, 2], [1, 3])):
        labels = tifffile.imread(tmp_path / f"grid_cp_masks_p{position:03d}.tif")
        np.testing.assert_array_equal(labels, expected_labels[frames])
    code, _, err = segment(path, "--position", "1", "-o", tmp_path / "one.tif")
    assert code == 0, err
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "one.tif"), expected_labels[[1, 3]])


def test_holes_are_refused_or_marked(synthetic, segment, cli, tmp_path):
    path = tmp_path / "holed.nd2"
    write_nd2(path, synthetic.frames[:3], axes="TCYX", channels=["BF", "Chl"], skip_frames=(1,))
    code, _, err = segment(path)
    assert code == 1
    assert "--allow-damaged" in err
    code, _, err = segment(path, "--allow-damaged")
    assert code == 1
    assert "t=1 position=0 z=0: damaged: " in err
    assert "blank pages" in err
    labels = tifffile.imread(tmp_path / "holed_cp_masks.tif")
    assert not labels[1].any()
    assert labels[2].any()
    assert open_result(tmp_path / "holed.zarr").status()[1, 0] == Status.DAMAGED
    code, _, err = cli("export", tmp_path / "holed.zarr", "-o", tmp_path / "again.tif")
    assert code == 2
    assert "--allow-incomplete" in err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["missing.nd2"], 3, "There is no file"),
        (["--model", "cyano-rod", "MOVIE"], 2, "Did you mean cyano-rods"),
        (["--channels", "GFP", "MOVIE"], 1, "1 'Chlorophyll'"),
        (["--diameter", "big", "MOVIE"], 2, "neither px"),
        (["--diameter", "-3", "MOVIE"], 2, "above 0"),
        (["--end-frame", "99", "MOVIE"], 1, "has 5 frames along T"),
        (["--chan", "1", "--channels", "0", "MOVIE"], 2, "Give --channels"),
        (["--axes", "TZYX", "MOVIE"], 1, "axes"),
        (["--nonsense", "MOVIE"], 2, "No such option"),
    ],
)
def test_mistakes_have_codes_and_words(args, code, words, nd2_path, segment, tmp_path):
    args = [str(nd2_path) if arg == "MOVIE" else arg for arg in args]
    found, _, err = segment(*args, "-o", tmp_path / "out")
    assert found == code
    assert words in err
    assert not list(tmp_path.glob("out/*.tif"))


def test_why_frames_failed_is_said_and_kept(segment, synthetic, tmp_path):
    frames = synthetic.frames[:3, 0].astype(np.float32)
    frames[1, 5, 5] = np.nan
    tifffile.imwrite(tmp_path / "m.tif", frames, imagej=True, metadata={"axes": "TYX"})
    code, _, err = segment(tmp_path / "m.tif")
    assert code == 1
    assert "t=1 position=0 z=0: damaged: 1 of 4096 pixels are NaN or infinite" in err
    assert "--allow-damaged accepts damaged frames" in err
    (missing,) = json.loads((tmp_path / "m_run.json").read_text())["frames_not_done"]
    assert (missing["t"], missing["status"]) == (1, "damaged")
    assert "NaN" in missing["reason"]


def test_a_missing_scheduler_file_is_an_error_at_once(nd2_path, cli):
    code, _, err = cli("segment", nd2_path, "--scheduler-file", "nowhere.json")
    assert code == 4
    assert "There is no scheduler file nowhere.json" in err


def test_gpu_that_is_not_there_is_an_error(nd2_path, segment, tmp_path):
    import torch

    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has a GPU")
    code, _, err = segment(nd2_path, "--gpu", "-o", tmp_path / "a.tif")
    assert code == 2
    assert "sees neither CUDA nor MPS" in err


def test_a_scheduler_that_is_not_there_is_an_error(nd2_path, cli, monkeypatch):
    import distributed

    def fail(*_args, **_kwargs):
        raise OSError("Timed out")

    monkeypatch.setattr(distributed, "Client", fail)
    monkeypatch.setattr("cypose_dask.run.clusters.existing._CONNECT_TIMEOUT_S", 1.0)
    code, _, err = cli("segment", nd2_path, "--scheduler", "tcp://127.0.0.1:9")
    assert code == 4
    assert "No Dask scheduler answers" in err


def test_info_shows_the_movie_and_the_plan(nd2_path, cli):
    code, out, _ = cli("info", nd2_path)
    assert code == 0
    for words in ("0 Brightfield, 1 Chlorophyll", "0.11 um", "T 5", "cyano-rods", "px"):
        assert words in out


def test_info_of_rubbish_says_why(tmp_path, cli):
    (tmp_path / "x.tif").write_text("rubbish")
    code, _, err = cli("info", tmp_path / "x.tif")
    assert code == 1
    assert "cannot be segmented" in err


def test_export_writes_the_same_tif_again(nd2_path, segment, cli, tmp_path):
    segment(nd2_path, "-o", tmp_path / "a.tif", "--end-frame", "2")
    code, out, _ = cli("export", tmp_path / "a.zarr", "-o", tmp_path / "b.tif")
    assert code == 0
    assert "b.tif" in out
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "a.tif"), tifffile.imread(tmp_path / "b.tif")
    )


def test_convert_keeps_pixels_and_metadata(nd2_path, movie, cli, client, tmp_path):
    args = ("convert", nd2_path, "-o", tmp_path, "--scheduler", client.scheduler.address)
    code, _, err = cli(*args)
    assert code == 0, err
    copy = open_movie(tmp_path / "movie.ome.zarr")
    assert copy.info.sizes == movie.info.sizes
    assert copy.info.channel_names == movie.info.channel_names
    assert copy.info.pixel_size_um == pytest.approx(movie.info.pixel_size_um)
    assert copy.info.interval_s == pytest.approx(movie.info.interval_s)
    np.testing.assert_array_equal(copy.frames.compute(), movie.frames.compute())
    code, _, err = cli(*args)
    assert code == 1
    assert "exists already" in err


def test_models_lists_and_describes(cli):
    code, out, _ = cli("models")
    assert code == 0
    for words in ("cyano-rods  (default)", "bact_phase_cp3", "general"):
        assert words in out
    code, out, _ = cli("models", "default")
    assert code == 0
    assert "sha256" in out
