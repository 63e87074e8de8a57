"""Which movies a call means, and where their outputs go."""

from __future__ import annotations

from pathlib import Path

import pytest

from cypose_dask.errors import MovieNotFoundError, SettingsError
from cypose_dask.run.directory import names_of
from cypose_dask.run.finding import find_movies


@pytest.fixture
def lab(tmp_path):
    """Two days with a movie of the same name each, text, hidden files and outputs."""
    for day in ("day1", "day2"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "pos1.nd2").write_bytes(b"")
    for name in ("img10.tif", "img2.tif", "notes.txt", ".hidden.tif", "img2_cp_masks.tif"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def found(*args, **kwargs):
    return [Path(source.path) for source in find_movies(*args, **kwargs)]


def test_a_folder_gives_its_movies_in_natural_order(lab):
    assert found([lab]) == [lab / "img2.tif", lab / "img10.tif"]


def test_recursive_looks_deeper(lab):
    assert lab / "day2" / "pos1.nd2" in found([lab], recursive=True)


def test_a_movie_given_twice_is_found_once(lab):
    link = lab / "link.tif"
    link.symlink_to(lab / "img2.tif")
    assert found([lab / "img2.tif", lab, link]) == [lab / "img2.tif", lab / "img10.tif"]


def test_a_loop_of_links_ends(lab):
    (lab / "day1" / "up").symlink_to(lab)
    paths = found([lab], recursive=True)
    assert len(paths) == len(set(paths)) == 4


def test_a_link_to_a_folder_above_is_not_followed(lab):
    (lab / "day1" / "out").symlink_to(lab)
    assert found([lab / "day1"], recursive=True) == [lab / "day1" / "pos1.nd2"]


def test_the_output_folder_repeats_the_folders_of_the_inputs(lab):
    names = names_of(find_movies([lab], recursive=True), "out")
    tifs = {str(one.tif) for one in names}
    assert tifs >= {"out/day1/pos1_cp_masks.tif", "out/day2/pos1_cp_masks.tif"}
    assert "out/img2_cp_masks.tif" in tifs


def test_equal_names_given_one_by_one_are_refused(lab):
    sources = find_movies([lab / "day1" / "pos1.nd2", lab / "day2" / "pos1.nd2"])
    with pytest.raises(SettingsError, match="different folders"):
        names_of(sources, "out")
    assert len({one.tif for one in names_of(sources, None)}) == 2


def test_a_pattern_is_kept_whole(lab):
    (source,) = find_movies([lab / "img*.tif"])
    assert source.path == str(lab / "img*.tif")


def test_nothing_to_do_says_so(tmp_path):
    with pytest.raises(MovieNotFoundError, match="holds no movie"):
        find_movies([tmp_path])
    with pytest.raises(MovieNotFoundError, match="There is no file"):
        find_movies([tmp_path / "x.nd2"])
