"""docs/pitfalls.md: every effect that it names, on the frames that its pictures show."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest

from conftest import ROOT
from cypose_dask.engine import segment_frames
from cypose_dask.likeness import PRESETS
from cypose_dask.settings import Settings

PAGE = (ROOT / "docs" / "pitfalls.md").read_text(encoding="utf-8")
PICTURES = ROOT / "docs" / "pictures"


@pytest.fixture(scope="module")
def scenes():
    """The panels of a picture by its name, each made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        import pitfall_pictures

        yield cache(lambda name: pitfall_pictures.PICTURES[name]())


def cells_of(panels):
    return [panel.cells for panel in panels]


# ---- the page --------------------------------------------------------------------------------


def test_every_picture_is_there_small_and_shown(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from pitfall_pictures import MOST_BYTES
    from pitfall_pictures import PICTURES as MADE

    shown = re.findall(r"\]\(pictures/pitfall_(\w+)\.png\)", PAGE)
    assert shown == list(MADE)
    for name in shown:
        assert (PICTURES / f"pitfall_{name}.png").stat().st_size < MOST_BYTES


def test_every_section_has_a_picture():
    sections = PAGE.split("\n## ")[1:]
    assert [section for section in sections if "](pictures/" not in section] == []


def test_the_table_has_every_preset():
    head = next(line for line in PAGE.splitlines() if line.startswith("| |"))
    assert [cell.strip() for cell in head.strip("| ").split("|")] == list(PRESETS)


def test_settings_that_are_named_exist():
    from click.testing import CliRunner

    from cypose_dask.cli.segment import command

    options = CliRunner().invoke(command, ["--help"]).output
    for option in set(re.findall(r"`(--[a-z-]+)", PAGE)):
        assert option in options, option


# ---- the effects -----------------------------------------------------------------------------


def test_programs_differ_on_one_frame_with_one_model(scenes):
    api, cli, gui = (panel.labels for panel in scenes("programs"))
    for one, other in ((api, cli), (api, gui), (cli, gui)):
        assert (one != other).mean() > 0.01


def test_the_mean_of_channels_loses_cells(scenes):
    one, mean, _ = cells_of(scenes("channels"))
    assert mean < 0.7 * one


def test_a_small_diameter_cuts_cells_and_a_large_one_loses_them(scenes):
    small, own, large = cells_of(scenes("diameter"))
    assert large < 0.3 * own
    assert small != own


def test_an_empty_frame_has_cells_by_its_own_percentiles_alone(scenes):
    by_frame, by_movie = cells_of(scenes("sparse"))
    assert by_frame > 0
    assert by_movie == 0


def test_few_steps_cut_long_cells(scenes):
    automatic, many = cells_of(scenes("steps"))
    assert automatic > many


def test_a_strict_check_loses_long_cells(scenes):
    strict, ours, none = cells_of(scenes("threshold"))
    assert strict < ours <= none


def test_normalised_frames_forget_brightness(scenes):
    first, bleached, first_normalised, bleached_normalised = (
        float(panel.found) for panel in scenes("restoration")
    )
    assert bleached < 0.3 * first
    assert bleached_normalised == pytest.approx(first_normalised, rel=0.02)


def test_a_large_cell_goes_with_a_small_one(scenes):
    from cellpose.utils import fill_holes_and_remove_small_masks

    checked, kept, meant = (panel.labels for panel in scenes("bugs"))
    theirs = fill_holes_and_remove_small_masks(checked.astype(np.uint16), min_size=15)
    np.testing.assert_array_equal(kept, theirs)
    lost = (checked > 0) & (kept == 0)
    assert set(np.unique(checked[lost])) == {2, 3}
    assert set(np.unique(checked[(checked > 0) & (meant == 0)])) == {3}


def test_weights_of_cellpose_4_are_refused_in_words(scenes):
    (panel,) = scenes("cellpose4")
    assert "Cellpose 4" in panel.words


def test_a_frame_of_one_intensity_has_no_cells():
    frame = np.full((1, 1, 64, 64), 900, np.uint16)
    assert segment_frames(frame, settings=Settings(cellprob_threshold=-6.0)).labels.max() == 0
