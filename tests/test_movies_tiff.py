"""TIFF: every kind, every order of axes, units, and every way of being cut."""

import logging
from itertools import permutations

import numpy as np
import pytest
import tifffile

from cypose_dask.errors import DamagedFrameError, MovieError
from cypose_dask.movies import open_movie
from helpers.stamps import stamped, stored_as
from helpers.tiff_writer import KINDS, damage, write_ome_positions, write_tiff

ORDERS = ["".join(order) for n in range(4) for order in permutations("TZC", n)]
IMAGEJ_ORDERS = [order for order in ORDERS if order == "".join(a for a in "TZC" if a in order)]


def same(movie, expected):
    assert movie.frames.shape == expected.shape
    np.testing.assert_array_equal(movie.frames.compute(scheduler="sync"), expected)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["ome", "ome-big", "shaped"])
def test_every_order_of_axes_is_read_as_tpzcyx(tmp_path, kind, order):
    movie = stamped(**{axis: 2 + i for i, axis in enumerate(order)})
    same(open_movie(write_tiff(tmp_path / "a.tif", movie, kind, order + "YX")), movie)


@pytest.mark.parametrize("order", IMAGEJ_ORDERS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("imagej")])
def test_imagej_hyperstacks_of_any_axes_are_read(tmp_path, kind, order):
    movie = stamped(**dict.fromkeys(order, 3))
    same(open_movie(write_tiff(tmp_path / "a.tif", movie, kind, order + "YX")), movie)


@pytest.mark.parametrize("single", "TZC")
@pytest.mark.parametrize("kind", KINDS)
def test_axes_of_one_step_keep_their_place(tmp_path, kind, single):
    movie = stamped(Y=18, X=20, **{axis: 1 if axis == single else 2 for axis in "TZC"})
    same(open_movie(write_tiff(tmp_path / "a.tif", movie, kind, "TZCYX")), movie)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "f2", "f4", "f8", "bool"])
def test_every_real_type_is_read_in_native_order(tmp_path, dtype):
    movie = stamped(T=2, C=2) % 2 if dtype == "bool" else stamped(T=2, C=2) % 100
    movie = movie.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored_as(movie, "TCYX"), byteorder=">",
                     photometric="minisblack", metadata={"axes": "TCYX"})  # fmt: skip
    opened = open_movie(tmp_path / "a.tif")
    same(opened, movie)
    assert opened.read_frame(0).dtype == np.dtype(dtype)
    assert opened.read_frame(0).dtype.isnative


def test_positions_of_an_ome_tiff_are_its_images(tmp_path):
    movie = stamped(T=2, P=3, C=2)
    opened = open_movie(write_ome_positions(tmp_path / "a.ome.tif", movie, "TCYX"))
    same(opened, movie)
    assert opened.info.position_names == ("field 0", "field 1", "field 2")
    same(open_movie(opened.info.path, position="field 2"), movie[:, 2:])


def test_channels_are_selected(tmp_path):
    movie = stamped(T=2, C=3)
    path = write_tiff(tmp_path / "a.tif", movie, "ome", "TCYX", Channel={"Name": ["a", "b", "c"]})
    opened = open_movie(path, channels=["c", "a"])
    same(opened, movie[:, :, :, [2, 0]])
    assert opened.info.channel_names == ("c", "a")


def test_channels_stored_side_by_side_are_selected(tmp_path):
    movie = stamped(T=2, C=3)
    tifffile.imwrite(
        tmp_path / "a.tif", stored_as(movie, "TYXC"), photometric="minisblack", byteorder=">",
        planarconfig="contig", metadata={"axes": "TYXS"},
    )  # fmt: skip
    opened = open_movie(tmp_path / "a.tif", axes="TYXC", channels=[2, 1])
    same(opened, movie[:, :, :, [2, 1]])
    assert opened.read_frame(0).dtype.isnative


def test_pages_without_metadata_are_time(tmp_path):
    movie = stamped(T=4)
    tifffile.imwrite(tmp_path / "a.tif", movie[:, 0, 0, 0], photometric="minisblack", metadata=None)
    opened = open_movie(tmp_path / "a.tif")
    same(opened, movie)
    assert "I taken as T: 4 frames" in opened.info.notes[0]


def test_axes_of_a_script_without_names_are_time_or_asked(tmp_path):
    movie = stamped(T=2, Z=3)
    tifffile.imwrite(tmp_path / "a.tif", movie[:, 0, :1, 0])
    same(open_movie(tmp_path / "a.tif"), movie[:, :, :1])
    tifffile.imwrite(tmp_path / "b.tif", movie[:, 0, :, 0], photometric="minisblack")
    with pytest.raises(MovieError, match="--axes"):
        open_movie(tmp_path / "b.tif")
    same(open_movie(tmp_path / "b.tif", axes="TZYX"), movie)


