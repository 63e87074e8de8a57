"""Folders and names as laboratories have them: sets, links, odd names, no place to write."""

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cypose_dask.errors import MovieError, MovieNotFoundError
from cypose_dask.movies import open_movie
from cypose_dask.results.atomic import whole_file
from cypose_dask.run import find_movies
from helpers.nd2_writer import write_nd2
from helpers.stamps import stamped
from helpers.zarr_writer import write_positions

ODD_NAMES = ["with space", "hash#1", "100%", "p%20q", "Zelle ü 細胞", "a;b&c'd", "-dash", "x" * 200]


@pytest.fixture
def segment(cli, client):
    """Run ``cypose-dask segment`` on the tests' cluster."""
    return lambda *args: cli("segment", *args, "--scheduler", client.scheduler.address)


@pytest.fixture
def frame(synthetic):
    """One frame (Y, X) with cells."""
    return synthetic.frames[0, 0]


def found(*args, **kwargs):
    return [Path(source.path).name for source in find_movies(args, **kwargs)]


# ---- sets of files --------------------------------------------------------------------------


def write_set(folder, movie, names, *, root_uuid=True):
    """Write each frame as a file of an OME-TIFF set."""
    folder.mkdir(exist_ok=True)
    data = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1"><UUID FileName="{n}">urn:{n}</UUID>'
        "</TiffData>"
        for t, n in enumerate(names)
    )
    for t, name in enumerate(names):
        own = f' UUID="urn:{name}"' if root_uuid else ""
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
            f'{own}><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" '
            f'SizeX="7" SizeY="5" SizeC="1" SizeZ="1" SizeT="{len(names)}">'
            f'<Channel ID="Channel:0:0"/>{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            folder / name, movie[t, 0, 0, 0], description=xml, metadata=None,
            photometric="minisblack",
        )  # fmt: skip
    return folder


@pytest.mark.parametrize("root_uuid", [True, False])
def test_a_set_in_a_folder_is_one_movie(tmp_path, caplog, root_uuid):
    names = ["m0.ome.tif", "m1.ome.tif", "m10.ome.tif"]
    folder = write_set(tmp_path / "in", stamped(T=3), names, root_uuid=root_uuid)
    tifffile.imwrite(folder / "other.tif", stamped()[0, 0, 0, 0])
    with caplog.at_level(logging.WARNING):
        assert found(folder) == ["m0.ome.tif", "other.tif"]
    assert "m10.ome.tif is a part of" in caplog.text
    assert open_movie(folder / "m0.ome.tif").info.sizes["T"] == 3


def test_a_set_given_file_by_file_is_one_movie(tmp_path):
    folder = write_set(tmp_path / "in", stamped(T=2), ["b.ome.tif", "a.ome.tif"])
    assert found(folder / "b.ome.tif", folder / "a.ome.tif") == ["b.ome.tif"]


def test_a_member_that_only_points_to_its_set_is_left_out(tmp_path):
    folder = write_set(tmp_path / "in", stamped(T=2), ["z.ome.tif", "a.ome.tif"])
    pointing = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:a.ome.tif"><BinaryOnly MetadataFile="z.ome.tif" UUID="urn:z.ome.tif"/></OME>'
    )
    tifffile.imwrite(
        folder / "a.ome.tif", stamped(T=2)[1, 0, 0, 0], description=pointing, metadata=None
    )
    assert found(folder) == ["z.ome.tif"]


def test_a_copy_of_a_movie_is_no_part_of_it(tmp_path):
    folder = write_set(tmp_path / "in", stamped(T=1), ["a.ome.tif"])
    shutil.copy(folder / "a.ome.tif", folder / "copy.ome.tif")
    assert found(folder) == ["a.ome.tif", "copy.ome.tif"]


def test_a_set_without_a_member_is_still_one_movie_and_refused(tmp_path):
    folder = write_set(tmp_path / "in", stamped(T=3), [f"m{t}.ome.tif" for t in range(3)])
    (folder / "m1.ome.tif").unlink()
    assert found(folder) == ["m0.ome.tif"]
    with pytest.raises(MovieError, match=r"m1\.ome\.tif"):
        open_movie(folder / "m0.ome.tif")


