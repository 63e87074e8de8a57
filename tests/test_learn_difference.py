"""`diff`: which settings differ, and what each alone does to the labels."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tifffile

from cypose_dask.errors import ModelError, SettingsError
from cypose_dask.learn import diff_sides, read_side
from cypose_dask.learn.comparison.difference import ALL
from cypose_dask.results import export_seg_npy, open_result
from cypose_dask.run import segment
from cypose_dask.settings import Settings

A = {"end_frame": 4}
B = {"end_frame": 4, "diameter": 30.0, "flow_threshold": 0.1}


@pytest.fixture(scope="module")
def made(movie, tmp_path_factory):
    """Two results of the movie, and one that is like the first."""
    folder = tmp_path_factory.mktemp("made")
    for name, options in (("a", A), ("b", B), ("again", A)):
        segment(movie, folder / f"{name}.zarr", Settings(**options))
    return folder


def diff(movie, a, b, **options):
    one, other = (read_side(path, lambda result: movie)[0] for path in (a, b))
    return diff_sides(one, other, movie, **options)


def by_name(found):
    return {effect.name: effect for effect in found.effects}


def test_a_result_does_not_differ_from_one_of_the_same_settings(movie, made):
    found = diff(movie, made / "a.zarr", made / "again.zarr")
    assert found.effects == ()
    assert len(found.places) == 3
    assert "give again what" in " ".join(found.notes)


def test_each_setting_that_differs_is_tried_alone_and_then_all(movie, made):
    found = diff(movie, made / "a.zarr", made / "b.zarr", frames=4)
    effects = by_name(found)
    assert set(effects) == {"diameter", "flow_threshold", ALL}
    assert found.effects[-1].name == ALL
    assert (effects["diameter"].b, effects["flow_threshold"].a) == ("30", "0.75")
    stored = [open_result(made / f"{name}.zarr").labels()[:4, 0] for name in "ab"]
    counts = effects[ALL].counts
    cells = [int(sum(frame.max() for frame in labels)) for labels in stored]
    assert [counts.true_cells, counts.predicted_cells] == cells
    assert effects[ALL].changed == ((stored[0] > 0) != (stored[1] > 0)).mean()
    assert counts.predicted_cells == counts.true_cells - effects[ALL].lost + effects[ALL].gained


def test_one_setting_alone_is_what_a_run_with_it_gives(movie, made, tmp_path):
    alone = segment(movie, tmp_path / "x.zarr", Settings(**A, flow_threshold=0.1))
    effect = by_name(diff(movie, made / "a.zarr", made / "b.zarr", frames=4))["flow_threshold"]
    assert effect.counts.predicted_cells == int(alone.cells().sum())


def test_the_larger_effect_comes_first(movie, made):
    effects = diff(movie, made / "a.zarr", made / "b.zarr").effects[:-1]
    sizes = [effect.lost + effect.gained for effect in effects]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.slow
def test_another_model_brings_its_own_diameter(movie, made, tmp_path, model_path):
    from helpers.weights import write_weights

    path = write_weights(tmp_path / "other", diameters=(30.0, 12.0))
    segment(movie, tmp_path / "c.zarr", Settings(**A, model=str(path), channels=(0,)))
    found = diff(movie, made / "a.zarr", tmp_path / "c.zarr")
    assert set(by_name(found)) == {"model"}
    path.unlink()
    with pytest.raises(ModelError, match=r"'other'.*is gone"):
        diff(movie, made / "a.zarr", tmp_path / "c.zarr")


@pytest.mark.slow
def test_percentiles_do_not_count_where_intensities_are_given(movie, made, tmp_path):
    for name, percentiles in (("x", (1, 99)), ("y", (5, 95))):
        chosen = Settings(**A, normalize=(100, 30_000), percentiles=percentiles)
        segment(movie, tmp_path / f"{name}.zarr", chosen)
    assert diff(movie, tmp_path / "x.zarr", tmp_path / "y.zarr").effects == ()
    found = by_name(diff(movie, made / "a.zarr", tmp_path / "x.zarr"))
    assert found["normalize"].b == "100, 30000"


@pytest.mark.slow
def test_where_it_ran_is_named_and_not_tried(movie, made, tmp_path):
    segment(movie, tmp_path / "x.zarr", Settings(**A, engine="reference"))
    found = by_name(diff(movie, made / "a.zarr", tmp_path / "x.zarr"))
    assert (found["engine"].a, found["engine"].b) == ("fast", "reference")
    assert found["engine"].counts is None
    assert set(found) <= {"engine", "runtime"}


def test_a_result_that_was_changed_is_noticed(movie, made, tmp_path):
    shutil.copytree(made / "a.zarr", tmp_path / "a.zarr")
    side, _ = read_side(tmp_path / "a.zarr", lambda result: movie)
    stored = side.stored

    class Changed(type(side)):
        def stored(self, place):
            return stored(place) + np.uint32(1)

    changed = Changed(**{name: getattr(side, name) for name in side.__dataclass_fields__})
    notes = diff_sides(changed, side, movie).notes
    assert "do not give what" in " ".join(notes)


# ---- files of the GUI ------------------------------------------------------------------------


def test_a_result_and_its_own_file_for_the_gui_differ_in_nothing(movie, made, tmp_path):
    image = export_seg_npy(made / "a.zarr", tmp_path / "gui", frames=[2])[0]
    file = image.with_name(f"{image.stem}_seg.npy")
    for a, b in ((made / "a.zarr", file), (file, made / "a.zarr")):
        found = diff(movie, a, b, frames=1)
        # The file has the diameter and the steps as numbers; they change nothing.
        assert set(by_name(found)) <= {"diameter", "niter", ALL}
        assert all(effect.lost + effect.gained == 0 for effect in found.effects)


def test_a_file_that_does_not_say_its_model(movie, made, tmp_path):
    image = export_seg_npy(made / "a.zarr", tmp_path / "gui", frames=[2])[0]
    file = image.with_name(f"{image.stem}_seg.npy")
    content = np.load(file, allow_pickle=True).item()
    np.save(file, content | {"model_path": 0, "flow_threshold": None}, allow_pickle=True)
    found = by_name(diff(movie, made / "a.zarr", file))
    assert found["model"].counts is None
    assert found["flow_threshold"].b == "0"
    with pytest.raises(SettingsError, match="Give it second"):
        diff(movie, file, made / "a.zarr")


def test_two_files_of_the_gui(cli, made, tmp_path):
    for name, result in (("one", "a"), ("two", "b")):
        export_seg_npy(made / f"{result}.zarr", tmp_path / name, frames=[3])
    files = [next((tmp_path / name).glob("*_seg.npy")) for name in ("one", "two")]
    code, out, _ = cli("diff", *files)
    assert code == 0
    assert "flow_threshold  0.75" in out


# ---- the command -----------------------------------------------------------------------------


def test_the_command_says_it_and_writes_it(made, cli, tmp_path):
    json_path = tmp_path / "d.json"
    code, out, err = cli("diff", made / "a.zarr", made / "b.zarr", "-n", 2, "--json", json_path)
    assert code == 0
    assert "segment   with diameter" in err
    assert out.splitlines()[0] == "frames    t0 p0 z0, t3 p0 z0"
    assert out.splitlines()[1].split()[:3] == ["setting", "A", "B"]
    written = json.loads(json_path.read_text())
    assert {effect["setting"] for effect in written["effects"]} == {
        "diameter", "flow_threshold", ALL,
    }  # fmt: skip


def test_the_same_is_said_in_a_line(made, cli):
    code, out, _ = cli("diff", made / "a.zarr", made / "again.zarr")
    assert (code, out.splitlines()[0]) == (0, "same      no setting differs")


def test_another_movie_is_told(made, cli, synthetic, tmp_path):
    path = tmp_path / "other.tif"
    tifffile.imwrite(path, synthetic.frames[:3, 0], metadata={"axes": "TYX"}, imagej=True)
    from cypose_dask.movies import open_movie

    segment(open_movie(path), tmp_path / "other.zarr")
    code, _, err = cli("diff", made / "a.zarr", tmp_path / "other.zarr", "-n", 1)
    assert code == 0
    assert "different movies" in err
