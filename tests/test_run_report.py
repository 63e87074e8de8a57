"""Reports of results: they tell what the journal tells, and do not depend on how a run went."""

import re

import numpy as np
import pytest
import tifffile

from cypose_dask.errors import MovieNotFoundError, SettingsError
from cypose_dask.movies import open_movie
from cypose_dask.results import Status, open_result
from cypose_dask.results.naming import journal_of
from cypose_dask.results.report import Flag
from cypose_dask.run import make_plan, segment, write_report
from cypose_dask.run.journal import Journal
from cypose_dask.run.plan import Block
from cypose_dask.run.record import BlockRecord
from cypose_dask.run.report import chosen_places, report_name
from cypose_dask.run.report.recorded import recorded_numbers
from cypose_dask.run.state import state_of
from cypose_dask.settings import Settings
from helpers.reports import STAGES, Page, disks, frame_record, journaled
from test_results_report_flags import numbers_of
from test_results_report_page import NASTY, require_self_contained

ODD = {
    (1, 0): {"status": Status.FAILED, "error": "lightning"},
    (2, 0): {"status": Status.DAMAGED, "error": "torn file", "non_finite": True},
    (3, 1): {"blank": True, "cells": 0, "mean_cellprob": None, "flow_error": None},
    (4, 1): {"saturated": True},
}


def odd_labels():
    labels = disks(t=6, p=2, cells=9)
    labels[1:3, 0] = labels[3, 1] = 0
    return labels


@pytest.fixture(scope="module")
def segmented(movie, tmp_path_factory):
    """A result of the synthetic movie, which is still there."""
    folder = tmp_path_factory.mktemp("report")
    return segment(movie, folder / "movie.zarr", Settings(channels=(0,)))


def page_of(result, **options):
    return Page(write_report(result, **options))


def pictures(page):
    return [attrs["src"] for attrs in page.of_class("frame")]


@pytest.mark.parametrize("frames_per_block", [1, 4, 6])
def test_a_report_does_not_depend_on_the_blocks(tmp_path, frames_per_block):
    first = write_report(journaled(tmp_path / "a" / "m.zarr", odd_labels(), odd=ODD))
    other = journaled(
        tmp_path / "b" / "m.zarr", odd_labels(), odd=ODD, frames_per_block=frames_per_block
    )
    assert without_times(first) == without_times(write_report(other))


def without_times(path):
    return re.sub(r"<h3>(Run|Time a stage)</h3>.*?</section>", "", path.read_text())


def test_a_report_does_not_depend_on_interruptions(tmp_path):
    """A block that failed and was done again counts once, with what its last line says."""
    once = journaled(tmp_path / "a" / "m.zarr", disks(cells=9), frames_per_block=3)
    path = tmp_path / "b" / "m.zarr"
    again = journaled(path, disks(cells=9), frames_per_block=3)
    lines = journal_of(path).read_text().splitlines()
    journal_of(path).unlink()
    Journal(journal_of(path)).append(BlockRecord.failed(Block(0, 0, 3), 1, "the worker died"))
    with journal_of(path).open("a") as file:
        file.write("\n".join([*lines, lines[1]]) + "\n" + '{"block": torn')
    one, other = (write_report(result).read_text() for result in (once, again))
    assert one.replace("/a/", "/b/") == other


def test_a_result_that_was_not_caught_up_is_told_by_its_journal(tmp_path):
    whole = journaled(tmp_path / "a" / "m.zarr", disks())
    killed = journaled(tmp_path / "b" / "m.zarr", disks(), zarr_is_behind=True)
    assert not open_result(killed.path).status().any()
    one, other = (without_times(write_report(result)) for result in (whole, killed))
    assert one == other


def test_every_odd_frame_is_listed_with_its_reason(tmp_path):
    page = page_of(journaled(tmp_path / "m.zarr", odd_labels(), odd=ODD, start_frame=10))
    rows = looks_of(page)
    assert "frame 11" in rows
    for words in (
        "failed lightning",
        "damaged torn file",
        "NaN pixels are NaN or infinite",
        "blank all pixels have one value",
        "jump the cell count goes from 9 to 0",
        "saturated more than 1 %",
    ):
        assert words in rows
    for t in (11, 12, 13, 14):
        assert f"frame {t}," in rows
    assert "flagged frames 4" in page.text
    assert "2 of 12 frames have no labels" in page.text


def looks_of(page):
    return page.text.partition("picture frames why")[2].partition("How frames are flagged")[0]