# The second is a TIFF with one tag of a type that does not exist, of which tifffile complains.
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"II*\0\x08\0\0\0\1\0\0\1\x63\0\1\0\0\0\0\0\0\0\0\0\0\0",
        b"II*\0",
        b"hello",
        b"\x89PNG\r\n\x1a\n",
        None,
    ],
)
def test_a_file_that_cannot_be_opened_is_kept_for_its_own_error(tmp_path, content, caplog):
    if content is not None:
        (tmp_path / "bad.tif").write_bytes(content)
    else:
        (tmp_path / "bad.tif").symlink_to("bad.tif")  # a link to itself
    tifffile.imwrite(tmp_path / "good.tif", stamped()[0, 0, 0, 0])
    assert found(tmp_path) == ["bad.tif", "good.tif"]
    assert not caplog.records


# ---- links ----------------------------------------------------------------------------------


def test_broken_links_fail_alone(tmp_path, frame, segment):
    tifffile.imwrite(tmp_path / "good.tif", frame)
    (tmp_path / "dangling.tif").symlink_to(tmp_path / "nowhere.tif")
    (tmp_path / "loop.tif").symlink_to("loop.tif")
    code, out, err = segment(tmp_path)
    assert code == 1
    assert "1 of 3 movies are whole" in out
    for name in ("dangling.tif", "loop.tif"):
        assert f"{name}: there is no such file" in err
    assert (tmp_path / "good_cp_masks.tif").is_file()


def test_loops_of_folders_end_in_patterns_too(tmp_path):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    for t in range(3):
        tifffile.imwrite(deep / f"img{t}.tif", stamped(T=3)[t, 0, 0, 0])
    for name in ("one", "two"):
        (deep / name).symlink_to(tmp_path / "a")
    movie = open_movie(str(tmp_path / "**" / "img*.tif"))
    assert movie.info.sizes["T"] == 3


def test_a_folder_that_may_not_be_read_is_said(tmp_path, monkeypatch):
    (tmp_path / "private").mkdir()
    (tmp_path / "a.tif").touch()
    real = Path.iterdir

    def denied(self):
        if self.name == "private":
            raise PermissionError(13, "Permission denied")
        return real(self)

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(MovieError, match="private: Permission denied"):
        find_movies([tmp_path], recursive=True)


def test_a_movie_that_may_not_be_read_fails_alone(tmp_path, frame, segment, monkeypatch):
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, frame)
    real = Path.open

    def denied(self, *args, **kwargs):
        if self.name == "a.tif":
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", denied)
    code, out, err = segment(tmp_path)
    assert code == 1
    assert "1 of 2 movies are whole" in out
    assert "a.tif: cannot be read (Permission denied)" in err


# ---- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_work_from_end_to_end(name, tmp_path, frame, segment, cli, expected_labels):
    folder = tmp_path / f"in {name[:50]}" / name
    folder.mkdir(parents=True)
    tifffile.imwrite(folder / f"{name}.tif", frame)
    out = tmp_path / f"out {name[:50]}"
    code, _, err = segment(folder, "-o", out)
    assert code == 0, err
    np.testing.assert_array_equal(tifffile.imread(out / f"{name}_cp_masks.tif"), expected_labels[0])
    again = tmp_path / f"{name[:50]} again.tif"
    code, _, err = cli("export", out / f"{name}.zarr", "-o", again)
    assert code == 0, err
    np.testing.assert_array_equal(tifffile.imread(again), expected_labels[0])
    with pytest.raises(MovieNotFoundError, match="holds no movie"):
        find_movies([out])


def test_very_long_paths_work_from_end_to_end(tmp_path, frame, segment, cli, expected_labels):
    folder = tmp_path.joinpath(*["d" * 150] * 8)
    folder.mkdir(parents=True)
    assert len(str(folder)) > 1200
    tifffile.imwrite(folder / "m.tif", frame)
    code, _, err = segment(folder / "m.tif")
    assert code == 0, err
    np.testing.assert_array_equal(tifffile.imread(folder / "m_cp_masks.tif"), expected_labels[0])
    assert cli("export", folder / "m.zarr", "-o", folder / "again.tif")[0] == 0