def test_frames_that_a_script_wrote_one_by_one_are_time(tmp_path):
    movie = stamped(T=4)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for frame in movie[:, 0, 0, 0]:
            writer.write(frame)
    opened = open_movie(tmp_path / "a.tif")
    same(opened, movie)
    assert "taken as T" in opened.info.notes[0]


def test_time_stored_as_planes_is_renamed_by_axes(tmp_path):
    movie = stamped(Z=4)
    path = write_tiff(tmp_path / "a.tif", movie, "imagej", "ZYX")
    opened = open_movie(path)
    same(opened, movie)
    assert any("time-lapse that was saved as slices" in note for note in opened.info.notes)
    same(open_movie(path, axes="TYX"), movie.swapaxes(0, 2))


def test_series_of_different_kinds_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.zeros((2, 8, 8), np.uint8))
        writer.write(np.zeros((9, 9), np.uint16))
    with pytest.raises(MovieError, match="2 series of different kinds"):
        open_movie(tmp_path / "a.tif")


# ---- colours -------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_is_refused_unless_averaged(tmp_path, samples, planar):
    colours = np.random.default_rng(0).integers(0, 255, (2, 5, 7, samples)).astype(np.uint8)
    stored = colours if planar == "contig" else np.moveaxis(colours, -1, 1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar,
                     extrasamples=("unassalpha",) * (samples - 3), metadata=None)  # fmt: skip
    with pytest.raises(MovieError, match=r'rgb="mean" \(--rgb mean\)'):
        open_movie(tmp_path / "a.tif")
    expected = np.rint(colours[..., :3].astype(float).mean(-1)).astype(np.uint8)
    same(open_movie(tmp_path / "a.tif", rgb="mean"), expected[:, None, None, None])


def test_samples_that_are_no_colours_are_asked_for(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stored_as(stamped(C=2), "YXC"), planarconfig="contig",
                     photometric="minisblack", metadata=None)  # fmt: skip
    with pytest.raises(MovieError, match="axes='YXC'"):
        open_movie(tmp_path / "a.tif", rgb="mean")
    same(open_movie(tmp_path / "a.tif", axes="YXC"), stamped(C=2))


def test_white_is_zero_keeps_raw_values_with_a_note(tmp_path):
    movie = stamped(T=2)
    tifffile.imwrite(tmp_path / "a.tif", movie[:, 0, 0, 0], photometric="miniswhite", metadata=None)
    opened = open_movie(tmp_path / "a.tif")
    same(opened, movie)
    assert any("not inverted" in note for note in opened.info.notes)


def test_colour_table_keeps_raw_values_with_a_note(tmp_path):
    image = stamped(np.uint8)[0, 0, 0, 0]
    table = np.arange(768, dtype=np.uint16).reshape(3, 256)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="palette", colormap=table)
    opened = open_movie(tmp_path / "a.tif")
    same(opened, image[None, None, None, None])
    assert any("colour table" in note for note in opened.info.notes)


def test_complex_pixels_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.complex64))
    with pytest.raises(MovieError, match="complex64"):
        open_movie(tmp_path / "a.tif")


# ---- units ---------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
def test_units_of_imagej(tmp_path, unit):
    tifffile.imwrite(
        tmp_path / "a.tif", stamped(T=2, Z=2)[:, 0, :, 0], imagej=True, resolution=(10, 10),
        metadata={"axes": "TZYX", "unit": unit, "finterval": 30.5, "spacing": 0.4},
    )  # fmt: skip
    info = open_movie(tmp_path / "a.tif").info
    assert info.pixel_size_um == pytest.approx(0.1)
    assert (info.interval_s, info.z_step_um) == (30.5, 0.4)


def test_units_of_ome(tmp_path):
    path = write_tiff(
        tmp_path / "a.tif", stamped(T=2, C=2), "ome", "TCYX", PhysicalSizeX=65.0,
        PhysicalSizeXUnit="nm", PhysicalSizeY=0.065, TimeIncrement=2, TimeIncrementUnit="min",
        Channel={"Name": ["BF", "Chl"]},
    )  # fmt: skip
    info = open_movie(path).info
    assert info.pixel_size_um == pytest.approx(0.065)
    assert (info.interval_s, info.channel_names) == (120.0, ("BF", "Chl"))


def test_oblong_or_unitless_pixels_have_no_size(tmp_path):
    oblong = write_tiff(
        tmp_path / "a.tif", stamped(), "ome", "YX", PhysicalSizeX=1, PhysicalSizeY=2
    )
    assert open_movie(oblong).info.pixel_size_um is None
    tifffile.imwrite(tmp_path / "b.tif", stamped()[0, 0, 0, 0], imagej=True, resolution=(10, 10))
    assert open_movie(tmp_path / "b.tif").info.pixel_size_um is None