def test_a_whole_result_without_oddities_has_no_frame_to_look_at(tmp_path):
    page = page_of(journaled(tmp_path / "m.zarr", disks()))
    assert "Nothing is odd about any frame." in page.text


def test_numbers_are_those_of_the_journal(tmp_path):
    result = journaled(tmp_path / "m.zarr", odd_labels(), odd=ODD, start_frame=3)
    numbers = recorded_numbers(state_of(result)).numbers
    labels = odd_labels()
    done = numbers.done[..., 0]
    assert (~done).sum() == 2
    assert (numbers.cells[..., 0] == labels.max(axis=(2, 3, 4)).T)[done].all()
    covered = (labels > 0).mean(axis=(2, 3, 4)).T
    assert numbers.covered_area[..., 0][done] == pytest.approx(covered[done])
    assert np.isnan(numbers.covered_area[..., 0][~done]).all()
    assert numbers.mean_cellprob[0, 0, 0] == pytest.approx(5.3)
    assert np.isnan(numbers.mean_cellprob[1, 3, 0])
    assert np.argwhere(numbers.saturated).tolist() == [[1, 4, 0]]


def test_seconds_of_a_stage_are_those_of_the_last_tries(tmp_path):
    result = journaled(tmp_path / "m.zarr", disks(t=4), frames_per_block=4)
    frames = tuple(frame_record(disks(t=4)[t, 0, 0], t, seconds={"read": 1.0}) for t in range(4))
    again = BlockRecord(block=Block(0, 0, 4), frames=frames, checksum="ab", write_s=0.5)
    before = recorded_numbers(state_of(result)).stages
    Journal(journal_of(result.path)).append(again)
    after = recorded_numbers(state_of(result)).stages
    assert before == {name: 4 * s for name, s in STAGES.items()} | {"write": 0.0}
    assert after == {"read": 4.0, "forward": 0.0, "write": 0.5}


def test_without_a_journal_labels_are_measured_and_that_is_said(tmp_path):
    result = journaled(tmp_path / "m.zarr", disks())
    journal_of(result.path).unlink()
    page = page_of(result)
    assert "The journal says nothing of 6 frames" in page.text
    covered = page.text.partition("Covered area")[2]
    assert covered.startswith(" % of the frame pictured frames, from their labels")
    assert page.text.count("not recorded") == 3  # cellprob, flow error and focus


@pytest.mark.parametrize("value", ["many", None, [1], float("inf"), True, {"a": 1}])
def test_a_journal_that_was_changed_by_hand_breaks_no_report(tmp_path, value):
    names = ("covered_area", "mean_cellprob", "flow_error", "focus", "blank", "seconds")
    odd = {(1, 0): dict.fromkeys(names, value)}
    result = journaled(tmp_path / "m.zarr", disks(), odd=odd)
    page = page_of(result)
    require_self_contained(page)
    assert "nan" not in " ".join(page.having("d"))
    numbers = recorded_numbers(state_of(result)).numbers
    assert all(np.isnan(getattr(numbers, name)[0, 1, 0]) for name in names[:4])


def test_a_report_lies_beside_the_result(tmp_path):
    result = journaled(tmp_path / "m.zarr", disks())
    assert write_report(result.path) == tmp_path / "m_report.html" == report_name(result.path)
    assert write_report(result, tmp_path / "x.html") == tmp_path / "x.html"


def test_a_report_is_the_same_every_time(segmented):
    assert write_report(segmented).read_bytes() == write_report(segmented).read_bytes()


def test_the_movie_is_shown_and_how_it_was_segmented(segmented, movie):
    page = page_of(segmented)
    require_self_contained(page)
    plan = segmented.attributes["plan"]
    for words in (
        plan["model"]["sha256"], movie.info.path, "Model card", "flow threshold 0.75",
        "Versions cypose-dask", "forward", plan["versions"]["cellpose"],
    ):  # fmt: skip
        assert words in page.text
    assert len(pictures(page)) == movie.info.sizes["T"]
    assert "shown alone" not in page.text


def test_without_the_movie_labels_are_shown_alone_and_that_is_said(segmented, nd2_path, tmp_path):
    gone = nd2_path.rename(nd2_path.with_suffix(".away"))
    try:
        page = page_of(segmented, path=tmp_path / "x.html")
    finally:
        gone.rename(nd2_path)
    shown = page_of(segmented)
    assert "Labels are shown alone" in page.text
    assert len(pictures(page)) == len(pictures(shown))
    assert set(pictures(page)).isdisjoint(pictures(shown))


