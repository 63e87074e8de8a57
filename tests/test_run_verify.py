"""Verify finds what was changed, lost or contradicts itself, and nothing in a sound result."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import tifffile
import zarr

from cypose_dask.errors import SettingsError
from cypose_dask.movies import open_movie
from cypose_dask.results import Status, export_tif, open_result
from cypose_dask.results.naming import journal_of, lock_of
from cypose_dask.results.writing import write_status
from cypose_dask.run import segment
from cypose_dask.run.checks import verify
from cypose_dask.run.journal import Journal
from cypose_dask.run.lock import locked
from cypose_dask.run.plan import Block
from cypose_dask.run.record import BlockRecord
from cypose_dask.settings import RunOptions
from helpers.nd2_writer import write_nd2

STEP = 2


@pytest.fixture(scope="module")
def finished(movie, client, tmp_path_factory):
    """A folder with a sound result of 5 frames in blocks of 2, and its TIF."""
    folder = tmp_path_factory.mktemp("finished")
    options = RunOptions(frames_per_block=STEP)
    result = segment(movie, folder / "m.zarr", client=client, options=options)
    export_tif(result, folder / "m.tif")
    return folder


@pytest.fixture
def sound(finished, tmp_path):
    """A copy of it that a test may spoil: the store's path."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run" / "m.zarr"


def look(path, **options):
    """The findings without any frame segmented again, as one text."""
    return "\n".join(map(str, verify(path, **{"frames": 0, **options})))


def faults(path, **options):
    return [f for f in verify(path, **{"frames": 0, **options}) if f.is_fault]


def labels_of(path):
    return zarr.open_group(path, mode="r+")["0/labels/cells/0"]


def rewrite_journal(path, change):
    """Write the journal again with `change` made to each line; None leaves it out."""
    journal = journal_of(path)
    lines = [change(json.loads(line)) for line in journal.read_text().splitlines()]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines if line))


def test_a_sound_result_has_no_findings(sound):
    assert verify(sound, frames=5) == []


def test_an_opened_result_is_verified_like_its_path(sound):
    assert verify(open_result(sound), frames=0) == []


def test_one_changed_pixel_is_found_in_block_and_tif(sound):
    array = labels_of(sound)
    frame = array[3]
    y, x = np.argwhere(frame[0] == 0)[0]
    frame[0, y, x] = 1
    array[3] = frame
    found = look(sound)
    assert "block t=2-3 position=0: found other labels than the journal has the checksum" in found
    assert "page 3 with 1 pixels that differ" in found
    assert len(faults(sound)) == 2


def test_a_hole_in_the_numbers_is_found(sound):
    array = labels_of(sound)
    frame = array[0]
    frame[frame == 1] = 0
    array[0] = frame
    count = int(frame.max())
    assert f"frame t=0 position=0 z=0: found labels up to {count} of which 1 do not" in look(sound)


def test_labels_larger_than_the_frame_are_counted_without_much_memory(sound):
    array = labels_of(sound)
    frame = array[0]
    frame[0, 0, 0] = 2**32 - 1
    array[0] = frame
    found = look(sound)
    assert f"labels up to {2**32 - 1} of which" in found


def test_a_lost_shard_is_found(sound):
    shutil.rmtree(sound / "0/labels/cells/0/c/1")
    found = look(sound)
    assert "frame t=2 position=0 z=0: found labels up to 0; expected" in found
    assert "block t=2-3" in found


def test_a_damaged_shard_is_found_and_the_rest_still_checked(sound):
    shard = sound / "0/labels/cells/0/c/1/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-9] + b"x" * 9)
    labels = labels_of(sound)
    block = labels[4:5]
    block[block == 1] = 0
    labels[4:5] = block
    found = look(sound)
    assert "frame t=2 position=0 z=0: found a chunk that cannot be read" in found
    assert "frame t=3 position=0 z=0: found a chunk that cannot be read" in found
    assert "frame t=4" in found
    assert "block t=2-3" not in found


