"""Labelled frames in files: which image belongs to which labels, which movie, which channels."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from cypose_dask.errors import (
    CyposeError,
    MovieError,
    MovieNotFoundError,
    ResultError,
    SettingsError,
)
from cypose_dask.learn import FrameRequest, Reading, find_examples, read_examples, save_frames
from cypose_dask.learn.training.example_names import movie_of_name, sortable
from cypose_dask.movies import open_movie
from cypose_dask.results import Status, create_result
from cypose_dask.results.writing import write_block, write_status
from cypose_dask.run import make_plan

SHAPE = (20, 24)


def picture(number: int, channels: int = 0) -> np.ndarray:
    """An image whose pixels say which one it is."""
    plane = np.full(SHAPE, 100 + number, np.uint16)
    plane[0] = 7
    return np.stack([plane + 1000 * c for c in range(channels)]) if channels else plane


def truth(number: int) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint16)
    labels[2:6, 2 : 6 + number % 9] = 1
    labels[10:15, 3:9] = 2
    return labels


def save_tif(path, pixels, axes="YX", **metadata):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": axes, **metadata})
    return path


def save_seg(path, labels, filename="elsewhere.tif", **more):
    content = {"masks": labels, "filename": filename, "outlines": labels * 0, "chan_choose": [0, 0]}
    np.save(path, content | more, allow_pickle=True)
    return path


@pytest.fixture
def folder(tmp_path):
    """Three frames of one movie and one of another, with labels of several kinds."""
    home = tmp_path / "frames"
    for i, name in enumerate(["a_t001", "a_t002", "a_t010", "b_t001"]):
        save_tif(home / f"{name}.tif", picture(i))
    save_seg(home / "a_t001_seg.npy", truth(0))
    save_tif(home / "a_t002_cp_masks.tif", truth(1))
    save_tif(home / "a_t010_masks.tif", truth(2))
    Image.fromarray(truth(3).astype(np.uint8)).save(home / "b_t001_labels.png")
    return home


def numbers(examples) -> list[int]:
    return [int(frame[0, 5, 0]) - 100 for frame in examples.frames]


# ---- folders -------------------------------------------------------------------------------


def test_every_kind_of_labels_is_paired_with_its_image(folder):
    found = find_examples([folder])
    assert numbers(found.examples) == [0, 1, 2, 3]
    for number, labels in enumerate(found.examples.labels):
        np.testing.assert_array_equal(labels, truth(number))
    assert all(frame.shape == (1, *SHAPE) for frame in found.examples.frames)
    assert found.examples.movies == ("frames/a",) * 3 + ("frames/b",)
    assert found.notes == ()


def test_the_order_of_the_listing_does_not_matter(folder, tmp_path, monkeypatch):
    from pathlib import Path

    listed = Path.iterdir
    first = read_examples([folder])
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(sorted(listed(self), reverse=True)))
    again = read_examples([folder])
    assert numbers(first) == numbers(again)
    assert first.movies == again.movies


def test_frames_of_a_movie_are_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 2):
        save_tif(tmp_path / f"m_{number}.tif", picture(number))
        save_tif(tmp_path / f"m_{number}_masks.tif", truth(number))
    assert numbers(read_examples([tmp_path])) == [2, 9, 10]


def test_the_order_of_the_sources_does_not_matter(folder, tmp_path):
    other = tmp_path / "more"
    save_tif(other / "c_1.tif", picture(9))
    save_tif(other / "c_1_masks.tif", truth(9))
    one, two = read_examples([folder, other]), read_examples([other, folder])
    assert numbers(one) == numbers(two) == [0, 1, 2, 3, 9]


def test_one_image_can_be_named(folder):
    assert numbers(read_examples([folder / "a_t002.tif"])) == [1]
    save_tif(folder / "bare.tif", picture(5))
    with pytest.raises(MovieNotFoundError, match="no image with labels beside it"):
        read_examples([folder / "bare.tif"])


@pytest.mark.parametrize("name", ["masks", "labels"])
@pytest.mark.parametrize("mark", ["", "_cp_masks", "_masks"])
def test_labels_in_a_folder_beside_the_images_are_paired(name, mark, tmp_path):
    for i in range(3):
        save_tif(tmp_path / f"a_{i}.tif", picture(i))
        save_tif(tmp_path / name / f"a_{i}{mark}.tif", truth(i))
    found = find_examples([tmp_path])
    assert numbers(found.examples) == [0, 1, 2]
    for number, labels in enumerate(found.examples.labels):
        np.testing.assert_array_equal(labels, truth(number))
    assert found.notes == ()
    assert numbers(read_examples([tmp_path / "a_1.tif"])) == [1]


def test_labels_beside_the_images_win_over_those_inside(folder):
    save_tif(folder / "masks" / "a_t001.tif", truth(8))
    assert numbers(read_examples([folder])) == [0, 1, 2, 3]
    np.testing.assert_array_equal(read_examples([folder]).labels[0], truth(0))


def test_labels_in_two_folders_are_refused(tmp_path):
    save_tif(tmp_path / "a.tif", picture(0))
    for name in ("masks", "labels"):
        save_tif(tmp_path / name / "a.tif", truth(0))
    with pytest.raises(SettingsError, match=r"masks and .*labels both hold label files"):
        read_examples([tmp_path])


def test_images_without_labels_are_left_out_with_a_note(folder):
    save_tif(folder / "a_t011.tif", picture(5))
    found = find_examples([folder])
    assert numbers(found.examples) == [0, 1, 2, 3]
    assert found.notes == (f"{folder}: 1 image without labels, left out: a_t011.tif.",)


def test_labels_without_an_image_are_left_out_with_a_note(folder):
    (folder / "a_t001.tif").unlink()
    found = find_examples([folder])
    assert numbers(found.examples) == [1, 2, 3]
    assert "1 label file without an image, left out: a_t001_seg.npy" in found.notes[0]


def test_a_frame_without_a_cell_is_taken_and_said(folder):
    save_tif(folder / "a_t002_cp_masks.tif", truth(1) * 0)
    found = find_examples([folder])
    assert [int(labels.max()) for labels in found.examples.labels] == [2, 0, 2, 2]
    assert "1 frame of frames/a labelled, but without a cell" in found.notes[0]


def test_a_seg_file_finds_the_image_that_it_names(folder):
    (folder / "a_t001.tif").rename(folder / "raw 1.tif")
    save_seg(folder / "a_t001_seg.npy", truth(0), filename="D:\\lab\\raw 1.tif")
    found = find_examples([folder])
    assert sorted(numbers(found.examples)) == [0, 1, 2, 3]
    assert found.notes == ()


def test_nothing_in_a_seg_file_is_run(folder, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    save_seg(folder / "a_t001_seg.npy", truth(0), filename=Evil())
    with pytest.raises(MovieError, match=r"a_t001_seg\.npy: not a label file of Cellpose"):
        read_examples([folder])
    assert not (tmp_path / "owned").exists()


def test_two_label_files_that_disagree_are_refused(folder):
    save_tif(folder / "a_t001_masks.tif", truth(8))
    with pytest.raises(MovieError, match="hold different labels"):
        read_examples([folder])


def test_two_images_of_one_name_are_refused(folder):
    Image.fromarray(picture(0).astype(np.uint8)).save(folder / "a_t001.png")
    with pytest.raises(SettingsError, match="could all be the image of"):
        read_examples([folder])


def test_labels_of_another_size_are_refused(folder):
    save_tif(folder / "a_t002_cp_masks.tif", truth(1)[:-1])
    with pytest.raises(MovieError, match=r"labels are 19 x 24 px .* the image is 20 x 24 px"):
        read_examples([folder])


@pytest.mark.parametrize(("names", "inside"), [([], "nothing"), (["x.tif", "y.txt"], r"x\.tif, y")])
def test_a_folder_without_labels_says_what_it_holds(tmp_path, names, inside):
    home = tmp_path / "home"
    home.mkdir()
    for name in names:
        (home / name).write_bytes(b"")
    with pytest.raises(MovieNotFoundError, match=rf"The folder holds {inside}.*NAME_seg\.npy"):
        read_examples([home])


def test_a_missing_source_is_refused(tmp_path):
    with pytest.raises(MovieNotFoundError, match="no such folder or file"):
        read_examples([tmp_path / "gone"])


def test_a_stack_is_paired_frame_by_frame(tmp_path):
    stack = np.stack([picture(i) for i in range(4)])
    save_tif(tmp_path / "movie.tif", stack, "TYX")
    save_tif(tmp_path / "movie_cp_masks.tif", np.stack([truth(i) for i in range(4)]), "TYX")
    examples = read_examples([tmp_path])
    assert numbers(examples) == [0, 1, 2, 3]
    np.testing.assert_array_equal(examples.labels[3], truth(3))
    assert len(set(examples.movies)) == 1
    assert examples.movies[0].startswith("movie.tif (")
    some = find_examples([tmp_path], Reading(frames=(1, 3, 9)))
    assert numbers(some.examples) == [1, 3]
    assert "1 frame asked for are not among them, the first is 9" in some.notes[0]


def test_a_stack_with_fewer_labels_is_refused(tmp_path):
    save_tif(tmp_path / "movie.tif", np.stack([picture(i) for i in range(4)]), "TYX")
    save_tif(tmp_path / "movie_masks.tif", np.stack([truth(i) for i in range(3)]), "TYX")
    with pytest.raises(MovieError, match=r"has 4 times.* has 3 label images"):
        read_examples([tmp_path])


# ---- channels ------------------------------------------------------------------------------


@pytest.fixture
def two_channels(tmp_path):
    labels = ["Brightfield", "Chlorophyll"]
    save_tif(tmp_path / "two.tif", picture(1, channels=2), "CYX", mode="grayscale", Labels=labels)
    save_tif(tmp_path / "two_masks.tif", truth(1))
    return tmp_path


def test_channels_must_be_chosen_where_there_are_several(two_channels):
    with pytest.raises(
        SettingsError, match=r"2 channels \(0 'Brightfield', 1 'Chlorophyll'\).*--ch"
    ):
        read_examples([two_channels])


@pytest.mark.parametrize("channels", [(1,), ("CHLOROphyll",)])
def test_channels_are_chosen_by_index_or_name(two_channels, channels):
    found = find_examples([two_channels], Reading(channels=channels))
    assert numbers(found.examples) == [1001]
    assert found.channel_names == (("Chlorophyll",),)


def test_channels_come_in_the_order_asked_for(two_channels):
    frame = read_examples([two_channels], channels=(1, 0)).frames[0]
    assert frame[:, 5, 0].tolist() == [1101, 101]


def test_a_function_chooses_channels_only_where_nothing_else_does(two_channels):
    seen = []
    reading = Reading(choose=lambda info: seen.append(info.channel_names) or (1,))
    assert numbers(find_examples([two_channels], reading).examples) == [1001]
    assert seen == [("Brightfield", "Chlorophyll")]


@pytest.mark.parametrize("channels", [(2,), (-1,), ("gfp",)])
def test_a_channel_that_is_not_there_is_refused(two_channels, channels):
    with pytest.raises(SettingsError, match=r"no one channel .* counted from 0, are 0 'Bright"):
        read_examples([two_channels], channels=channels)


def test_axes_are_never_guessed(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", picture(1, channels=2), photometric="minisblack")
    save_tif(tmp_path / "x_masks.tif", truth(1))
    with pytest.raises(MovieError, match="axes"):
        read_examples([tmp_path])
    found = find_examples([tmp_path], Reading(axes="CYX", channels=(0,)))
    assert numbers(found.examples) == [1]
    assert found.channel_names == ((),)


# ---- movies --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "movies"),
    [
        (["img_t0001.tif", "img_t0002.tif"], ["d/img"] * 2),
        (["m_p000_t0001.tif", "m_p001_t0001_z03_y0512_x0000.tif"], ["d/m"] * 2),
        (["exp1_001.tif", "exp2_001.tif"], ["d/exp1", "d/exp2"]),
        (["Sample000033.png", "Sample000193.png"], ["d/Sample"] * 2),
        (["00001.tif", "2.tif", "t003.tif"], ["d"] * 3),
        (["colony A.tif", "colony B.tif"], ["d/colony A", "d/colony B"]),
        (["x.ome.tif", "x-2.ome.tif"], ["d/x"] * 2),
    ],
)
def test_the_movie_of_an_image_is_its_name_without_the_last_numbers(names, movies):
    assert [movie_of_name(f"d/{name}") for name in names] == movies


def test_numbers_sort_by_their_value():
    names = ["img10", "img9", "img2b", "img02a"]
    assert sorted(names, key=sortable) == ["img02a", "img2b", "img9", "img10"]


@pytest.fixture
def chosen(movie, tmp_path):
    """What `cypose-dask frames` leaves, with labels for every frame."""
    saved = save_frames([movie], tmp_path / "chosen", FrameRequest(n=3))
    for path in saved.written:
        shape = tifffile.imread(path).shape[-2:]
        labels = np.zeros(shape, np.uint16)
        labels[5:20, 5:20] = 1
        save_tif(path.with_name(f"{path.stem}_cp_masks.tif"), labels)
    return saved


def test_the_record_of_frames_says_movie_order_and_channels(chosen, movie, tmp_path):
    found = find_examples([chosen.folder], Reading(channels=(0,)))
    name = f"movie.nd2 ({movie.info.fingerprint.content_sha256[:8]})"
    assert found.examples.movies == (name,) * 3
    times = [entry["t"] for entry in chosen.entries]
    for frame, t in zip(found.examples.frames, sorted(times), strict=True):
        np.testing.assert_array_equal(frame, movie.read_frame(t)[:1])
    assert found.channel_names == ((movie.info.channel_names[0],),)
    copied = tmp_path / "a copy"
    shutil.copytree(chosen.folder, copied)
    assert read_examples([copied], channels=(0,)).movies == found.examples.movies


@pytest.mark.parametrize("text", ["", "{", '{"frames": 3}', '{"frames": [{"file": "a"}]}', "[]"])
def test_a_damaged_record_of_frames_is_refused(chosen, text):
    (chosen.folder / "frames.json").write_text(text)
    with pytest.raises(SettingsError, match=r"frames\.json cannot be read"):
        read_examples([chosen.folder], channels=(0,))


# ---- results -------------------------------------------------------------------------------


@pytest.fixture
def result(movie, synthetic, tmp_path):
    """A result of the synthetic movie; frame 2 failed, and frame 3 was corrected by hand."""
    plan = make_plan(movie)
    path = tmp_path / "movie.zarr"
    create_result(path, plan.layout(), {"plan": plan.to_dict()})
    labels = synthetic.labels[:, np.newaxis].astype(np.uint32)
    labels[3, 0][labels[3, 0] == 1] = 0
    for block in plan.blocks():
        write_block(path, (0, block.start), {"labels": labels[block.start : block.stop]})
    status = np.full((5, 1), Status.DONE, np.uint8)
    status[2] = Status.FAILED
    write_status(path, 0, status, labels.max(axis=(-2, -1)))
    return path


def test_a_result_gives_its_frames_that_are_done_with_the_pixels_of_its_movie(
    result, movie, synthetic
):
    found = find_examples([result])
    assert len(found.examples) == 4
    for i, t in enumerate([0, 1, 3, 4]):
        np.testing.assert_array_equal(found.examples.frames[i], movie.read_frame(t)[:1])
    assert found.examples.labels[2].max() == synthetic.labels[3].max()
    assert not (found.examples.labels[2] == 1).any()
    assert found.notes == (f"{result}: 1 frame not segmented, or damaged; left out.",)
    assert found.channel_names == ((movie.info.channel_names[0],),)


def test_a_result_and_frames_of_its_movie_belong_to_one_movie(result, chosen):
    both = read_examples([result, chosen.folder], channels=(0,))
    assert len(set(both.movies)) == 1


def test_frames_of_a_result_are_chosen_by_their_time_in_the_movie(result):
    assert len(find_examples([result], Reading(frames=range(1, 4))).examples) == 2
    with pytest.raises(SettingsError, match=r"no labelled frame to train on.* frames 0 to 4"):
        find_examples([result], Reading(frames=(7,)))


def test_a_movie_that_moved_is_found_by_its_content(result, nd2_path, tmp_path):
    moved = tmp_path / "moved.nd2"
    shutil.copy(nd2_path, moved)
    forget_movie(result, tmp_path / "gone.nd2")
    with pytest.raises(MovieNotFoundError, match=r"was not found: .*gone\.nd2.* --movie"):
        read_examples([result])
    other = save_tif(tmp_path / "other.tif", np.stack([picture(i, 2) for i in range(5)]), "TCYX")
    with pytest.raises(MovieNotFoundError, match=r"other\.tif has another content"):
        find_examples([result], Reading(movies=(other,)))
    assert len(find_examples([result], Reading(movies=(other, moved))).examples) == 4


def test_a_result_that_does_not_name_its_movie_is_refused(result):
    path = result / "zarr.json"
    content = json.loads(path.read_text())
    del content["attributes"]["cypose_dask"]["plan"]["movie"]
    path.write_text(json.dumps(content))
    with pytest.raises(ResultError, match="does not say which movie it was made from"):
        read_examples([result])


def forget_movie(result, where):
    path = result / "zarr.json"
    content = json.loads(path.read_text())
    content["attributes"]["cypose_dask"]["plan"]["movie"]["path"] = str(where)
    path.write_text(json.dumps(content))


def test_a_result_beside_its_movie_is_read_as_a_pair_of_a_folder(result, nd2_path, tmp_path):
    shutil.copy(nd2_path, result.with_name("movie.nd2"))
    found = find_examples([result.parent], Reading(channels=(0,)))
    assert len(found.examples) == 4
    assert open_movie(nd2_path).info.fingerprint.content_sha256[:8] in found.examples.movies[0]


# ---- rubbish and real files ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["a_t001.tif", "a_t001_seg.npy", "b_t001_labels.png"])
@pytest.mark.parametrize("content", [b"", b"rubbish", b"\x93NUMPY\x01\x00\x10"])
def test_a_damaged_file_is_refused_by_its_name(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(CyposeError, match=name):
        read_examples([folder])


def test_real_frames_of_omnipose_with_their_masks(shared_data, tmp_path):
    source = shared_data / "omnipose_phase"
    for stem in ("Sample000033", "Sample000193"):
        shutil.copy(source / f"{stem}.png", tmp_path)
        shutil.copy(source / "masks" / f"{stem}_cp_masks.tif", tmp_path)
    with pytest.raises(MovieError, match="--rgb mean"):  # gray levels, stored as colours
        read_examples([tmp_path])
    examples = find_examples([tmp_path], Reading(rgb="mean")).examples
    assert len(examples) == 2
    assert [len(np.unique(labels)) - 1 for labels in examples.labels] == [116, 182]