# ---- damage --------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
@pytest.mark.parametrize("kind", [*KINDS, "plain", "plain-compressed"])
def test_cut_files_are_refused_at_opening(tmp_path, kind, share):
    movie = np.random.default_rng(0).integers(0, 60_000, (6, 1, 1, 2, 40, 40)).astype(np.uint16)
    path = tmp_path / "a.tif"
    if kind.startswith("plain"):
        compression = "zlib" if kind.endswith("compressed") else None
        tifffile.imwrite(path, movie[:, 0, 0, 0], metadata=None, compression=compression)
    else:
        write_tiff(path, movie, kind, "TCYX")
    damage(path, share)
    if share == 0.97 and kind in ("imagej", "imagej-big-endian"):
        same(open_movie(path), movie)  # only the unused pages at the end are gone
        return
    with pytest.raises(MovieError, match="xpected"):
        open_movie(path)


SALVAGEABLE = [kind for kind in KINDS if kind.startswith(("imagej", "shaped"))]


@pytest.mark.parametrize("kind", SALVAGEABLE)
def test_frames_before_the_cut_can_be_salvaged(tmp_path, kind):
    movie = np.random.default_rng(0).integers(0, 60_000, (6, 1, 1, 2, 40, 40)).astype(np.uint16)
    path = write_tiff(tmp_path / "a.tif", movie, kind, "TCYX")
    damage(path, 0.6)
    opened = open_movie(path, allow_damaged=True)
    assert opened.info.sizes == {"T": 6, "P": 1, "Z": 1, "C": 2, "Y": 40, "X": 40}
    assert opened.info.damaged == ((3, 0, 0), (4, 0, 0), (5, 0, 0))
    for t in range(3):
        np.testing.assert_array_equal(opened.read_frame(t), movie[t, 0, 0])
    for t in range(3, 6):
        with pytest.raises(DamagedFrameError):
            opened.read_frame(t)


def test_pages_that_lost_their_axes_are_salvaged_by_axes_alone(tmp_path):
    movie = np.random.default_rng(0).integers(0, 60_000, (6, 1, 1, 1, 40, 40)).astype(np.uint16)
    path = write_tiff(tmp_path / "a.tif", movie, "ome-zstd", "TYX")
    damage(path, 0.6)
    with pytest.raises(MovieError, match="counts its frames is cut off"):
        open_movie(path, allow_damaged=True)
    opened = open_movie(path, allow_damaged=True, axes="TYX")
    np.testing.assert_array_equal(opened.read_frame(2), movie[2, 0, 0])
    assert opened.info.damaged == ((3, 0, 0),)


def test_ome_set_without_a_member_is_refused_or_lists_its_frames(tmp_path):
    movie = stamped(T=3)
    names = [f"m{t}.ome.tif" for t in range(3)]
    xml = _ome_set(names)
    for t, name in enumerate(names):
        tifffile.imwrite(tmp_path / name, movie[t, 0, 0, 0], description=xml, metadata=None)
    same(open_movie(tmp_path / "m0.ome.tif"), movie)
    same(open_movie(tmp_path / "m2.ome.tif"), movie)
    (tmp_path / "m1.ome.tif").unlink()
    with pytest.raises(MovieError, match=r"m1\.ome\.tif"):
        open_movie(tmp_path / "m0.ome.tif")
    opened = open_movie(tmp_path / "m0.ome.tif", allow_damaged=True)
    assert opened.info.damaged == ((1, 0, 0),)
    np.testing.assert_array_equal(opened.read_frame(2), movie[2, 0, 0])
    with pytest.raises(DamagedFrameError):
        opened.read_frame(1)


def test_changed_member_of_an_ome_set_is_refused_by_its_name(tmp_path):
    movie = stamped(T=2)
    xml = _ome_set(["m0.ome.tif", "m1.ome.tif"])
    for t in range(2):
        path = tmp_path / f"m{t}.ome.tif"
        tifffile.imwrite(path, movie[t, 0, 0, 0], description=xml, metadata=None)
    opened = open_movie(tmp_path / "m0.ome.tif")
    same(opened, movie)
    tifffile.imwrite(
        tmp_path / "m1.ome.tif", movie[1, 0, 0, 0], description=xml + " ", metadata=None
    )
    with pytest.raises(MovieError, match=r"m1\.ome\.tif has changed"):
        opened.read_frame(1)
    np.testing.assert_array_equal(opened.read_frame(0), movie[0, 0, 0])


