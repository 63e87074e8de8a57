"""The result zarr: what is written is read, whole shards only, and foreign stores are refused."""

import json
import shutil

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.image_label import ImageLabel
from ome_zarr_models.v05.labels import Labels

from cypose_dask.errors import ResultError
from cypose_dask.results import Status, create_result, open_result, writing
from cypose_dask.results.writing import write_block, write_status
from helpers.results import layout_of, make_flows, make_labels, write_result


def read_all(result):
    return np.stack([result.labels(p)[:] for p in range(result.n_positions)], axis=1)


@pytest.mark.parametrize("shape", [(5, 1, 1), (4, 2, 1), (1, 1, 1), (3, 2, 3), (1, 3, 2)])
@pytest.mark.parametrize("frames_per_block", [1, 2, 16])
def test_labels_are_read_as_they_were_written(tmp_path, shape, frames_per_block):
    labels = make_labels(*shape)
    result = write_result(tmp_path / "m.zarr", labels, frames_per_block=frames_per_block)
    assert np.array_equal(read_all(result), labels)
    assert result.labels().dtype == np.uint32
    assert result.n_positions == shape[1]
    assert result.layout == layout_of(labels, frames_per_block=frames_per_block)


def test_a_block_is_one_file_and_a_frame_one_chunk(tmp_path):
    labels = make_labels(t=5, z=2) + 1
    write_result(tmp_path / "m.zarr", labels)
    array = zarr.open_group(tmp_path / "m.zarr")["0/labels/cells/0"]
    assert (array.shards, array.chunks) == ((2, 2, 12, 16), (1, 1, 12, 16))
    shards = [f for f in (tmp_path / "m.zarr/0/labels/cells/0/c").rglob("*") if f.is_file()]
    assert len(shards) == 3


def test_debug_arrays_are_read_as_they_were_written(tmp_path):
    labels = make_labels(t=3, p=2, z=2)
    result = write_result(tmp_path / "m.zarr", labels, debug=True)
    made = make_flows(labels)
    for p in range(2):
        assert np.array_equal(result.flows(p)[:], made["flows"][:, p])
        assert np.array_equal(result.cellprob(p)[:], made["cellprob"][:, p])


def test_without_debug_there_are_no_flows(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels())
    with pytest.raises(ResultError, match=r"'flows' at position 0 .*only with debug"):
        result.flows()


@pytest.mark.parametrize("position", [1, -1, 99])
def test_there_are_no_other_positions(tmp_path, position):
    result = write_result(tmp_path / "m.zarr", make_labels())
    with pytest.raises(ResultError, match=f"at position {position}"):
        result.labels(position)


def test_a_new_result_is_pending_everywhere(tmp_path):
    labels = make_labels(t=3, p=2, z=2)
    create_result(tmp_path / "m.zarr", layout_of(labels), {"plan": {"start_frame": 7}})
    result = open_result(tmp_path / "m.zarr")
    assert not read_all(result).any()
    assert result.frames_not_done() == [
        (t, p, z, Status.PENDING) for p in range(2) for t in (7, 8, 9) for z in range(2)
    ]


def test_status_and_cells_are_read_as_they_were_written(tmp_path):
    status = np.array([[1, 2], [3, 0], [1, 1]], np.uint8)
    result = write_result(tmp_path / "m.zarr", make_labels(t=3, z=2), status=status, start_frame=4)
    assert np.array_equal(result.status(), status)
    assert np.array_equal(result.cells(), [[0, 1], [2, 3], [4, 5]])
    assert result.frames_not_done() == [
        (4, 0, 1, Status.FAILED), (5, 0, 0, Status.DAMAGED), (5, 0, 1, Status.PENDING),
    ]  # fmt: skip


def test_an_unknown_status_is_refused(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels())
    write_status(result.path, 0, np.full((5, 1), 9, np.uint8), np.zeros((5, 1), np.uint32))
    with pytest.raises(ResultError, match="status 9 is unknown"):
        result.frames_not_done()


def test_an_all_zero_block_has_a_file_too_and_replaces_an_older_one(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels() + 1)
    shard = tmp_path / "m.zarr/0/labels/cells/0/c/1/0/0/0"
    before = shard.stat().st_size
    write_block(result.path, (0, 2), {"labels": np.zeros((2, 1, 12, 16), np.uint32)})
    assert 0 < shard.stat().st_size < before
    assert not result.labels()[2:4].any()
    assert result.labels()[:2].all()


