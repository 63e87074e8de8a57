"""Labelled TIFs: every page equals the zarr, any program reads them, and none is half written."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage import io
from zarr.storage import LocalStore

from cypose_dask.errors import IncompleteResultError, ResultError
from cypose_dask.results import Status, export_tif
from cypose_dask.results import tif as tif_module
from cypose_dask.results.pages import LabelPages
from helpers.results import (
    INTERVAL_S,
    PIXEL_UM,
    Z_STEP_UM,
    make_labels,
    write_result,
)

DONE, FAILED, DAMAGED, PENDING = Status.DONE, Status.FAILED, Status.DAMAGED, Status.PENDING


def with_many_cells(count: int) -> np.ndarray:
    """Labels of 2 frames, the second with `count` cells of one pixel."""
    labels = make_labels(t=2, y=256, x=257)
    labels[1].reshape(-1)[:count] = np.arange(1, count + 1)
    return labels


def kind_of(path) -> tuple[str, np.dtype]:
    with tifffile.TiffFile(path) as tif:
        kind = "imagej" if tif.is_imagej else "ome"
        assert tif.is_bigtiff == (kind == "ome") == tif.is_ome
        return kind, tif.series[0].dtype


# ---- pixels --------------------------------------------------------------------------------


@pytest.mark.parametrize("frames_per_block", [1, 2, 8])
@pytest.mark.parametrize(
    ("t", "z", "axes"),
    [(5, 1, "TYX"), (4, 3, "TZYX"), (1, 1, "YX"), (1, 3, "ZYX"), (2, 2, "TZYX")],
)
def test_every_page_equals_the_zarr(tmp_path, t, z, axes, frames_per_block):
    labels = make_labels(t=t, z=z)
    result = write_result(tmp_path / "m.zarr", labels, frames_per_block=frames_per_block)
    (path,) = export_tif(result, tmp_path / "x.tif")
    assert np.array_equal(tifffile.imread(path), labels.squeeze(axis=1).squeeze())
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].axes == axes
        assert len(tif.pages) == t * z


@pytest.mark.parametrize(("y", "x"), [(8, 9), (9, 3), (3, 3), (5, 4), (4, 3)])
def test_frames_of_odd_sizes_are_not_taken_for_colours(tmp_path, y, x):
    labels = np.arange(3 * y * x, dtype=np.uint32).reshape(3, 1, 1, y, x)
    result = write_result(tmp_path / "m.zarr", labels)
    (path,) = export_tif(result, tmp_path / "x.tif")
    assert np.array_equal(tifffile.imread(path), labels[:, 0, 0])


def test_each_position_becomes_a_file(tmp_path):
    labels = make_labels(t=2, p=3)
    paths = export_tif(write_result(tmp_path / "m.zarr", labels), tmp_path / "x.tif")
    assert [path.name for path in paths] == ["x_p000.tif", "x_p001.tif", "x_p002.tif"]
    for p, path in enumerate(paths):
        assert np.array_equal(tifffile.imread(path), labels[:, p, 0])


def test_a_path_is_as_good_as_a_result(tmp_path):
    write_result(tmp_path / "m.zarr", make_labels())
    (path,) = export_tif(str(tmp_path / "m.zarr"), str(tmp_path / "new" / "x.tif"))
    assert path == tmp_path / "new" / "x.tif"
    assert np.array_equal(tifffile.imread(path), make_labels()[:, 0, 0])


def test_an_older_file_is_replaced(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels())
    (tmp_path / "x.tif").write_text("older")
    export_tif(result, tmp_path / "x.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "x.tif"), make_labels()[:, 0, 0])


def test_other_programs_read_the_file(tmp_path):
    labels = make_labels()
    (path,) = export_tif(write_result(tmp_path / "m.zarr", labels), tmp_path / "x.tif")
    assert np.array_equal(io.imread(path), labels[:, 0, 0])
    with Image.open(path) as image:
        assert image.n_frames == 5
        image.seek(4)
        assert np.array_equal(np.asarray(image), labels[4, 0, 0])


# ---- kinds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "kind", "dtype"), [(65_535, "imagej", np.uint16), (65_536, "ome", np.uint32)]
)
def test_uint16_ends_at_65535_cells(tmp_path, cells, kind, dtype):
    labels = with_many_cells(cells)
    (path,) = export_tif(write_result(tmp_path / "m.zarr", labels), tmp_path / "x.tif")
    assert kind_of(path) == (kind, dtype)
    assert np.array_equal(tifffile.imread(path), labels[:, 0, 0])


def test_each_position_has_its_own_kind(tmp_path):
    labels = np.concatenate([with_many_cells(9), with_many_cells(65_536)], axis=1)
    paths = export_tif(write_result(tmp_path / "m.zarr", labels), tmp_path / "x.tif")
    assert [kind_of(path)[0] for path in paths] == ["imagej", "ome"]


def test_what_would_not_fit_into_an_imagej_file_becomes_a_bigtiff_of_uint16(tmp_path, monkeypatch):
    labels = make_labels(t=4)
    result = write_result(tmp_path / "m.zarr", labels)
    tags = 4 * tif_module._TAG_BYTES_A_PAGE
    monkeypatch.setattr(tif_module, "_LARGEST_CLASSIC_BYTES", tags)
    (path,) = export_tif(result, tmp_path / "x.tif")
    assert kind_of(path) == ("ome", np.uint16)
    assert np.array_equal(tifffile.imread(path), labels[:, 0, 0])


def test_compressible_labels_above_4_gb_are_still_an_imagej_file(tmp_path, monkeypatch):
    result = write_result(tmp_path / "m.zarr", make_labels(y=500, x=500))
    pages = LabelPages.of(result, 0)
    monkeypatch.setattr(tif_module, "_LARGEST_CLASSIC_BYTES", pages.array.nbytes // 8)
    assert pages.array.nbytes_stored() < pages.array.nbytes / 100
    assert tif_module._fits_classic(pages)


# ---- metadata ------------------------------------------------------------------------------


def test_an_imagej_file_keeps_its_scale(tmp_path):
    (path,) = export_tif(write_result(tmp_path / "m.zarr", make_labels(z=2)), tmp_path / "x.tif")
    with tifffile.TiffFile(path) as tif:
        known, page = tif.imagej_metadata, tif.pages[0]
        assert (known["frames"], known["slices"], known["hyperstack"]) == (5, 2, True)
        assert (known["unit"], known["finterval"], known["spacing"]) == ("um", 300.0, 0.5)
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        for tag in ("XResolution", "YResolution"):
            number, divisor = page.tags[tag].value
            assert divisor / number == pytest.approx(PIXEL_UM)
        assert page.tags["ResolutionUnit"].value == tifffile.RESUNIT.NONE


def test_an_ome_file_keeps_its_scale(tmp_path):
    labels = with_many_cells(65_536)
    (path,) = export_tif(write_result(tmp_path / "m.zarr", labels), tmp_path / "x.tif")
    with tifffile.TiffFile(path) as tif:
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        page = tif.pages[0]
        assert page.tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
        number, divisor = page.tags["XResolution"].value
    assert 1e4 * divisor / number == pytest.approx(PIXEL_UM)
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (PIXEL_UM, "µm")
    assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeZ"]) == (PIXEL_UM, Z_STEP_UM)
    assert (pixels["TimeIncrement"], pixels["TimeIncrementUnit"]) == (INTERVAL_S, "s")
    assert (pixels["SizeT"], pixels["SizeZ"], pixels["SizeC"]) == (2, 1, 1)


@pytest.mark.parametrize("cells", [9, 65_536])
def test_a_file_without_scale_claims_none(tmp_path, cells):
    nothing = dict.fromkeys(("pixel_size_um", "z_step_um", "interval_s"))
    result = write_result(tmp_path / "m.zarr", with_many_cells(cells), **nothing)
    (path,) = export_tif(result, tmp_path / "x.tif")
    with tifffile.TiffFile(path) as tif:
        text = tif.pages[0].description
        assert not any(w in text for w in ("unit=", "finterval", "spacing", "Physical", "TimeInc"))
        assert tif.pages[0].tags["XResolution"].value == (1, 1)


def test_our_own_reader_opens_the_file(tmp_path):
    from cypose_dask.movies import open_movie

    labels = make_labels(z=2)
    (path,) = export_tif(write_result(tmp_path / "m.zarr", labels), tmp_path / "x.tif")
    info = open_movie(path).info
    assert (info.sizes["T"], info.sizes["Z"]) == (5, 2)
    assert info.pixel_size_um == pytest.approx(PIXEL_UM)
    assert (info.interval_s, info.z_step_um) == (INTERVAL_S, Z_STEP_UM)


# ---- incomplete and contradictory results --------------------------------------------------


def test_an_incomplete_result_is_refused_with_its_frames(tmp_path):
    status = np.array([[DONE], [FAILED], [DONE], [PENDING], [DAMAGED]], np.uint8)
    result = write_result(tmp_path / "m.zarr", make_labels(), status=status, start_frame=10)
    words = r"3 frames .*t=11 p=0 z=0 \(failed\), t=13 p=0 z=0 \(pending\), t=14 .*\(damaged\)"
    with pytest.raises(IncompleteResultError, match=words):
        export_tif(result, tmp_path / "x.tif")
    assert not (tmp_path / "x.tif").exists()


def test_many_missing_frames_are_counted(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels(t=9), status=np.zeros((9, 1), np.uint8))
    with pytest.raises(IncompleteResultError, match=r"9 frames .* and 4 more"):
        export_tif(result, tmp_path / "x.tif")


def test_allowed_gaps_are_blank_even_where_a_killed_run_left_pixels(tmp_path):
    status = np.array([[DONE], [FAILED], [DONE], [PENDING], [DAMAGED]], np.uint8)
    result = write_result(tmp_path / "m.zarr", make_labels(), status=status)
    (path,) = export_tif(result, tmp_path / "x.tif", allow_incomplete=True)
    expected = make_labels()[:, 0, 0] * (status == DONE)[..., np.newaxis]
    assert np.array_equal(tifffile.imread(path), expected)


@pytest.mark.parametrize("counted", [0, 3, 5])
def test_labels_that_contradict_the_count_of_cells_are_refused(tmp_path, counted):
    cells = np.array([[0], [1], [2], [3], [counted]])
    result = write_result(tmp_path / "m.zarr", make_labels(), cells=cells)
    with pytest.raises(ResultError, match=f"t=4 z=0 .*labels up to 4, but {counted} cells"):
        export_tif(result, tmp_path / "x.tif")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "m.zarr"]


def test_a_label_beyond_uint16_is_never_wrapped(tmp_path):
    cells = np.array([[0], [9]])
    result = write_result(tmp_path / "m.zarr", with_many_cells(65_537), cells=cells)
    with pytest.raises(ResultError, match="labels up to 65537, but 9 cells"):
        export_tif(result, tmp_path / "x.tif")


@pytest.mark.parametrize("lose", [Path.unlink, lambda file: file.write_bytes(b"")])
def test_a_lost_shard_is_not_taken_for_frames_without_cells(tmp_path, lose):
    result = write_result(tmp_path / "m.zarr", make_labels())
    lose(tmp_path / "m.zarr/0/labels/cells/0/c/1/0/0/0")
    with pytest.raises(ResultError, match=r"no file for the block of t=2"):
        export_tif(result, tmp_path / "x.tif")


@pytest.mark.parametrize("harm", ["cut", "flip"])
def test_a_damaged_shard_is_refused_by_its_name(tmp_path, harm):
    result = write_result(tmp_path / "m.zarr", make_labels())
    shard = tmp_path / "m.zarr/0/labels/cells/0/c/1/0/0/0"
    content = bytearray(shard.read_bytes())
    content[10] ^= 0xFF
    content[-10] ^= 0xFF
    shard.write_bytes(content if harm == "flip" else content[: len(content) // 2])
    with pytest.raises(ResultError, match=r"m\.zarr: 0/labels/cells/0.*cannot be read"):
        export_tif(result, tmp_path / "x.tif")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "m.zarr"]


# ---- whole or not at all -------------------------------------------------------------------


def test_a_full_disk_leaves_no_file_and_says_so(tmp_path, monkeypatch):
    result = write_result(tmp_path / "m.zarr", make_labels())
    written = []

    def fill_up(self, data, *args):
        written.append(len(data))
        if len(written) > 3:
            raise OSError(28, "No space left on device")
        return self._fh.write(data)

    monkeypatch.setattr(tifffile.FileHandle, "write", fill_up)
    with pytest.raises(ResultError, match=r"could not be written \(No space left on device\)"):
        export_tif(result, tmp_path / "x.tif")
    assert written
    assert sorted(tmp_path.iterdir()) == [tmp_path / "m.zarr"]


def test_a_failure_keeps_the_older_file(tmp_path, monkeypatch):
    result = write_result(tmp_path / "m.zarr", make_labels())
    export_tif(result, tmp_path / "x.tif")
    before = (tmp_path / "x.tif").read_bytes()
    monkeypatch.setattr(tif_module, "_check", lambda path, pages: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_tif(result, tmp_path / "x.tif")
    assert (tmp_path / "x.tif").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_page_that_changed_on_its_way_to_the_disk_is_noticed(tmp_path, monkeypatch):
    result = write_result(tmp_path / "m.zarr", make_labels())
    write = tif_module._write_pages

    def write_another(path, pages):
        write(path, pages)
        with tifffile.TiffFile(path, mode="r+b") as tif:
            labels = tif.asarray()
        labels[-1] += 1
        tifffile.imwrite(path, labels, imagej=True, metadata={"axes": "TYX"})

    monkeypatch.setattr(tif_module, "_write_pages", write_another)
    with pytest.raises(ResultError, match="page 4 differs"):
        export_tif(result, tmp_path / "x.tif")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "m.zarr"]


def test_missing_pages_are_noticed(tmp_path, monkeypatch):
    result = write_result(tmp_path / "m.zarr", make_labels())
    short = lambda path, pages: tifffile.imwrite(path, make_labels(t=2)[:, 0, 0].astype("u2"))  # noqa: E731
    monkeypatch.setattr(tif_module, "_write_pages", short)
    with pytest.raises(ResultError, match=r"holds 2 pages of shape \(2, 12, 16\).*expected 5"):
        export_tif(result, tmp_path / "x.tif")


def test_a_folder_of_the_files_name_is_refused(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels())
    (tmp_path / "x.tif").mkdir()
    with pytest.raises(ResultError, match="is a folder"):
        export_tif(result, tmp_path / "x.tif")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    result = write_result(tmp_path / "m.zarr", make_labels())
    (tmp_path / "file").touch()
    with pytest.raises(ResultError, match="could not be written"):
        export_tif(result, tmp_path / "file" / "x.tif")


# ---- memory --------------------------------------------------------------------------------


@pytest.fixture
def shard_reads(monkeypatch) -> Counter:
    """Counts reads of each chunk file of labels."""
    reads, get = Counter(), LocalStore.get

    async def counted(self, key, *args, **kwargs):
        if "labels/cells/0/c/" in key:
            reads[key] += 1
        return await get(self, key, *args, **kwargs)

    monkeypatch.setattr(LocalStore, "get", counted)
    return reads


def test_pages_read_each_shard_once(tmp_path, shard_reads):
    result = write_result(tmp_path / "m.zarr", make_labels(t=40, z=2) + 1, frames_per_block=4)
    shard_reads.clear()
    pages = list(LabelPages.of(result, 0))
    assert len(pages) == 80
    assert len(shard_reads) == 10
    assert set(shard_reads.values()) == {1}


def test_the_export_of_a_long_result_reads_only_three_pages_again(tmp_path, shard_reads):
    result = write_result(tmp_path / "m.zarr", make_labels(t=100, y=32, x=32), frames_per_block=4)
    shard_reads.clear()
    export_tif(result, tmp_path / "x.tif")
    again = {key: count - 1 for key, count in shard_reads.items() if count > 1}
    assert len(again) == 3
    assert sum(again.values()) <= 6  # the index of a shard, and one chunk of it
