"""``cypose-dask export``: incomplete results are refused, or their blank pages are named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from cypose_dask.results import Status
from cypose_dask.results.writing import write_status
from helpers.results import make_labels, write_result

DONE, PENDING, FAILED, DAMAGED = (
    int(s) for s in (Status.DONE, Status.PENDING, Status.FAILED, Status.DAMAGED)
)


def write_incomplete(path, statuses, **changes):
    status = np.array(statuses, np.uint8)[:, np.newaxis]
    return write_result(path, make_labels(t=len(status)), status=status, **changes)


@pytest.fixture
def incomplete(tmp_path):
    """Frames of which 1, 3 to 5 and 7 failed, 6 is damaged and 8 pending; and its record."""
    status = [DONE, FAILED, DONE, *[FAILED] * 3, DAMAGED, FAILED, PENDING]
    write_incomplete(tmp_path / "x.zarr", status)
    (tmp_path / "x_run.json").write_text(json.dumps({"frames": 9}))
    return tmp_path / "x.zarr"


def test_an_incomplete_result_is_refused_and_nothing_written(cli, incomplete):
    before = sorted(incomplete.parent.iterdir())
    code, out, err = cli("export", incomplete)
    assert (code, out) == (2, "")
    assert "7 frames have no labels" in err
    assert "--allow-incomplete" in err
    assert sorted(incomplete.parent.iterdir()) == before
    assert "blank_pages" not in json.loads((incomplete.parent / "x_run.json").read_text())


def test_blank_pages_are_named_as_ranges(cli, incomplete):
    code, out, err = cli("export", incomplete, "--allow-incomplete")
    assert code == 1
    assert out.strip() == str(incomplete.with_name("x_cp_masks.tif"))
    assert "page 8 of x_cp_masks.tif is blank: pending" in err
    assert "pages 1, 3-5, 7 of x_cp_masks.tif are blank: failed" in err
    assert "page 6 of x_cp_masks.tif is blank: damaged" in err
    assert "pages count from 0" in err
    pages = tifffile.imread(incomplete.with_name("x_cp_masks.tif"))
    assert [t for t in range(9) if not pages[t].any()] == [0, 1, 3, 4, 5, 6, 7, 8]


def test_blank_pages_are_kept_in_the_record_of_the_run(cli, incomplete, tmp_path):
    cli("export", incomplete, "--allow-incomplete", "-o", tmp_path / "b.tif")
    record = json.loads((tmp_path / "x_run.json").read_text())
    assert record["frames"] == 9
    assert record["blank_pages"] == {
        str(tmp_path / "b.tif"): {"pending": "8", "failed": "1, 3-5, 7", "damaged": "6"}
    }
    write_status(incomplete, 0, np.ones((9, 1), np.uint8), np.arange(9, dtype=np.uint32)[:, None])
    assert cli("export", incomplete, "-o", tmp_path / "b.tif")[0] == 0
    assert json.loads((tmp_path / "x_run.json").read_text())["blank_pages"] == {}


def test_without_a_record_none_is_made(cli, tmp_path):
    write_incomplete(tmp_path / "x.zarr", [DONE, FAILED])
    assert cli("export", tmp_path / "x.zarr", "--allow-incomplete")[0] == 1
    assert not (tmp_path / "x_run.json").exists()


@pytest.mark.parametrize(
    "content", ["{", "[]", "[" * 10**5, '{"blank_pages": 7}', '{"blank_pages": [1]}']
)
def test_a_damaged_record_is_left_as_it_is(content, cli, incomplete):
    record = incomplete.with_name("x_run.json")
    record.write_text(content)
    code, _, err = cli("export", incomplete, "--allow-incomplete")
    assert code == 2
    assert "x_run.json is no record of a run" in err
    assert "pages 1, 3-5, 7" in err
    assert record.read_text() == content


def test_pages_of_several_planes_and_positions_are_counted_in_file_order(cli, tmp_path):
    result = write_result(tmp_path / "x.zarr", make_labels(t=2, p=2, z=3))
    status = np.ones((2, 3), np.uint8)
    status[1, 1:] = FAILED
    write_status(result.path, 1, status, result.cells(1))
    _, _, err = cli("export", result.path, "--allow-incomplete")
    assert err.splitlines() == [
        "warning   pages 4-5 of x_cp_masks_p001.tif are blank: failed (pages count from 0)"
    ]


def test_blank_pages_of_flows_are_allowed_as_those_of_labels_are(cli, tmp_path):
    write_incomplete(tmp_path / "x.zarr", [DONE, FAILED], debug=True)
    code, out, _ = cli("export", tmp_path / "x.zarr", "--debug", "--allow-incomplete")
    assert code == 1
    assert len(out.splitlines()) == 3
    assert not tifffile.imread(tmp_path / "x_cp_masks.tif.flow.tif")[1].any()
