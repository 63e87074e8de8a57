"""Label files: every format gives the labels that were put in; nothing else is taken for them."""

import pickle
from pathlib import Path, PosixPath

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from cypose_dask.errors import (
    IncompleteResultError,
    MovieError,
    MovieNotFoundError,
    SettingsError,
)
from cypose_dask.learn import evaluate_files, read_labels
from cypose_dask.learn.scoring.label_pairs import (
    find_images,
    find_label_files,
    label_stem,
    pair_labels,
)
from cypose_dask.results import Status, export_tif
from helpers.results import make_labels, write_result

FRAME = np.zeros((24, 32), np.uint16)
FRAME[2:8, 2:12], FRAME[10:18, 4:9], FRAME[12:20, 20:30] = 1, 2, 7
STACK = np.stack([FRAME, np.roll(FRAME, 1, 0), np.roll(FRAME, 2, 0)])


def seg(path: Path, masks, **more):
    """A file as Cellpose's GUI writes it."""
    content = {"masks": masks, "outlines": masks * 0, "filename": PosixPath("/a/b.tif"),
               "flows": [np.zeros((1, 2), np.float32), []], "ismanual": np.zeros(3, bool),
               "diameter": np.float64(12), "model_path": 0, "restore": None}  # fmt: skip
    np.save(path, content | more)
    return path


def plain_pages(path: Path, stack):
    with tifffile.TiffWriter(path) as tif:
        for page in stack:
            tif.write(page, contiguous=False, metadata=None)


def png(path: Path, frame):
    Image.fromarray(frame).save(path)


WRITERS = {
    "uint8.tif": lambda p: tifffile.imwrite(p, FRAME.astype(np.uint8)),
    "int32.tif": lambda p: tifffile.imwrite(p, FRAME.astype(np.int32)),
    "uint32_zlib.tif": lambda p: tifffile.imwrite(p, FRAME.astype(np.uint32), compression="zlib"),
    "int64.tif": lambda p: tifffile.imwrite(p, FRAME.astype(np.int64)),
    "a.ome.tif": lambda p: tifffile.imwrite(p, FRAME),
    "one.png": lambda p: png(p, FRAME.astype(np.uint8)),
    "sixteen.png": lambda p: png(p, FRAME),
    "a_seg.npy": lambda p: seg(p, FRAME),
    "plain.npy": lambda p: np.save(p, FRAME),
    "array.zarr": lambda p: zarr.save(p, FRAME),
}
STACK_WRITERS = {
    # Three frames: what some libraries take for red, green and blue.
    "shaped.tif": lambda p: tifffile.imwrite(p, STACK),
    "imagej.tif": lambda p: tifffile.imwrite(p, STACK, imagej=True),
    "imagej_time.tif": lambda p: tifffile.imwrite(
        p, STACK, imagej=True, metadata={"axes": "TYX"}, compression="zlib"
    ),
    "slices.ome.tif": lambda p: tifffile.imwrite(p, STACK, metadata={"axes": "ZYX"}),
    "pages.tif": lambda p: plain_pages(p, STACK),
    "a_seg.npy": lambda p: seg(p, STACK),
    "array.zarr": lambda p: zarr.save(p, STACK),
}


@pytest.mark.parametrize("name", WRITERS)
def test_one_frame_is_read_back(name, tmp_path):
    WRITERS[name](tmp_path / name)
    [(title, labels)] = read_labels(tmp_path / name)
    assert title == ""
    np.testing.assert_array_equal(labels, FRAME)


@pytest.mark.parametrize("name", STACK_WRITERS)
def test_every_leading_axis_counts_frames(name, tmp_path):
    STACK_WRITERS[name](tmp_path / name)
    frames = read_labels(tmp_path / name)
    assert len(frames) == 3
    for (title, labels), expected in zip(frames, STACK, strict=True):
        assert title[-2:] in ("=0", "=1", "=2")
        np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("kind", ["tif", "zarr"])
def test_times_and_planes_are_in_their_order(kind, tmp_path):
    both = np.stack([STACK, STACK[::-1]])
    path = tmp_path / f"x.{kind}"
    tifffile.imwrite(path, both) if kind == "tif" else zarr.save(path, both)
    frames = read_labels(path)
    assert [name for name, _ in frames] == [f"t={t} z={z}" for t in range(2) for z in range(3)]
    np.testing.assert_array_equal([labels for _, labels in frames], both.reshape(-1, 24, 32))


