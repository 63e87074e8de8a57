"""Outputs have one name each, never that of an input, and are known again later."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from cypose_dask.errors import SettingsError
from cypose_dask.results import (
    export_debug_tifs,
    export_tif,
    is_own_output,
    output_names,
    tif_name,
)
from cypose_dask.results.atomic import write_json
from cypose_dask.results.naming import journal_of, with_position
from helpers.results import make_labels, write_result


def names_of(inputs, output=None) -> list[str]:
    """Return the names of the zarrs, which have the stem of all other outputs."""
    return [names.zarr.name for names in output_names(inputs, output)]


def all_paths(names) -> list[Path]:
    return [names.tif, names.zarr, names.journal, names.run_json]


# ---- one input -----------------------------------------------------------------------------


def test_a_tif_names_everything_beside_it(tmp_path):
    (names,) = output_names([tmp_path / "in" / "movie.nd2"], tmp_path / "out" / "x.tif")
    assert [p.relative_to(tmp_path / "out").name for p in all_paths(names)] == [
        "x.tif", "x.zarr", "x.journal.jsonl", "x_run.json",
    ]  # fmt: skip


@pytest.mark.parametrize("tif", ["x.tif", "x.TIF", "x.tiff", "x.ome.tif"])
def test_every_spelling_of_tif_is_a_tif(tif):
    (names,) = output_names(["movie.nd2"], tif)
    assert (names.tif, names.zarr) == (Path(tif), Path("x.zarr"))


@pytest.mark.parametrize("folder", ["out", "out/", Path("out"), "results.2024"])
def test_a_folder_takes_the_name_of_the_input(folder):
    (names,) = output_names(["in/movie.nd2"], folder)
    assert [p.name for p in all_paths(names)] == [
        "movie_cp_masks.tif", "movie.zarr", "movie.journal.jsonl", "movie_run.json",
    ]  # fmt: skip
    assert {p.parent for p in all_paths(names)} == {Path(folder)}


def test_without_an_output_files_lie_beside_the_input():
    (names,) = output_names(["in/movie.nd2"], None)
    assert {p.parent for p in all_paths(names)} == {Path("in")}


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("a.nd2", "a"), ("a.tif", "a"), ("a.ome.tif", "a"), ("a.OME.TIFF", "a"), ("a.btf", "a"),
        ("a.ome.zarr", "a"), ("a.zarr/", "a"), ("a.png", "a"), ("a.b.c.tif", "a.b.c"), ("a", "a"),
        ("a.lsm", "a"), ("a.stk", "a"), (".tif", "sequence"), ("Zelle µ 1.nd2", "Zelle µ 1"),
    ],
)  # fmt: skip
def test_the_stem_is_the_name_without_the_kind_of_file(source, stem):
    assert names_of([source], "out") == [f"{stem}.zarr"]


def test_a_store_that_is_named_by_dots_has_its_outputs_outside(tmp_path, monkeypatch):
    (tmp_path / "movie.ome.zarr").mkdir()
    monkeypatch.chdir(tmp_path / "movie.ome.zarr")
    (names,) = output_names(["."], None)
    assert names.zarr == tmp_path / "movie.zarr"


@pytest.mark.parametrize("name", ["x.zarr", "x.nd2", "x.png", "x.json", "x.ZARR"])
def test_an_output_of_another_kind_is_refused(name):
    with pytest.raises(SettingsError, match=rf"-o {name} is no folder. Name a \.tif, or a folder"):
        output_names(["movie.nd2"], name)


def test_an_existing_file_is_no_folder_and_an_existing_result_neither(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "older.zarr").mkdir()
    for name in ("file", "older.zarr"):
        with pytest.raises(SettingsError, match="is no folder"):
            output_names(["movie.nd2"], tmp_path / name)


def test_an_existing_folder_is_a_folder_whatever_its_name(tmp_path):
    (tmp_path / "x.tif").mkdir()
    (names,) = output_names(["movie.nd2"], tmp_path / "x.tif")
    assert names.tif == tmp_path / "x.tif" / "movie_cp_masks.tif"


# ---- several inputs ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs",
    [
        ["a.nd2", "a.tif"],
        ["a.tif", "a.tiff", "a.ome.tif", "a.zarr", "a.nd2"],
        ["A.nd2", "a.tif"],
        ["d/a*.tif", "d/a*.png"],
        ["d/a.tif", "d/a*.png"],
        ["1/a.nd2", "2/a.nd2"],
        ["1/a.nd2", "1/a.tif", "2/a.tif"],
        ["movie[1].tif", "movie[2].tif"],
    ],
)
def test_no_two_inputs_share_an_output(tmp_path, monkeypatch, inputs):
    monkeypatch.chdir(tmp_path)
    for name in inputs:
        if "*" not in name:
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).touch()
    paths = [str(p).casefold() for names in output_names(inputs, None) for p in all_paths(names)]
    assert len(set(paths)) == len(paths)


def test_inputs_of_one_stem_keep_their_extension():
    assert names_of(["a.nd2", "a.tif", "b.tif"], "out") == ["a.nd2.zarr", "a.tif.zarr", "b.zarr"]


def test_equal_names_in_two_folders_lie_beside_their_inputs():
    names = output_names(["1/a.nd2", "2/a.nd2"], None)
    assert [n.zarr for n in names] == [Path("1/a.zarr"), Path("2/a.zarr")]


@pytest.mark.parametrize(
    "inputs", [["1/a.nd2", "2/a.nd2"], ["A.tif", "a.tif"], ["a.tif", "./a.tif"]]
)
def test_inputs_that_would_overwrite_each_other_are_refused(inputs):
    with pytest.raises(SettingsError, match="2 inputs would write the same output"):
        output_names(inputs, "out")


def test_one_tif_for_several_movies_is_refused():
    with pytest.raises(SettingsError, match=r"x\.tif names one file for 2 movies"):
        output_names(["a.nd2", "b.nd2"], "x.tif")


# ---- patterns ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "stem"),
    [("in/img*.tif", "img"), ("in/img_t???_c0.tif", "img_t_c0"), ("in/*.tif", "in"),
     ("in/img[0-9].ome.tif", "img"), ("in/?.*", "in"), ("in/pos*/img.tif", "img"),
     ("in/pos*/*.tif", "in")],
)  # fmt: skip
def test_a_pattern_lends_its_fixed_part(tmp_path, monkeypatch, pattern, stem):
    monkeypatch.chdir(tmp_path)
    (names,) = output_names([pattern], None)
    assert names.zarr == Path("in") / f"{stem}.zarr"


def test_brackets_of_a_file_that_exists_are_letters(tmp_path):
    (tmp_path / "movie[1].tif").touch()
    assert names_of([tmp_path / "movie[1].tif"]) == ["movie[1].zarr"]


def test_an_output_that_would_become_a_frame_of_its_input_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="would become a frame of its own input"):
        output_names([tmp_path / "img*.tif"], tmp_path / "img_labels.tif")
    assert output_names([tmp_path / "img*.tif"], tmp_path / "labels.tif")
    assert output_names([tmp_path / "img*.tif"], tmp_path / "img_out" / "labels.tif")
    assert output_names([tmp_path / "img*.tif"], None)  # the reader leaves _cp_masks out


# ---- never over an input -------------------------------------------------------------------


def test_an_output_over_its_input_is_refused(tmp_path):
    for name, output in (("a.tif", "a.tif"), ("a.zarr", None), ("a.zarr", ".")):
        with pytest.raises(SettingsError, match="would overwrite an input"):
            output_names([tmp_path / name], output and tmp_path / output)


def test_a_store_and_a_file_of_one_stem_go_together(tmp_path):
    assert names_of([tmp_path / "x.zarr", tmp_path / "x.nd2"]) == ["x.zarr.zarr", "x.nd2.zarr"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_an_output_over_a_link_to_its_input_is_refused(tmp_path, link):
    (tmp_path / "a.tif").touch()
    link(tmp_path / "a.tif", tmp_path / "b.tif")
    with pytest.raises(SettingsError, match="would overwrite an input"):
        output_names([tmp_path / "a.tif"], tmp_path / "b.tif")


def test_an_output_over_another_input_is_refused(tmp_path):
    inputs = [tmp_path / "sub" / "a.nd2", tmp_path / "a_cp_masks.tif"]
    with pytest.raises(SettingsError, match="would overwrite an input"):
        output_names(inputs, tmp_path)


# ---- own outputs are known again -----------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["a_cp_masks.tif", "a_cp_masks.TIF", "a_cp_masks_p000.tif", "a_cp_masks_p1234.tif",
     "x.tif.flow.tif", "x.tif.prob.tif", "a_run.json", "a.journal.jsonl", "a.zarr.1f.partial"],
)  # fmt: skip
def test_outputs_are_known_by_name(name):
    assert is_own_output(Path(name))


@pytest.mark.parametrize(
    "name",
    ["a.tif", "a.nd2", "a.zarr", "masks.tif", "a_cp_masks.nd2", "flow.tif", "a.png", "run.json"],
)
def test_movies_are_not_taken_for_outputs(tmp_path, name):
    (tmp_path / name).touch()
    assert not is_own_output(tmp_path / name)
    assert not is_own_output(tmp_path / "missing" / name)


def test_every_exported_file_is_known_under_any_name(tmp_path):
    labels = make_labels(t=40, p=2, z=2)
    result = write_result(tmp_path / "m.zarr", labels, debug=True)
    made = [*export_tif(result, tmp_path / "x.tif"), *export_debug_tifs(result, tmp_path / "x.tif")]
    assert len(made) == 6
    for number, path in enumerate(made):
        assert is_own_output(path.rename(tmp_path / f"movie{number}.tif"))
    assert is_own_output(result.path)


def test_a_preview_is_known_under_any_name(tmp_path):
    from types import SimpleNamespace

    from cypose_dask.results import save_preview

    result = write_result(tmp_path / "m.zarr", make_labels())
    movie = SimpleNamespace(read_frame=lambda t, p, z: np.zeros((1, 12, 16), np.uint8))
    assert is_own_output(save_preview(result, movie, tmp_path / "frame1.png"))


def test_foreign_images_and_stores_are_not_own(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), np.uint16))
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    group = zarr.create_group(tmp_path / "a.zarr", attributes={"note": "cypose_dask"})
    assert group.attrs["note"] == "cypose_dask"
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "c.zarr").mkdir()
    (tmp_path / "c.zarr" / "zarr.json").write_bytes(b"\xff\x00")
    assert not any(is_own_output(path) for path in tmp_path.iterdir())


def test_the_journal_lies_beside_the_store():
    assert journal_of(Path("d/m.zarr")) == Path("d/m.journal.jsonl")
    assert journal_of(Path("d/m")) == Path("d/m.journal.jsonl")


def test_one_position_keeps_the_name():
    assert with_position(Path("x.tif"), 1) == [Path("x.tif")]
    assert with_position(Path("x.tif"), 2) == [Path("x_p000.tif"), Path("x_p001.tif")]


def test_the_run_record_is_json(tmp_path):
    (names,) = output_names(["movie.nd2"], tmp_path)
    write_json(names.run_json, {"frames": 3})
    assert json.loads((tmp_path / "movie_run.json").read_text()) == {"frames": 3}


@pytest.mark.parametrize(
    ("given", "meant"),
    [("x", "x.tif"), ("x.tif", "x.tif"), ("d/x.TIFF", "d/x.TIFF"), ("x.v2", "x.v2.tif")],
)
def test_a_name_without_tif_gets_it(given, meant):
    assert tif_name(given) == Path(meant)


def test_an_output_folder_repeats_the_folders_that_were_searched():
    inputs, below = ["in/1/a.nd2", "in/2/a.nd2"], [Path("1"), Path("2")]
    names = output_names(inputs, "out", subfolders=below)
    assert [n.zarr for n in names] == [Path("out/1/a.zarr"), Path("out/2/a.zarr")]
    beside = output_names(inputs, None, subfolders=below)
    assert [n.zarr for n in beside] == [Path("in/1/a.zarr"), Path("in/2/a.zarr")]
