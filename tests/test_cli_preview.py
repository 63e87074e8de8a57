"""``cypose-dask preview``, and ``segment --report``."""

from __future__ import annotations

import pytest
from PIL import Image

from cypose_dask.results import save_preview
from helpers.handed_on import hand_on


@pytest.fixture
def made(tmp_path):
    return hand_on(tmp_path, p=2)


def test_a_sheet_is_what_segment_draws(cli, made, tmp_path, nd2_path, client):
    code, out, err = cli("preview", made.result.path)
    path = tmp_path / "movie_preview.png"
    assert (code, out, err) == (0, f"preview   {path}\n", "")
    with Image.open(path) as image:
        assert image.format == "PNG"
    where = ("--scheduler", client.scheduler.address)
    cli("segment", nd2_path, "-o", tmp_path / "labels.tif", "--preview", *where)
    drawn = (tmp_path / "labels_preview.png").read_bytes()
    cli("preview", tmp_path / "labels.zarr")
    assert (tmp_path / "labels_preview.png").read_bytes() == drawn


def test_a_film_by_its_ending(cli, made, tmp_path):
    for name in ("x.gif", "x.apng", "X.GIF"):
        assert cli("preview", made.result.path, "-o", tmp_path / name, "--fps", 5)[0] == 0
        with Image.open(tmp_path / name) as film:
            assert film.n_frames == 4


def test_a_position_by_name_or_index(cli, made, tmp_path):
    name = made.result.layout.position_names[1]
    for number, text in enumerate(("1", name)):
        assert cli("preview", made.result.path, "-o", tmp_path / f"{number}.png",
                   "--position", text)[0] == 0  # fmt: skip
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    cli("preview", made.result.path)
    assert (tmp_path / "movie_preview.png").read_bytes() != (tmp_path / "0.png").read_bytes()
    code, _, err = cli("preview", made.result.path, "--position", "nowhere")
    assert code == 2
    assert f"1 ({name})" in err


def test_without_the_movie_labels_are_drawn_and_said_so(cli, made, tmp_path):
    moved = made.movie.rename(tmp_path / "elsewhere.nd2")
    code, _, err = cli("preview", made.result.path)
    assert code == 0
    assert "Labels are shown alone" in err
    alone = (tmp_path / "movie_preview.png").read_bytes()
    assert cli("preview", made.result.path, "--movie", moved)[2] == ""
    assert (tmp_path / "movie_preview.png").read_bytes() != alone
    code, _, err = cli("preview", made.result.path, "--movie", tmp_path / "none.nd2")
    assert code != 0
    assert "none.nd2" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-o", "x.mp4"], "expected a name in .png, .gif or .apng"),
        (["-o", "x.png", "--fps", "5"], "are of a film"),
        (["--picture-px", "100"], "are of a film"),
        (["--frames", "0"], "--frames"),
    ],
)
def test_what_means_nothing_is_refused(cli, made, args, message):
    code, _, err = cli("preview", made.result.path, *args)
    assert code == 2
    assert message in err


def test_segment_reports_on_request(cli, tmp_path, nd2_path, client):
    where = ("--scheduler", client.scheduler.address)
    code, out, _ = cli("segment", nd2_path, "-o", tmp_path / "a.tif", "--report", *where)
    assert code == 0
    assert f"report    {tmp_path / 'a_report.html'}" in out
    page = (tmp_path / "a_report.html").read_text()
    assert "Labels are shown alone" not in page


def test_a_report_that_cannot_be_written_does_not_lose_the_run(cli, tmp_path, nd2_path, client):
    (tmp_path / "a_report.html").mkdir()
    where = ("--scheduler", client.scheduler.address)
    code, _, err = cli("segment", nd2_path, "-o", tmp_path / "a.tif", "--report", *where)
    assert code == 0
    assert "warning   no report: " in err
    assert (tmp_path / "a.tif").exists()
    assert save_preview(tmp_path / "a.zarr", None, tmp_path / "x.png").exists()