def test_a_pattern_is_one_file_a_frame(tmp_path):
    for i, frame in enumerate(STACK):
        tifffile.imwrite(tmp_path / f"img{i}.tif", frame)
    read = [labels for _, labels in read_labels(f"{tmp_path}/img*.tif")]
    np.testing.assert_array_equal(read, STACK)


def test_a_result_knows_which_frames_have_no_labels(tmp_path):
    labels = make_labels(t=4)
    status = np.array([[Status.DONE], [Status.FAILED], [Status.DONE], [Status.PENDING]], np.uint8)
    write_result(tmp_path / "m.zarr", labels, status=status, start_frame=10)
    frames = read_labels(tmp_path / "m.zarr")
    assert frames.not_done == ("t=11 failed", "t=13 pending")
    assert [name for name, _ in frames] == ["t=10", "t=12"]
    assert frames.read(1) is None
    np.testing.assert_array_equal(frames.read(2), labels[2, 0, 0])


def test_positions_of_a_result_are_frames(tmp_path):
    labels = make_labels(t=2, p=2, z=2)
    write_result(tmp_path / "m.zarr", labels)
    read = list(read_labels(tmp_path / "m.zarr"))
    assert [name for name, _ in read[:3]] == ["p=0 t=0 z=0", "p=0 t=0 z=1", "p=0 t=1 z=0"]
    expected = labels.swapaxes(0, 1).reshape(-1, 12, 16)
    np.testing.assert_array_equal([one for _, one in read], expected)


def test_the_label_array_of_an_ome_zarr_is_read(tmp_path):
    labels = make_labels(t=3)
    write_result(tmp_path / "m.zarr", labels)
    read = [one for _, one in read_labels(tmp_path / "m.zarr/0/labels/cells")]
    np.testing.assert_array_equal(read, labels[:, 0, 0])


def test_background_of_minus_one_is_cellposes_oldest_file(tmp_path):
    masks = FRAME.astype(np.int32) - 1
    [(_, labels)] = read_labels(seg(tmp_path / "a_seg.npy", masks))
    np.testing.assert_array_equal(labels, FRAME)


class _RunsCode:
    def __reduce__(self):
        return (print, ("code from a label file",))