def test_a_written_block_is_synced_with_its_folders(tmp_path, monkeypatch):
    write_result(tmp_path / "m.zarr", make_labels())
    synced = []
    monkeypatch.setattr(writing, "fsync_path", synced.append)
    write_block(tmp_path / "m.zarr", (0, 2), {"labels": make_labels(t=2)[:, 0] + 1})
    root = tmp_path / "m.zarr/0/labels/cells/0"
    shard = root / "c/1/0/0/0"
    assert set(synced) == {shard, *(p for p in shard.parents if p.is_relative_to(root))}


def test_the_checksum_is_of_the_labels_alone(tmp_path):
    labels = make_labels(t=2)
    for name, debug in (("a.zarr", False), ("b.zarr", True)):
        create_result(tmp_path / name, layout_of(labels, debug=debug), {})
    block = {"labels": labels[:, 0]}
    plain = write_block(tmp_path / "a.zarr", (0, 0), block)
    flows = {name: values[:, 0] for name, values in make_flows(labels).items()}
    assert write_block(tmp_path / "b.zarr", (0, 0), block | flows) == plain
    block["labels"] = np.asfortranarray(block["labels"])
    assert write_block(tmp_path / "a.zarr", (0, 0), block) == plain
    block["labels"] = block["labels"] + 1
    assert write_block(tmp_path / "a.zarr", (0, 0), block) != plain
    assert len(plain) == 32


GOOD = np.ones((2, 1, 12, 16), np.uint32)
NO_SHARDS = {
    "begins within a shard": (1, GOOD),
    "negative": (-2, GOOD),
    "reaches beyond the end": (4, GOOD),
    "lies beyond the end": (6, GOOD),
    "too short": (0, GOOD[:1]),
    "two shards": (0, np.ones((4, 1, 12, 16), np.uint32)),
    "smaller frames": (0, GOOD[..., :4]),
    "would be stretched": (0, GOOD[..., :1]),
    "signed": (0, GOOD.astype(np.int32)),
    "would wrap": (0, GOOD.astype(np.int64) + 2**32),
    "floats": (0, GOOD.astype(np.float32)),
}


@pytest.mark.parametrize("what", NO_SHARDS)
def test_only_whole_shards_are_written(tmp_path, what):
    result = write_result(tmp_path / "m.zarr", make_labels())
    first, values = NO_SHARDS[what]
    with pytest.raises(ResultError, match="no shard of this array"):
        write_block(result.path, (0, first), {"labels": values})
    assert np.array_equal(read_all(result), make_labels())


def test_the_last_short_block_is_a_whole_shard(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels(t=5))
    write_block(result.path, (0, 4), {"labels": GOOD[:1]})
    assert result.labels()[4].all()


def test_a_block_that_has_no_place_writes_nothing(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels())
    flows = np.zeros((2, 1, 2, 12, 16), np.float32)
    with pytest.raises(ResultError, match="no array '0/flows'"):
        write_block(result.path, (0, 0), {"labels": GOOD, "flows": flows})
    with pytest.raises(ResultError, match="no array '3/labels/cells/0'"):
        write_block(result.path, (3, 0), {"labels": GOOD})
    assert np.array_equal(read_all(result), make_labels())


def test_a_result_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "label_metadata", fail)
    with pytest.raises(OSError, match="No space left"):
        create_result(tmp_path / "m.zarr", layout_of(make_labels()), {})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_result_is_not_touched(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels())
    with pytest.raises(ResultError, match="exists already"):
        create_result(result.path, layout_of(make_labels()), {})
    assert np.array_equal(read_all(result), make_labels())
    assert len(list(tmp_path.iterdir())) == 1


def test_attributes_are_kept(tmp_path):
    kept = {"plan": {"start_frame": 3}, "fingerprint": {"µ": [1, None, "x"]}}
    create_result(tmp_path / "m.zarr", layout_of(make_labels()), kept)
    attributes = open_result(tmp_path / "m.zarr").attributes
    assert {name: attributes[name] for name in kept} == kept


def test_opening_reads_no_pixel(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels())
    for chunks in result.path.glob("**/c"):
        shutil.rmtree(chunks)
    assert open_result(result.path).labels().shape == (5, 1, 12, 16)
    assert "T 5, P 1, Z 1, Y 12, X 16" in repr(result)


# ---- what is no result ---------------------------------------------------------------------

