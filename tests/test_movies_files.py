"""What every reader asks of a path: it exists, holds something, and is plausible."""

import pytest

from cypose_dask.errors import DamagedFrameError, MovieError, MovieNotFoundError
from cypose_dask.movies import files
from cypose_dask.movies.fingerprint import PIECE_BYTES, fingerprint_of_files


@pytest.mark.parametrize("shape", [(1, 0, 5), (1, 50_000, 50_000), (-1, 5, 5)])
def test_absurd_frames_are_refused_before_anything_is_allocated(shape):
    with pytest.raises(MovieError, match="header claims frames"):
        files.require_sane_frame("a.tif", shape)
    files.require_sane_frame("a.tif", (1, 40_000, 40_000))


def test_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(MovieNotFoundError, match="existing file"):
        files.stamp_of_file(str(tmp_path / "a.tif"))


def test_failing_disk_is_not_called_a_damaged_frame():
    with pytest.raises(MovieError) as failure, files.reading_errors("a.tif", (0, 0, 0), ValueError):
        raise OSError(5, "Input/output error")
    assert not isinstance(failure.value, DamagedFrameError)
    with pytest.raises(DamagedFrameError), files.reading_errors("a.tif", (0, 0, 0), ValueError):
        raise ValueError("bad code")


def test_fingerprint_sees_first_and_last_bytes_and_the_size(tmp_path):
    path = tmp_path / "a.bin"
    original = bytes(40 * PIECE_BYTES)
    seen = set()
    for content in (
        original, b"\1" + original[1:], original[:-1] + b"\1", original + b"\0",
        original[: 20 * PIECE_BYTES] + b"\1" * 3 * PIECE_BYTES + original[23 * PIECE_BYTES :],
    ):  # fmt: skip
        path.write_bytes(content)
        found = fingerprint_of_files([str(path)])
        assert found.size_bytes == len(content)
        seen.add(found.content_sha256)
    assert len(seen) == 5
    path.write_bytes(original)
    again = fingerprint_of_files([str(path)])
    assert again.content_sha256 in seen
    assert again.mtime_ns == path.stat().st_mtime_ns
