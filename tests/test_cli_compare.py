"""``cypose-dask compare`` as a user types it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile


@pytest.fixture
def truth(synthetic, tmp_path):
    path = tmp_path / "truth.tif"
    tifffile.imwrite(path, synthetic.labels, photometric="minisblack")
    return path


def test_with_truth_the_table_is_by_average_precision(nd2_path, truth, cli, tmp_path):
    code, out, err = cli(
        "compare", nd2_path, "--model", "cyano-rods", "--variant", "cellprob_threshold=6",
        "--truth", truth, "-n", 2, "--json", tmp_path / "c.json", "--picture", tmp_path / "c.png",
    )  # fmt: skip
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("ranked by average precision against the truth")
    assert lines[1].split()[:5] == ["rank", "score", "AP@0.5", "AP@0.75", "AP@0.9"]
    assert "steady" not in lines[1]
    assert lines[2].endswith("cyano-rods")
    assert lines[3].endswith("cyano-rods, cellprob_threshold=6")
    record = json.loads((tmp_path / "c.json").read_text())
    assert [one["rank"] for one in record["variants"]] == [1, 2]
    assert record["variants"][1]["settings"]["cellprob_threshold"] == 6
    assert record["variants"][0]["settings"]["channels"] == [0]
    assert record["ranked_by"] == lines[0]
    assert len(record["frames"]) == 2
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_without_truth_it_says_what_the_order_is_worth(nd2_path, cli):
    variants = ("--model", "cyano-rods", "--variant", "diameter=16", "--variant", "diameter=20")
    code, out, err = cli("compare", nd2_path, *variants, "-n", 1)
    assert code == 0, err
    assert out.startswith("ranked without truth, by agreement with the other models and steadiness")
    for words in ("agree  steady", "1 pair of consecutive", "nothing tells which model is right"):
        assert words in out
    assert "segment   3 of 3" in err


def test_variants_are_settings_and_may_hold_commas(nd2_path, cli, tmp_path):
    text = (
        "model=cyano-rods, channels=0,Chlorophyll,diameter=18,flow-threshold=0.4,niter=100,"
        "min_size_px=30,normalize=200,30000,100,3000,percentiles=2,98,invert=yes,cellprob_threshold=-1"
    )
    code, _, err = cli(
        "compare", nd2_path, "--variant", text, "--variant", "normalize=movie", "-n", 1,
        "--channels", "Chlorophyll", "--diameter", "17", "--json", tmp_path / "c.json",
    )  # fmt: skip
    assert code == 0, err
    found = {
        ("flow_threshold=0.4" in one["name"]): one["settings"]
        for one in json.loads((tmp_path / "c.json").read_text())["variants"]
    }
    expected = {
        "channels": [0, 1], "diameter": 18, "flow_threshold": 0.4, "niter": 100, "min_size_px": 30,
        "normalize": [200, 30000, 100, 3000], "percentiles": [2, 98], "invert": True,
        "cellprob_threshold": -1,
    }  # fmt: skip
    assert {name: found[True][name] for name in expected} == expected
    assert found[False]["channels"] == [1]
    assert found[False]["diameter"] == 17
    assert np.ravel(found[False]["normalize"]).dtype.kind in "if"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--model", "cyano-rods"], 2, "at least two of --model and --variant"),
        (["--model", "cyano-rods", "--model", "cyano-rods"], 2, "given twice"),
        (["--model", "cyano-rods", "--model", "cyano-rod"], 2, "Did you mean cyano-rods"),
        (["--model", "cyano-rods", "--variant", "size=3"], 2, "flow_threshold"),
        (["--model", "cyano-rods", "--variant", "diameter"], 2, "expected NAME=VALUE"),
        (["--model", "cyano-rods", "--variant", "diameter=3,diameter=4"], 2, "at most once"),
        (["--model", "cyano-rods", "--variant", "niter=many"], 2, "no value for niter"),
        (["--model", "cyano-rods", "--variant", "invert=maybe"], 2, "no value for invert"),
        (["--model", "cyano-rods", "--variant", "diameter=big"], 2, "neither px"),
        (["--model", "cyano-rods", "--variant", "diameter=-4"], 2, "above 0"),
        (["--model", "cyano-rods", "--variant", "gpu=yes"], 2, "expected NAME=VALUE"),
        (["--model", "cyano-rods", "--variant", "channels=GFP"], 2, "1 'Chlorophyll'"),
        (["--variant", "invert=1", "--model", "default", "--crop", "99"], 2, "too small"),
        (["--variant", "invert=1", "--model", "default", "--truth", "no.tif"], 3, "no such file"),
        (
            ["--variant", "invert=1", "--model", "default", "--truth", "no.tif", "--crop", "32"],
            2,
            "--crop goes without --truth",
        ),
    ],
)
def test_mistakes_have_codes_and_words(args, code, words, nd2_path, cli):
    found, out, err = cli("compare", nd2_path, *args)
    assert words in err
    assert found == code
    assert out == ""


def test_a_missing_movie_is_said(cli):
    code, _, err = cli("compare", "missing.nd2", "--model", "a", "--model", "b")
    assert code == 3
    assert "no such file" in err