GROUP = {"zarr_format": 3, "node_type": "group"}
FOREIGN = {
    "empty": b"",
    "broken json": b"{",
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "no attributes": json.dumps(GROUP).encode(),
    "a number": json.dumps(GROUP | {"attributes": {"cypose_dask": 7}}).encode(),
    "no layout": json.dumps(GROUP | {"attributes": {"cypose_dask": {}}}).encode(),
    "half a layout": json.dumps(
        GROUP | {"attributes": {"cypose_dask": {"layout": {"position_names": ["a"]}}}}
    ).encode(),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_damaged_and_foreign_groups_are_no_results(tmp_path, what):
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr/zarr.json").write_bytes(FOREIGN[what])
    with pytest.raises(ResultError, match=r"x\.zarr: no result of cypose-dask"):
        open_result(tmp_path / "x.zarr")


def test_missing_paths_folders_files_and_other_zarrs_are_no_results(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("text")
    zarr.create_array(tmp_path / "array", shape=(3,), dtype="u1")
    zarr.create_group(tmp_path / "group")
    zarr.create_group(tmp_path / "group2", zarr_format=2)
    write_result(tmp_path / "m.zarr", make_labels())
    names = ("nothing", "folder", "file", "array", "group", "group2", "m.zarr/0", "file/inside")
    for name in names:
        with pytest.raises(ResultError, match="no result of cypose-dask"):
            open_result(tmp_path / name)


# ---- metadata ------------------------------------------------------------------------------


@pytest.mark.parametrize("scaled", [True, False])
def test_labels_are_valid_ome_ngff(tmp_path, scaled):
    unknown = {} if scaled else dict.fromkeys(("pixel_size_um", "z_step_um", "interval_s"))
    result = write_result(tmp_path / "m.zarr", make_labels(p=2), **unknown)
    for p in range(2):
        group = zarr.open_group(result.path, mode="r")[f"{p}/labels"]
        assert Labels.from_zarr(group).ome_attributes.labels == ["cells"]
        assert "image-label" in group["cells"].attrs["ome"]
        image = ImageLabel.from_zarr(group["cells"]).ome_attributes.multiscales[0]
        assert [axis.name for axis in image.axes] == ["t", "z", "y", "x"]
        scale = image.datasets[0].coordinateTransformations[0].scale
        assert scale == ([300.0, 0.5, 0.065, 0.065] if scaled else [1.0] * 4)
        units = ["second", *["micrometer"] * 3] if scaled else [None] * 4
        assert [axis.unit for axis in image.axes] == units


def test_the_root_has_the_layout_of_bioformats2raw(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels(p=3))
    root = zarr.open_group(result.path, mode="r")
    assert root.attrs["ome"] == {"version": "0.5", "bioformats2raw.layout": 3}
    assert sorted(root.group_keys()) == ["0", "1", "2"]


def test_no_file_in_a_result_is_foreign_to_zarr(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels(), debug=True)
    names = {file.name for file in result.path.rglob("*") if file.is_file()}
    assert {name for name in names if not name.isdigit()} == {"zarr.json"}


@pytest.mark.parametrize("lost", ["labels/cells/0", "flows", "cellprob"])
def test_a_block_that_lost_a_file_is_known(lost, tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels(t=5) * 0, debug=True)
    assert [result.lost_shards(0, first) for first in (0, 2, 4)] == [[], [], []]
    (shard,) = (file for file in (result.path / "0" / lost / "c/1").rglob("*") if file.is_file())
    shard.write_bytes(b"")
    assert [result.lost_shards(0, first) for first in (0, 2, 4)] == [[], [lost], []]
    shard.unlink()
    assert [result.lost_shards(0, first) for first in (0, 2, 4)] == [[], [lost], []]


def test_a_block_of_an_earlier_store_is_not_written_into_the_next_one(tmp_path):
    path, block = tmp_path / "m.zarr", {"labels": make_labels(t=2)[:, 0] + 1}
    earlier = write_result(path, make_labels() + 1)
    write_block(path, (0, 2), block, earlier.token)
    shutil.rmtree(path)
    create_result(path, layout_of(make_labels()), {})
    with pytest.raises(ResultError, match="made anew"):
        write_block(path, (0, 2), block, earlier.token)
    assert not open_result(path).labels()[:].any()
    write_block(path, (0, 2), block, open_result(path).token)
    assert open_result(path).labels()[2:4].all()