def test_code_in_a_seg_file_is_refused_and_not_run(tmp_path, capsys):
    path = seg(tmp_path / "a_seg.npy", FRAME, filename=_RunsCode())
    with pytest.raises(MovieError, match=r"it names builtins\.print"):
        read_labels(path)
    assert "code from" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", pickle.dumps({"masks": 1}), b"\x93NUMPY\x01\x00"]
)
@pytest.mark.parametrize("suffix", [".tif", ".png", "_seg.npy"])
def test_rubbish_is_refused(content, suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(MovieError, match=f"a{suffix}"):
        read_labels(path)


def test_a_seg_file_without_masks_is_refused(tmp_path):
    np.save(tmp_path / "a_seg.npy", {"outlines": FRAME})
    with pytest.raises(MovieError, match="masks"):
        read_labels(tmp_path / "a_seg.npy")


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(MovieNotFoundError, match="no such file"):
        read_labels(tmp_path / "a.tif")


FOREGROUND = (FRAME > 0).astype(np.uint8)
REFUSED = {
    "float": (FRAME.astype(np.float32), "type float32"),
    "negative": (FRAME.astype(np.int16) - 2, "label of -2"),
    "bool": (FRAME > 0, "3 separate parts"),
    "one": (FOREGROUND, "3 separate parts"),
    "two": ((FRAME > 1).astype(np.uint8), "2 separate parts"),
    "255": (FOREGROUND * 255, "same number"),
    "image": (np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) + 90, "looks like an image"),
    "rgb": (np.zeros((24, 32, 3), np.uint8), "colours"),
    "5d": (np.zeros((2, 2, 2, 2, 8, 9), np.uint8), "at most three axes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_label_image_is_refused(name, tmp_path):
    pixels, says = REFUSED[name]
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    with pytest.raises(MovieError, match=says):
        list(read_labels(tmp_path / "a.tif"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_picture_of_labels_is_refused(mode, tmp_path):
    Image.fromarray(FRAME.astype(np.uint8)).convert(mode).save(tmp_path / "a.png")
    with pytest.raises(MovieError, match="colours"):
        read_labels(tmp_path / "a.png")


def test_a_movie_of_several_channels_is_refused(nd2_path):
    with pytest.raises(MovieError, match="found 2 channels; expected labels"):
        read_labels(nd2_path)


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_one_cell_alone_is_labels_whatever_its_number(dtype, tmp_path):
    mask = (FRAME == 1).astype(dtype)
    mask[20, 30] = 1  # a crumb of the same cell
    tifffile.imwrite(tmp_path / "a.tif", mask)
    [(_, labels)] = read_labels(tmp_path / "a.tif")
    np.testing.assert_array_equal(labels, mask)
    assert labels.dtype.kind == "u"


def test_one_cell_in_pieces_is_believed_of_a_result(tmp_path):
    labels = np.broadcast_to(FOREGROUND, (2, 1, 1, 24, 32)).astype(np.uint32)
    write_result(tmp_path / "m.zarr", labels)
    assert len(list(read_labels(tmp_path / "m.zarr"))) == 2


# Folders and pairs


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.tif", "a"),
        ("a_seg.npy", "a"),
        ("a_cp_masks.tif", "a"),
        ("a_cp_masks.png", "a"),
        ("a_masks.tif", "a"),
        ("a_mask.tif", "a"),
        ("a_labels.TIFF", "a"),
        ("a.ome.tif", "a"),
        ("a.zarr", "a"),
        ("a_cp_masks_p003.tif", "a_p003"),
        ("b.masks_1.tif", "b.masks_1"),
        ("masks.tif", "masks"),
    ],
)
def test_stems_are_those_of_the_image(name, stem):
    assert label_stem(name) == stem


def folder_of(path: Path, **files) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, pixels in files.items():
        tifffile.imwrite(path / f"{name}.tif", pixels)
    return path


def test_files_of_folders_are_paired_by_stem(tmp_path):
    truth = folder_of(tmp_path / "t", b_masks=FRAME, a_masks=STACK)
    predicted = folder_of(tmp_path / "p", a_cp_masks=STACK, b_cp_masks=FRAME)
    pairs, left_out = pair_labels(predicted, truth)
    assert left_out == []
    assert [(pair.name, len(pair)) for pair in pairs] == [("a", 3), ("b", 1)]
    for pair in pairs:
        assert pair.truth.path.parent == truth
        assert pair.predicted.path.parent == predicted


def test_images_beside_marked_labels_are_no_labels(tmp_path):
    folder = folder_of(tmp_path / "t", a=FRAME + 99, a_masks=FRAME, c=FRAME)
    seg(folder / "b_seg.npy", FRAME)
    (folder / "a.txt").write_text("x")
    assert sorted(find_label_files(folder)) == ["a", "b"]
    write_result(folder / "a.zarr", FRAME[None, None, None].astype(np.uint32))
    assert find_images(folder, ["a"]) == {"a": folder / "a.tif"}


@pytest.mark.parametrize("name", ["masks", "labels"])
def test_labels_may_lie_in_a_folder_beside_the_images(name, tmp_path):
    images = folder_of(tmp_path / "i", a=FRAME + 99, b=FRAME + 99)
    inside = folder_of(images / name, a_cp_masks=FRAME, b_cp_masks=FRAME)
    assert {one.path.parent for one in find_label_files(images).values()} == {inside}
    [one, two], _ = pair_labels(folder_of(tmp_path / "p", a=FRAME, b=FRAME), images)
    assert (one.name, two.name, one.truth.path) == ("a", "b", inside / "a_cp_masks.tif")
    folder_of(images, a_masks=FRAME)
    assert [one.path for one in find_label_files(images).values()] == [images / "a_masks.tif"]


def test_unmarked_files_are_labels_where_none_is_marked(tmp_path):
    folder = folder_of(tmp_path / "t", a=FRAME, b=FRAME)
    assert sorted(find_label_files(folder)) == ["a", "b"]


def test_two_files_of_a_stem_are_one_if_they_hold_the_same(tmp_path):
    folder = folder_of(tmp_path / "t", a_cp_masks=FRAME)
    seg(folder / "a_seg.npy", FRAME.astype(np.int32))
    assert list(find_label_files(folder)) == ["a"]
    seg(folder / "a_seg.npy", np.roll(FRAME, 1))
    with pytest.raises(MovieError, match=r"a_(seg|cp_masks).*a_(seg|cp_masks).*different"):
        find_label_files(folder)


def test_a_result_stands_for_its_own_tif(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels(t=3))
    export_tif(result, tmp_path / "m_cp_masks.tif")
    found = find_label_files(tmp_path)
    assert list(found) == ["m"]
    assert found["m"].from_result


def test_files_without_a_partner_are_listed(tmp_path):
    truth = folder_of(tmp_path / "t", a=FRAME, b=FRAME)
    predicted = folder_of(tmp_path / "p", a=FRAME, c=FRAME)
    with pytest.raises(SettingsError, match=r"c\.tif \(no truth\), b\.tif \(no prediction\)"):
        pair_labels(predicted, truth)
    pairs, left_out = pair_labels(predicted, truth, allow_missing=True)
    assert [pair.name for pair in pairs] == ["a"]
    assert left_out == ["c.tif (no truth)", "b.tif (no prediction)"]


def test_folders_without_any_pair_are_refused_even_so(tmp_path):
    truth, predicted = folder_of(tmp_path / "t", a=FRAME), folder_of(tmp_path / "p", b=FRAME)
    with pytest.raises(SettingsError, match=r"2 have no partner.*Rename or move them\.$"):
        pair_labels(predicted, truth, allow_missing=True)


@pytest.mark.parametrize("order", [1, -1])
def test_a_folder_and_a_file_are_no_pair(order, tmp_path):
    truth = folder_of(tmp_path / "t", a=FRAME)
    with pytest.raises(SettingsError, match=r"is a folder and .* is a file"):
        pair_labels(*[truth, truth / "a.tif"][::order])


def test_other_numbers_of_frames_are_refused(tmp_path):
    folder = folder_of(tmp_path, one=FRAME, three=STACK)
    with pytest.raises(MovieError, match=r"truth .*one\.tif has 1 frame, .*three\.tif 3 frames"):
        pair_labels(folder / "three.tif", folder / "one.tif")


def test_other_sizes_are_refused(tmp_path):
    folder = folder_of(tmp_path, a=FRAME, b=FRAME[:, 1:])
    with pytest.raises(MovieError, match=r"truth has 24 x 31 px .* prediction 24 x 32 px"):
        evaluate_files(folder / "a.tif", folder / "b.tif")


def test_planes_of_a_result_are_the_frames_of_a_tif(tmp_path):
    write_result(tmp_path / "m.zarr", STACK[None, None].astype(np.uint32))
    tifffile.imwrite(tmp_path / "t.ome.tif", STACK, metadata={"axes": "TYX"})
    found = evaluate_files(tmp_path / "m.zarr", tmp_path / "t.ome.tif")
    assert [frame.name for frame in found.evaluation.frames] == ["z=0", "z=1", "z=2"]
    assert found.evaluation.pooled.ap == (1, 1, 1)


def test_failed_frames_are_reported_and_not_scored_as_empty(tmp_path):
    labels = np.broadcast_to(FRAME.astype(np.uint32), (3, 1, 1, *FRAME.shape)).copy()
    status = np.array([[Status.DONE], [Status.FAILED], [Status.DONE]], np.uint8)
    failed = labels.copy()
    failed[1] = 0
    write_result(tmp_path / "m.zarr", failed, status=status, start_frame=5)
    tifffile.imwrite(tmp_path / "truth.tif", labels[:, 0, 0])
    found = evaluate_files(tmp_path / "m.zarr", tmp_path / "truth.tif")
    assert [frame.name for frame in found.evaluation.frames] == ["t=5", "t=7"]
    assert found.not_scored == ("prediction t=6 failed",)
    assert found.evaluation.pooled.ap == (1, 1, 1)
    assert found.to_dict()["not_scored"] == ["prediction t=6 failed"]


def test_a_result_without_any_labels_is_refused(tmp_path):
    labels = make_labels(t=2)
    write_result(tmp_path / "m.zarr", labels, status=np.zeros((2, 1), np.uint8))
    with pytest.raises(IncompleteResultError, match="truth t=0 pending"):
        evaluate_files(tmp_path / "m.zarr", tmp_path / "m.zarr")


def test_folders_of_images_that_lack_some_or_have_two_are_refused(tmp_path):
    folder = folder_of(tmp_path, a=FRAME)
    with pytest.raises(SettingsError, match="no image for 1 of 2 label files: b"):
        find_images(folder, ["a", "b"])
    png(folder / "a.png", FRAME)
    with pytest.raises(SettingsError, match=r"same name: .*a\.png.*a\.tif"):
        find_images(folder, ["a"])


def test_real_truths_are_read(shared_data):
    masks = find_label_files(shared_data / "omnipose_phase/masks")
    cells = {stem: len(np.unique(frames.read(0))) - 1 for stem, frames in masks.items()}
    assert cells == {"Sample000033": 116, "Sample000193": 182, "Sample000306": 3, "caulo_15": 21}
    assert len(find_label_files(shared_data / "colicoords_brightfield/binary")) == 10