@pytest.mark.parametrize("kind", [Status.FAILED, Status.DAMAGED])
def test_pixels_in_frames_without_labels_are_found(kind, sound):
    status = open_result(sound).status()
    cells = open_result(sound).cells()
    status[1], cells[1] = kind, 0

    def fail(line):
        for frame in line["frames"]:
            if frame["t"] == 1:
                frame.update(status=int(kind), cells=0, error="x")
        return line

    write_status(sound, 0, status, cells)
    rewrite_journal(sound, fail)
    found = faults(sound)
    assert "pixels with labels although it is" in str(found[0])
    assert "page 1 with" in str(found[1])


def test_pixels_that_a_killed_run_left_are_no_fault(sound):
    status, cells = open_result(sound).status(), open_result(sound).cells()
    status[2:4], cells[2:4] = 0, 0
    write_status(sound, 0, status, cells)
    rewrite_journal(sound, lambda line: None if line["block"]["start"] == 2 else line)
    (sound.with_name("m.tif")).unlink()
    assert faults(sound) == []
    assert "frame t=2 position=0 z=0: found" in look(sound)
    assert "although it is pending" in look(sound)


def test_a_zarr_whose_status_a_killed_run_did_not_write_is_no_fault(sound):
    nothing = np.zeros((5, 1), np.uint32)
    write_status(sound, 0, nothing.astype(np.uint8), nothing)
    assert faults(sound) == []
    assert "behind the journal for 5 frames" in look(sound)


def test_frames_that_no_line_of_the_journal_covers_are_found(sound):
    rewrite_journal(sound, lambda line: None if line["block"]["start"] == 2 else line)
    (fault,) = faults(sound)
    assert "the zarr calls t=2-3 done, while the journal says nothing of them" in str(fault)
    journal_of(sound).unlink()
    (fault,) = faults(sound)
    assert "t=0-4" in str(fault)


def test_a_journal_that_calls_a_done_frame_failed_is_found(sound):
    last = list(Journal(journal_of(sound)).read())[-1]
    Journal(journal_of(sound)).append(BlockRecord.failed(last.block, 1, "x"))
    (t,) = {frame.t for frame in last.frames} - {last.block.start + 1}
    assert f"the zarr calls t={t}" in look(sound)
    assert "calls failed or damaged" in look(sound)


@pytest.mark.parametrize("where", ["journal", "zarr"])
def test_another_count_of_cells_is_found(where, sound):
    if where == "zarr":
        result = open_result(sound)
        write_status(sound, 0, result.status(), result.cells() + 1)
    else:

        def add_one(line):
            for frame in line["frames"]:
                frame["cells"] += 1
            return line

        rewrite_journal(sound, add_one)
    found = faults(sound)
    assert len(found) == 5
    assert all(f"as the {where} counts them" in str(fault) for fault in found)


def test_a_block_of_another_length_in_the_journal_is_found(sound):
    short = BlockRecord(block=Block(0, 2, 3), frames=(), checksum="")
    Journal(journal_of(sound)).append(short)
    assert "a block that the store does not have" in look(sound)


def test_a_journal_of_another_result_is_found(sound):
    journal = journal_of(sound)
    journal.write_text(journal.read_text().replace('"position": 0', '"position": 5'))
    (fault,) = verify(sound)
    assert "belongs to another result" in str(fault)


def test_a_store_that_does_not_open_is_found(sound):
    (sound / "zarr.json").write_bytes(b"{")
    (fault,) = verify(sound)
    assert "no result of cypose-dask" in str(fault)


def test_a_running_run_is_noted(sound):
    with locked(sound):
        assert "writes it now" in look(sound)
        assert faults(sound) == []
    assert not lock_of(sound).exists()


# ---- the TIF -------------------------------------------------------------------------------


def spoil(tif, change):
    pages = tifffile.imread(tif)
    tifffile.imwrite(tif, change(pages), imagej=True, metadata={"axes": "TYX"}, compression="zlib")


