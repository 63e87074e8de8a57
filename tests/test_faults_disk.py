"""Disks that are full or read-only, for real: a small file system of its own."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
import tifffile

from cypose_dask.errors import ResultError
from cypose_dask.results import Status, export_tif, open_result

PAGE = 4096


@pytest.fixture
def disk(tmp_path):
    """A file system of 256 KB; skips where none can be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting needs rights that this process lacks")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk, *, leave):
    """Fill the disk but for so many bytes; returns the file that fills it."""
    filler, free = disk / "filler.bin", 0
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * PAGE)
        except OSError:
            free = max(0, file.tell() - leave)
    with filler.open("r+b") as file:
        file.truncate(free)
    return filler


def test_a_disk_that_fills_up_stops_the_run_and_room_continues_it(
    cli, nd2_path, expected_labels, disk
):
    command = ("segment", nd2_path, "-o", disk / "m.tif", "--frames-per-block", "1")
    # Room for the empty result and some of its blocks.
    filler = fill(disk, leave=11 * PAGE)
    code, _, err = cli(*command, "--workers", "1")
    assert code == 4, err
    assert "No space left on device" in err
    assert "run the same command again" in err
    assert not (disk / "m.tif").exists()
    filler.unlink()
    code, _, err = cli(*command, "--workers", "1")
    assert code == 0, err
    np.testing.assert_array_equal(tifffile.imread(disk / "m.tif"), expected_labels)


def test_a_disk_without_room_for_a_result_says_so(cli, nd2_path, disk):
    fill(disk, leave=2 * PAGE)
    code, _, err = cli("segment", nd2_path, "-o", disk / "m.tif", "--workers", "1")
    assert code == 4, err
    assert "No space left on device" in err
    assert not (disk / "m.zarr").exists()


@pytest.fixture(scope="module")
def whole(movie, client, tmp_path_factory):
    """A whole result."""
    from cypose_dask.run import segment

    return segment(movie, tmp_path_factory.mktemp("whole") / "m.zarr", client=client)


def test_a_tif_that_does_not_fit_leaves_nothing(whole, disk):
    fill(disk, leave=0)
    with pytest.raises(ResultError, match=r"No space left on device.*the zarr is whole"):
        export_tif(whole, disk / "m.tif")
    assert [path.name for path in disk.iterdir()] == ["filler.bin"]
    assert (open_result(whole.path).status() == Status.DONE).all()


def test_a_read_only_disk_is_refused_before_any_work(cli, nd2_path, disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    code, out, err = cli("segment", nd2_path, "-o", disk / "m.tif", "--workers", "1")
    assert code == 1, err
    assert "Read-only file system" in err
    assert "frames" not in out  # no plan, no work
