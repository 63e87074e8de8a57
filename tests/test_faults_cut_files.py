"""Files that are cut or replaced while they are read: an error that names them, never a signal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cypose_dask.errors import DamagedFrameError, MovieError
from cypose_dask.movies import files, handles, open_movie
from helpers.nd2_writer import write_nd2
from helpers.tiff_writer import write_tiff

TIFFS = ["imagej", "imagej-one-page", "ome", "ome-tiled-compressed", "ome-single-row-strips",
         "shaped", "shaped-compressed", "ome-zstd"]  # fmt: skip
KINDS = ["nd2", "nd2-compressed", *TIFFS]
FRAMES, SIDE = 5, 96
# Reads a frame, cuts the file within the fourth, reads on. Others can cut it between the checks of
# its size and the reading of its bytes, so the checks are switched off as well.
CHILD = """
import os, sys
from cypose_dask.errors import MovieError
from cypose_dask.movies import files, open_movie
from cypose_dask.movies.nd2_file import Nd2Handle
from cypose_dask.movies.tiff_file import TiffHandle
path, keep, checked = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "checked"
movie = open_movie(path)
first = movie.read_frame(0)
if not checked:
    files.check_file = lambda *_: None
    Nd2Handle.is_whole = TiffHandle.is_whole = lambda *_: True
os.truncate(path, keep)
for t in range(movie.info.sizes["T"]):
    try:
        movie.read_frame(t)
        print(t, "read")
    except MovieError as error:
        print(t, type(error).__name__, error)
"""


def movie_of(kind: str, folder: Path, seed: int = 0) -> tuple[str, np.ndarray]:
    """Write a movie (T, Y, X) without a zero byte, several pages of memory long."""
    pixels = np.random.default_rng(seed).integers(1, 255, (FRAMES, SIDE, 2 * SIDE), np.uint8)
    movie = pixels.view(np.uint16).reshape(FRAMES, 1, 1, 1, SIDE, SIDE)
    if kind.startswith("nd2"):
        compressed = kind.endswith("compressed")
        path = write_nd2(folder / "a.nd2", movie[:, 0, 0, 0], "TYX", compressed=compressed)
        return path, movie
    return write_tiff(folder / "a.tif", movie, kind, "TYX"), movie


def within_fourth_frame(path: str) -> int:
    """Return an offset in the file with some memory pages of the fourth frame on either side."""
    data = Path(path).read_bytes()
    begin = data.find(b"ImageDataSeq|3!")
    return begin + 2 * 4096 + 500 if begin > 0 else len(data) * 7 // 10


def lines_of_child(path: str, keep: int, checked: str) -> list[str]:
    """Run the child; a signal would be a negative return code."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, path, str(keep), checked],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("kind", "checked"),
    [("nd2", "checked"), ("imagej", "checked"), ("nd2", "unchecked"), ("imagej", "unchecked"),
     ("nd2-compressed", "unchecked"), ("ome-tiled-compressed", "unchecked")],
)  # fmt: skip
def test_a_file_that_is_cut_while_it_is_read_is_an_error_that_names_it(tmp_path, kind, checked):
    path, _ = movie_of(kind, tmp_path)
    lines = lines_of_child(path, within_fourth_frame(path), checked)
    assert len(lines) == FRAMES
    assert checked == "checked" or lines[:3] == ["0 read", "1 read", "2 read"]
    for line in lines[3:]:
        assert "MovieError" in line or "DamagedFrameError" in line
        assert path in line


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_not_mapped_into_memory(tmp_path, kind):
    path, movie = movie_of(kind, tmp_path)
    opened = open_movie(path)
    np.testing.assert_array_equal(opened.read_frame(3)[0], movie[3, 0, 0, 0])
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not list what a process maps")
    assert path not in maps.read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_that_is_cut_off_fails_alone(tmp_path, kind, monkeypatch):
    path, movie = movie_of(kind, tmp_path)
    opened = open_movie(path)
    monkeypatch.setattr(files, "check_file", lambda *_: None)
    whole = opened.read_frame(1)
    os.truncate(path, within_fourth_frame(path))
    np.testing.assert_array_equal(opened.read_frame(1), whole)
    np.testing.assert_array_equal(whole, movie[1, 0, 0])
    with pytest.raises(DamagedFrameError, match=path):
        opened.read_frame(3)
    handles.close_all()


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_replaced_by_one_of_the_same_size_is_refused(tmp_path, kind, held):
    path, _ = movie_of(kind, tmp_path)
    opened = open_movie(path)
    if held:
        opened.read_frame(0)
    else:
        handles.close_all()
    size = Path(path).stat().st_size
    (tmp_path / "other").mkdir()
    other, _ = movie_of(kind, tmp_path / "other", seed=1)
    with open(other, "r+b") as file:  # noqa: PTH123 - compressed pixels have another length
        file.truncate(size)
    os.replace(other, path)  # noqa: PTH105
    with pytest.raises(MovieError, match=f"{path} has changed since it was opened"):
        opened.read_frame(0)