def test_planes_that_ome_promises_but_no_page_has_are_missing(tmp_path):
    movie = stamped(T=3)
    xml = _ome_set(["a.ome.tif"] * 3).replace('IFD="0"', 'IFD="{}"').format(0, 1, 2)
    tifffile.imwrite(tmp_path / "a.ome.tif", movie[:2, 0, 0, 0], description=xml, metadata=None,
                     photometric="minisblack")  # fmt: skip
    with pytest.raises(MovieError, match="tifffile reports"):
        open_movie(tmp_path / "a.ome.tif")
    opened = open_movie(tmp_path / "a.ome.tif", allow_damaged=True)
    assert opened.info.damaged == ((2, 0, 0),)
    np.testing.assert_array_equal(opened.read_frame(1), movie[1, 0, 0])
    with pytest.raises(DamagedFrameError, match="missing or cut off"):
        opened.read_frame(2)


def test_file_without_frames_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="zero-size"):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((0, 8, 8), np.uint8))
    with pytest.raises(MovieError, match="no frames"):
        open_movie(tmp_path / "a.tif", allow_damaged=True, axes="TYX")


def _ome_set(names):
    data = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1"><UUID FileName="{n}">urn:{n}</UUID>'
        "</TiffData>"
        for t, n in enumerate(names)
    )
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="7" '
        f'SizeY="5" SizeC="1" SizeZ="1" SizeT="{len(names)}"><Channel ID="Channel:0:0"/>{data}'
        "</Pixels></Image></OME>"
    )


def test_compressed_bytes_that_do_not_decode_are_a_damaged_frame(tmp_path):
    movie = stamped(T=3, Y=40, X=40)
    path = tmp_path / "a.tif"
    write_tiff(path, movie, "ome-zstd", "TYX")
    with tifffile.TiffFile(path) as file:
        at = file.pages[1].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[at : at + 8] = b"\xff" * 8
    path.write_bytes(data)
    opened = open_movie(path)
    np.testing.assert_array_equal(opened.read_frame(0), movie[0, 0, 0])
    with pytest.raises(DamagedFrameError, match="cannot be decoded"):
        opened.read_frame(1)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"II*\0", "not a readable TIFF"), (b"hello world", "begins with"),
     (b"II*\0\x08\0\0\0", "not a readable|no frames|truncated"), (b"MM", "begins with"),
     (b"II*\0\0\0\0\0", "no frames|truncated|readable")],
)  # fmt: skip
def test_what_is_no_tiff_is_refused(tmp_path, content, words):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(MovieError, match=words):
        open_movie(tmp_path / "a.tif")


def test_loop_of_pages_is_refused_and_ends(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stamped(T=3)[:, 0, 0, 0], metadata=None, photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        first, last = file.pages[0].offset, file.pages[2].offset
        tags = len(file.pages[2].tags)
    data = bytearray(path.read_bytes())
    at = last + 2 + 12 * tags
    data[at : at + 4] = int(first).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(MovieError):
        open_movie(path)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_header_that_claims_absurd_sizes_is_refused(tmp_path, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), metadata=None, compression=compression)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            file.pages[0].tags[tag].overwrite(40_000)
    with pytest.raises(MovieError, match="the header claims 1600000000 bytes a page"):
        open_movie(path)


def test_complaints_of_tifffile_are_not_printed(tmp_path, caplog, capfd):
    path = write_tiff(tmp_path / "a.tif", stamped(T=5, Y=40, X=40), "imagej", "TYX")
    damage(path, 0.5)
    with caplog.at_level(logging.DEBUG), pytest.raises(MovieError, match="tifffile reports"):
        open_movie(path)
    assert not [r for r in caplog.records if r.name == "tifffile" and r.levelno >= logging.ERROR]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["BF", "Chl"] * 3, ("BF", "Chl")),
        ([f"c:{c} t:{t}" for t in range(3) for c in range(2)], ("0", "1")),
        (["same"] * 6, ("0", "1")),
        (["BF", "Chl"], ("0", "1")),
        (["BF"], ("0", "1")),
    ],
)
def test_slice_labels_of_imagej_name_channels_when_they_agree(tmp_path, labels, names):
    path = tmp_path / "a.tif"
    metadata = {"axes": "TCYX", "Labels": labels}
    tifffile.imwrite(path, np.zeros((3, 2, 9, 9), np.uint16), imagej=True, metadata=metadata)
    assert open_movie(path).info.channel_names == names


@pytest.mark.parametrize("silenced", ["level", "disabled"])
def test_damage_is_found_although_the_program_silenced_tifffile(tmp_path, silenced):
    path = write_tiff(tmp_path / "a.tif", stamped(T=6), "imagej", "TYX")
    damage(path, 0.5)
    logger = logging.getLogger("tifffile")
    if silenced == "level":
        logger.setLevel(logging.CRITICAL + 1)
    else:
        logging.disable(logging.CRITICAL)
    try:
        with pytest.raises(MovieError):
            open_movie(path)
    finally:
        logger.setLevel(logging.NOTSET)
        logging.disable(logging.NOTSET)