def test_a_movie_that_was_moved_can_be_named(segmented, nd2_path, tmp_path):
    gone = nd2_path.rename(tmp_path / "moved.nd2")
    try:
        page = page_of(segmented, path=tmp_path / "x.html", movie=gone)
    finally:
        gone.rename(nd2_path)
    assert pictures(page) == pictures(page_of(segmented))


def test_another_movie_is_refused_where_it_is_named_and_said_where_it_is_found(tmp_path):
    path = tmp_path / "m.tif"
    frames = np.random.default_rng(0).integers(0, 99, (3, 40, 40)).astype(np.uint16)
    tifffile.imwrite(path, frames, photometric="minisblack")
    result = journaled(tmp_path / "m.zarr", disks(t=3))
    result.attributes["plan"]["movie"] = make_plan(open_movie(path, axes="TYX")).to_dict()["movie"]
    assert "Labels are shown alone" not in page_of(result).text
    tifffile.imwrite(path, frames[::-1], photometric="minisblack")
    assert "another content than" in page_of(result).text
    with pytest.raises(MovieNotFoundError, match="another content"):
        write_report(result, movie=path)
    with pytest.raises(MovieNotFoundError):
        write_report(result, movie=tmp_path / "nothing.tif")


def test_names_in_a_movie_do_not_run(tmp_path):
    labels = odd_labels()
    odd = {(1, 0): {"status": Status.FAILED, "error": NASTY}}
    result = journaled(tmp_path / "m.zarr", labels, odd=odd, position_names=(NASTY, NASTY))
    plan = result.attributes["plan"]
    plan["movie"] = {"path": f"/x/{NASTY}", "channel_names": [NASTY], "reading": {}}
    plan["settings"] = plan["model"] = plan["versions"] = {NASTY: NASTY, "name": NASTY}
    page = page_of(result)
    require_self_contained(page)
    assert "alert(1)" in page.text


@pytest.mark.parametrize("stored", [None, [], {}, {"movie": 3, "model": [], "settings": "x"}])
def test_a_plan_that_was_changed_by_hand_breaks_no_report(tmp_path, stored):
    result = journaled(tmp_path / "m.zarr", disks())
    result.attributes["plan"] = stored
    assert "does not say where its movie was" in page_of(result).text


@pytest.mark.parametrize("options", [{"frames": 0}, {"frames": 10**6}, {"picture_px": 1}])
def test_sizes_out_of_range_are_refused(tmp_path, options):
    with pytest.raises(SettingsError, match="choose"):
        write_report(journaled(tmp_path / "m.zarr", disks()), **options)


@pytest.mark.parametrize(("frames", "positions"), [(1, 1), (7, 1), (12, 3), (2, 5), (600, 2)])
def test_pictured_frames_are_spread_over_positions_and_time(frames, positions):
    numbers = numbers_of(np.ones((positions, 100)))
    places = chosen_places(numbers, [], frames)
    assert len(places) == min(frames, 100 * positions) // min(frames, positions) * min(
        frames, positions
    )
    assert len(set(places)) == len(places)
    for p in {p for _, p, _ in places}:
        times = [t for t, q, _ in places if q == p]
        assert times[0] == 0
        if len(times) > 1:
            assert times[-1] == 99
            assert max(np.diff(times)) - min(np.diff(times)) <= 1


def test_frames_that_were_not_reached_are_not_pictured():
    status = np.full((1, 50, 1), Status.PENDING, np.uint8)
    status[0, :20] = Status.DONE
    numbers = numbers_of(np.ones((1, 50)), status=status)
    assert {t for t, _, _ in chosen_places(numbers, [], 60)} == set(range(20))


def test_no_kind_of_flag_takes_the_pictures_of_another():
    numbers = numbers_of(np.ones((1, 1000)))
    kinds = {"failed": 0, "jump": 300, "border": 600}
    flags = [Flag((t + i, 0, 0), k, str(i)) for k, t in kinds.items() for i in range(100)]
    times = [t for t, _, _ in chosen_places(numbers, flags, 2)]
    assert [sum(t <= at < t + 100 for at in times) for t in (1, 300, 600)] == [7, 8, 8]
    assert len(times) == 2 + 24 - 1  # the first frame is both


def test_one_frame_is_read_at_a_time_and_only_those_that_are_pictured(segmented, monkeypatch):
    from cypose_dask.run import report

    read = []

    def counted(result, movie, place, **known):
        read.append(place)
        return read_view(result, movie, place, **known)

    read_view = report.read_view
    monkeypatch.setattr(report, "read_view", counted)
    page_of(segmented, frames=2)
    assert read == [(0, 0, 0), (4, 0, 0)]
