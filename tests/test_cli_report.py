"""``cypose-dask report``: where the file is, what is said, and what goes wrong."""

import pytest

from helpers.handed_on import hand_on
from helpers.reports import Page, disks, journaled


@pytest.fixture
def result(tmp_path):
    return journaled(tmp_path / "m.zarr", disks())


def test_the_report_is_written_beside_the_result(cli, result, tmp_path):
    code, out, err = cli("report", result.path)
    assert (code, err) == (0, "")
    assert out == f"report    {tmp_path / 'm_report.html'}\n"
    assert "Frames to look at" in Page(tmp_path / "m_report.html").text


def test_the_report_goes_where_it_is_told_to(cli, result, tmp_path):
    code, _, _ = cli("report", result.path, "-o", tmp_path / "new" / "x.html", "--frames", 2)
    assert code == 0
    page = Page(tmp_path / "new" / "x.html")
    assert len(page.of_class("shot")) == 2


def test_a_movie_that_is_named_has_to_be_there(cli, tmp_path):
    made = hand_on(tmp_path)
    code, out, err = cli("report", made.result.path, "--movie", tmp_path / "gone.tif")
    assert (code, out) == (3, "")
    assert "gone.tif" in err
    assert not (tmp_path / "m_report.html").exists()


def test_what_is_no_result_is_refused(cli, tmp_path):
    code, _, err = cli("report", tmp_path)
    assert code == 2
    assert "no result of cypose-dask" in err
    assert cli("report", tmp_path / "gone.zarr")[0] == 2
    assert cli("report", tmp_path, "--frames", 0)[0] == 2