def flipped(pages):
    pages[4, 9, 9] += 1
    return pages


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (flipped, "page 4 with 1 pixels that differ"),
        (lambda pages: pages[:4], r"found 4 pages, TYX \(4, 64, 64\); expected 5 pages, TYX \(5"),
        (lambda pages: pages[:, :60], r"found 5 pages, TYX \(5, 60, 64\)"),
        (lambda pages: pages.astype(np.float32), "unreadable|float32"),
    ],
)
def test_a_tif_that_differs_is_found(change, words, sound):
    tif = sound.with_name("m.tif")
    spoil(tif, change)
    found = faults(sound)
    assert found
    assert all(str(tif) in str(fault) for fault in found)
    assert re.search(words, look(sound))


@pytest.mark.parametrize("content", [b"", b"rubbish", b"II*\0\x08\0\0\0"])
def test_a_tif_that_is_none_is_found(content, sound):
    sound.with_name("m.tif").write_bytes(content)
    (fault,) = faults(sound)
    assert "m.tif: found" in str(fault)


def test_a_cut_tif_is_found(sound):
    tif = sound.with_name("m.tif")
    tif.write_bytes(tif.read_bytes()[: tif.stat().st_size // 2])
    assert faults(sound)


def test_a_named_tif_that_is_not_there_is_a_fault_and_none_at_all_is_not(sound, tmp_path):
    assert "nowhere.tif" in str(faults(sound, tif=tmp_path / "nowhere.tif")[0])
    sound.with_name("m.tif").rename(tmp_path / "elsewhere.tif")
    assert faults(sound) == []
    assert "no TIF beside it" in look(sound)
    assert look(sound, tif=tmp_path / "elsewhere.tif") == ""


def test_blank_pages_of_an_incomplete_export_are_sound(synthetic, client, tmp_path):
    path = tmp_path / "holed.nd2"
    write_nd2(path, synthetic.frames[:3], axes="TCYX", channels=["BF", "Chl"], skip_frames=(1,))
    result = segment(open_movie(path, allow_damaged=True), tmp_path / "m.zarr", client=client)
    export_tif(result, tmp_path / "m_cp_masks.tif", allow_incomplete=True)
    assert verify(tmp_path / "m.zarr", frames=9) == []
    spoil(tmp_path / "m_cp_masks.tif", lambda pages: np.maximum(pages, 1))
    assert any("page 1 with" in str(fault) for fault in faults(tmp_path / "m.zarr"))


def test_each_position_is_compared_with_its_own_tif(synthetic, client, tmp_path):
    path = tmp_path / "grid.nd2"
    write_nd2(path, synthetic.frames[[[0, 1], [2, 3]]], axes="TPCYX", channels=["BF", "Chl"])
    result = segment(open_movie(path), tmp_path / "m.zarr", client=client)
    first, second = export_tif(result, tmp_path / "m.tif")
    assert verify(result, frames=2) == []
    first.rename(tmp_path / "x")
    second.rename(first)
    (tmp_path / "x").rename(second)
    assert {f.where for f in faults(tmp_path / "m.zarr")} == {str(first), str(second)}
    second.unlink()
    assert str(second) in look(tmp_path / "m.zarr")


# ---- the movie, and frames segmented again ------------------------------------------------


def own_movie(path, nd2_path, folder):
    """Give a result a movie of its own, which a test may spoil."""
    mine = shutil.copy(nd2_path, folder / "mine.nd2")
    meta = path / "zarr.json"
    meta.write_text(meta.read_text().replace(str(nd2_path), str(mine)))
    return mine


def test_a_movie_that_is_gone_is_noted_and_one_that_moved_is_taken(sound, nd2_path, tmp_path):
    mine = own_movie(sound, nd2_path, tmp_path)
    moved = mine.rename(tmp_path / "moved.nd2")
    (note,) = verify(sound)
    assert not note.is_fault
    assert "no frame can be segmented again" in str(note)
    assert "--movie" in str(note)
    assert verify(sound, movie=moved) == []


def test_a_named_movie_that_is_not_there_is_a_fault(sound, tmp_path):
    (fault,) = faults(sound, movie=tmp_path / "nowhere.nd2")
    assert "nowhere.nd2" in str(fault)


def test_another_movie_is_found_and_not_segmented(sound, synthetic, nd2_path, tmp_path):
    mine = own_movie(sound, nd2_path, tmp_path)
    write_nd2(mine, synthetic.frames + 1, axes="TCYX", channels=list(synthetic.channel_names))
    (fault,) = verify(sound)
    assert "other content" in str(fault)
    mine.write_bytes(b"rubbish")
    (fault,) = verify(sound)
    assert "cannot be segmented again" in str(fault) or "no frame can be" in str(fault)


def test_frames_are_segmented_again_and_compared(sound):
    array = labels_of(sound)
    frame = array[1]
    frame[frame > 0] = frame.max() + 1 - frame[frame > 0]  # numbered the other way round
    array[1] = frame
    found = [f for f in verify(sound, frames=5) if "segmented again" in str(f)]
    (fault,) = found
    assert fault.is_fault
    assert fault.where == "frame t=1 position=0 z=0"
    assert "of 4096 pixels that differ" in str(fault)


def test_the_seed_chooses_the_frames(sound, monkeypatch):
    from cypose_dask.run.checks import repeat

    seen = []

    def remember(state, how, place):
        seen.append(place)
        yield from ()

    monkeypatch.setattr(repeat, "_compare", remember)
    for seed in (0, 0, 1, 2, 3):
        verify(sound, frames=2, seed=seed)
    chosen = [tuple(seen[i : i + 2]) for i in range(0, len(seen), 2)]
    assert chosen[0] == chosen[1]
    assert len(set(chosen)) > 1
    assert all(a < b for a, b in chosen)


def test_no_frame_is_segmented_when_none_is_asked_for(sound, monkeypatch):
    from cypose_dask.run.checks import repeat

    monkeypatch.setattr(repeat, "load_networks", None)
    assert verify(sound, frames=0) == []


def test_a_model_that_changed_since_is_noted(sound):
    meta = sound / "zarr.json"
    content = json.loads(meta.read_text())
    content["attributes"]["cypose_dask"]["plan"]["model"]["sha256"] = "0" * 64
    meta.write_text(json.dumps(content))
    (note,) = verify(sound)
    assert "is not the model of the run" in str(note)


def test_other_software_is_noted(sound):
    meta = sound / "zarr.json"
    content = json.loads(meta.read_text())
    content["attributes"]["cypose_dask"]["fingerprint"]["cellpose version"] = "3.0"
    meta.write_text(json.dumps(content))
    (note,) = verify(sound, frames=1)
    assert not note.is_fault
    assert "cellpose version 3.0 before" in str(note)


def test_a_model_that_would_be_downloaded_is_left_out(sound, monkeypatch, tmp_path):
    monkeypatch.setenv("CELLPOSE_LOCAL_MODELS_PATH", str(tmp_path))
    meta = sound / "zarr.json"
    content = json.loads(meta.read_text())
    content["attributes"]["cypose_dask"]["plan"]["model"].update(name="cyto3", kind="built-in")
    meta.write_text(json.dumps(content))
    (note,) = verify(sound)
    assert "cyto3 is not on this machine" in str(note)


@pytest.mark.parametrize("options", [{"frames": -1}, {"seed": -1}])
def test_negative_numbers_are_refused(sound, options):
    with pytest.raises(SettingsError, match="below 0"):
        verify(sound, **options)


def test_verify_changes_nothing(sound):
    before = {p: p.stat().st_mtime_ns for p in sound.parent.rglob("*")}
    verify(sound, frames=1)
    assert {p: p.stat().st_mtime_ns for p in sound.parent.rglob("*")} == before