@pytest.mark.parametrize("letters", [228, 245])
def test_names_too_long_for_outputs_are_refused_before_any_work(letters, tmp_path, frame, segment):
    source = tmp_path / f"{'x' * letters}.tif"
    tifffile.imwrite(source, frame)
    code, _, err = segment(source)
    assert code == 1
    assert "shorter name, with -o" in err
    assert list(tmp_path.iterdir()) == [source]
    code, _, err = segment(source, "-o", tmp_path / "short.tif")
    assert code == 0, err


# ---- places ---------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["file/out", "file/out.tif"])
def test_an_output_below_a_file_is_refused_before_any_work(output, tmp_path, frame, segment):
    tifffile.imwrite(tmp_path / "a.tif", frame)
    (tmp_path / "file").write_text("not a folder")
    code, out, err = segment(tmp_path / "a.tif", "-o", tmp_path / output)
    assert code == 1
    assert "cannot be written there" in err
    assert "frames" not in out.replace("0 frames", "")
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_folder_that_may_not_be_written_is_refused_before_any_work(tmp_path, frame, segment):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tifffile.imwrite(tmp_path / "a.tif", frame)
    (tmp_path / "out").mkdir(mode=0o500)
    code, _, err = segment(tmp_path / "a.tif", "-o", tmp_path / "out")
    assert code == 1
    assert "cannot be written there (Permission denied)" in err


# ---- outputs as inputs, names from inside files ---------------------------------------------


def test_unfinished_outputs_are_no_inputs(tmp_path, frame):
    tifffile.imwrite(tmp_path / "a.tif", frame)
    with suppress(KeyboardInterrupt), whole_file(tmp_path / "labels.tif") as partial:
        partial.write_bytes((tmp_path / "a.tif").read_bytes())
        assert found(tmp_path) == ["a.tif"]
        raise KeyboardInterrupt
    assert found(tmp_path) == ["a.tif"]


def test_names_inside_files_name_no_outputs(tmp_path, synthetic, segment, cli, client):
    """Positions and channels called ``../../x`` stay where the movie's own name puts them."""
    folder, out = tmp_path / "lab" / "in", tmp_path / "lab" / "out"
    folder.mkdir(parents=True)
    evil = "../../evil"
    write_nd2(folder / "a.nd2", synthetic.frames[:1], axes="TCYX", channels=[evil, "/etc/evil"])
    with tifffile.TiffWriter(folder / "b.ome.tif", ome=True) as writer:
        for p in range(2):
            writer.write(
                synthetic.frames[:1, 0], photometric="minisblack",
                metadata={"axes": "TYX", "Name": f"{evil}{p}", "Channel": {"Name": [evil]}},
            )  # fmt: skip
    movie = synthetic.frames[:1, :1].reshape(1, 1, 1, 1, 64, 64)
    write_positions(folder / "c.zarr", np.repeat(movie, 2, axis=1), "0.5", listed=True)
    code, _, err = segment(folder, "-o", out, "--channels", "0")
    assert code == 0, err
    code, _, err = cli("convert", folder, "-o", out, "--scheduler", client.scheduler.address)
    assert code == 0, err
    assert open_movie(folder / "b.ome.tif").info.position_names == (f"{evil}0", f"{evil}1")
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lab"]
    assert sorted(path.name for path in folder.iterdir()) == ["a.nd2", "b.ome.tif", "c.zarr"]


def test_movies_of_several_sizes_in_a_folder_are_independent(tmp_path, segment, synthetic):
    folder = tmp_path / "in"
    folder.mkdir()
    frame = synthetic.frames[0, 0]
    tifffile.imwrite(folder / "a.tif", frame)
    tifffile.imwrite(folder / "b.tif", frame[:40, :50].astype(np.float64))
    tifffile.imwrite(folder / "c.tif", np.stack([frame] * 2), imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite(folder / "tiny.tif", frame[:1, :1])
    code, out, err = segment(folder, "-o", tmp_path / "again")
    assert code == 1
    assert "3 of 4 movies are whole" in out, err
    assert "tiny.tif: frames are 1 x 1 px; Cellpose needs at least 8 x 8" in err
    shapes = [tifffile.imread(tmp_path / "again" / f"{n}_cp_masks.tif").shape for n in "abc"]
    assert shapes == [(64, 64), (40, 50), (2, 64, 64)]
