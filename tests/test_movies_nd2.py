"""ND2: any order of loops, metadata, and every way in which frames can be missing."""

import pickle
from itertools import permutations

import numpy as np
import pytest

from cypose_dask.errors import DamagedFrameError, MovieError
from cypose_dask.movies import open_movie
from helpers.nd2_writer import write_nd2
from helpers.stamps import stamped, stored_as

ORDERS = ["".join(order) for n in range(4) for order in permutations("TPZ", n)]


def same(movie, expected):
    assert movie.frames.shape == expected.shape
    np.testing.assert_array_equal(movie.frames.compute(scheduler="sync"), expected)


@pytest.mark.parametrize("phases", [False, True])
@pytest.mark.parametrize("loops", ORDERS)
def test_every_order_of_loops_is_read_as_tpzcyx(tmp_path, loops, phases):
    movie = stamped(C=2, **{axis: 2 + i for i, axis in enumerate(loops)})
    path = write_nd2(
        tmp_path / "a.nd2", stored_as(movie, loops + "CYX"), loops + "CYX", phases=phases
    )
    opened = open_movie(path)
    same(opened, movie)
    assert list(opened.info.sizes) == list("TPZCYX")
    assert opened.info.dtype == np.uint16


@pytest.mark.parametrize("single", "TPZC")
def test_loops_of_one_step_keep_their_place(tmp_path, single):
    movie = stamped(**{axis: 1 if axis == single else 2 for axis in "TPZC"})
    same(open_movie(write_nd2(tmp_path / "a.nd2", stored_as(movie, "PTZCYX"), "PTZCYX")), movie)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("options", [{"compressed": True}, {"row_padding": 2}, {}])
def test_pixels_survive_compression_and_row_padding(tmp_path, dtype, options):
    movie = stamped(dtype, T=2, C=3)
    same(open_movie(write_nd2(tmp_path / "a.nd2", movie[:, 0, 0], "TCYX", **options)), movie)


def test_metadata_is_read(tmp_path):
    movie = stamped(T=2, P=2, Z=3, C=2)
    path = write_nd2(
        tmp_path / "a.nd2", movie, "TPZCYX", channels=["BF", "Chl"], pixel_size_um=0.065,
        z_step_um=0.5, period_ms=1500.0,
    )  # fmt: skip
    info = open_movie(path).info
    assert (info.channel_names, info.position_names) == (("BF", "Chl"), ("P1", "P2"))
    assert (info.pixel_size_um, info.z_step_um, info.interval_s) == (0.065, 0.5, 1.5)
    assert (info.format, info.path, info.damaged, info.notes) == ("nd2", path, (), ())


def test_measured_interval_is_used_when_none_was_planned(tmp_path):
    pixels = stamped(T=2)[:, 0, 0, 0]
    path = write_nd2(tmp_path / "a.nd2", pixels, "TYX", period_ms=0, mean_period_ms=250.0)
    assert open_movie(path).info.interval_s == 0.25


def test_broken_metadata_does_not_stop_the_reading(tmp_path):
    movie = stamped(T=2, C=2)
    path = write_nd2(tmp_path / "a.nd2", movie[:, 0, 0], "TCYX", fluorescent_probe=False)
    opened = open_movie(path)
    same(opened, movie)
    assert opened.info.channel_names == ("0", "1")
    assert any("metadata" in note for note in opened.info.notes)


def test_uncalibrated_file_has_no_pixel_size(tmp_path):
    path = write_nd2(tmp_path / "a.nd2", stamped()[0, 0, 0, 0], "YX", pixel_size_um=0.0)
    info = open_movie(path).info
    assert info.pixel_size_um is None
    assert any("not calibrated" in note for note in info.notes)


def test_rgb_is_refused_unless_averaged(tmp_path):
    colours = np.stack([stamped(np.uint8, T=2)[:, 0, 0, 0] + i for i in (0, 1, 4)], axis=-1)
    path = write_nd2(tmp_path / "a.nd2", colours, "TYXS")
    with pytest.raises(MovieError, match=r'rgb="mean"'):
        open_movie(path)
    expected = np.rint(colours.astype(float).mean(-1)).astype(np.uint8)
    same(open_movie(path, rgb="mean"), expected[:, None, None, None])


def test_components_that_are_no_colours_are_channels(tmp_path):
    movie = stamped(T=2, C=4)
    path = write_nd2(tmp_path / "a.nd2", stored_as(movie, "TYXC"), "TYXS")
    same(open_movie(path), movie)


def test_position_and_channels_are_selected_by_name_or_number(tmp_path):
    movie = stamped(T=2, P=3, C=3)
    path = write_nd2(tmp_path / "a.nd2", movie[:, :, 0], "TPCYX", channels=["BF", "GFP", "Chl"])
    opened = open_movie(path, position="P3", channels=["Chl", 0])
    same(opened, movie[:, 2:3][:, :, :, [2, 0]])
    assert (opened.info.channel_names, opened.info.position_names) == (("Chl", "BF"), ("P3",))
    same(open_movie(path, position=1, channels=[1]), movie[:, 1:2, :, 1:2])


WRONG_CHOICES = [
    {"position": 3}, {"position": "P9"}, {"channels": ["YFP"]}, {"channels": [-1]},
    {"channels": "GFP"}, {"channels": []},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_CHOICES)
def test_absent_channel_or_position_is_refused(tmp_path, wrong):
    path = write_nd2(tmp_path / "a.nd2", stamped(P=3, C=3)[0, :, 0], "PCYX")
    with pytest.raises(MovieError, match="expected"):
        open_movie(path, **wrong)


def test_axes_rename_loops(tmp_path):
    movie = stamped(T=3, C=2)
    path = write_nd2(tmp_path / "a.nd2", movie[:, 0, 0], "PCYX")
    opened = open_movie(path, axes="TCYX")
    same(opened, movie)
    assert any("'TCYX'" in note for note in opened.info.notes)


def test_axes_cannot_reorder_a_frame(tmp_path):
    path = write_nd2(tmp_path / "a.nd2", stamped(T=3, C=2)[:, 0, 0], "TCYX")
    with pytest.raises(MovieError, match="only its loops"):
        open_movie(path, axes="CTYX")


@pytest.mark.parametrize(("stored", "axes"), [("UTYX", "PTYX"), ("TUYX", "TPYX")])
def test_loop_without_a_name_needs_axes(tmp_path, stored, axes):
    movie = stamped(T=2, P=3)
    path = write_nd2(tmp_path / "a.nd2", stored_as(movie, axes), stored)
    with pytest.raises(MovieError, match="--axes"):
        open_movie(path)
    same(open_movie(path, axes=axes), movie)


def test_custom_loop_is_not_taken_as_time(tmp_path):
    path = write_nd2(tmp_path / "a.nd2", stamped(T=3)[:, 0, 0, 0], "UYX")
    with pytest.raises(MovieError, match="--axes"):
        open_movie(path)
    same(open_movie(path, axes="TYX"), stamped(T=3))


def test_two_loops_of_one_kind_need_axes(tmp_path):
    movie = stamped(T=2, P=3)
    path = write_nd2(tmp_path / "a.nd2", stored_as(movie, "TPYX"), "TTYX")
    with pytest.raises(MovieError, match="T twice"):
        open_movie(path)
    same(open_movie(path, axes="TPYX"), movie)


# ---- damage --------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", [{"skip_frames": (3,)}, {"misplace_frames": (3,)}])
@pytest.mark.parametrize("compressed", [False, True])
def test_missing_frames_are_refused_or_listed(tmp_path, harm, compressed):
    movie = stamped(T=3, P=2, C=2)
    path = write_nd2(tmp_path / "a.nd2", movie[:, :, 0], "TPCYX", compressed=compressed, **harm)
    with pytest.raises(MovieError, match=r"1 of 6 frames .* \(1, 1, 0\).*allow_damaged"):
        open_movie(path)
    opened = open_movie(path, allow_damaged=True)
    assert opened.info.damaged == ((1, 1, 0),)
    with pytest.raises(DamagedFrameError, match=r"\(1, 1, 0\)"):
        opened.read_frame(1, 1, 0)
    np.testing.assert_array_equal(opened.read_frame(2, 1, 0), movie[2, 1, 0])


def test_damage_is_listed_for_the_selected_position_alone(tmp_path):
    path = write_nd2(tmp_path / "a.nd2", stamped(T=3, P=2)[:, :, 0, 0], "TPYX", skip_frames=(3,))
    assert open_movie(path, allow_damaged=True, position=0).info.damaged == ()
    damaged = open_movie(path, allow_damaged=True, position=1)
    assert damaged.info.damaged == ((1, 0, 0),)
    with pytest.raises(DamagedFrameError):
        damaged.read_frame(1)


def test_map_that_points_to_another_frame_is_noticed(tmp_path):
    path = write_nd2(tmp_path / "a.nd2", stamped(T=3)[:, 0, 0, 0], "TYX", swap_frames=True)
    opened = open_movie(path)
    with pytest.raises(DamagedFrameError, match="expected a chunk named"):
        opened.read_frame(0)
    opened.read_frame(2)


def test_bytes_that_do_not_decode_are_a_damaged_frame(tmp_path):
    path = tmp_path / "a.nd2"
    write_nd2(path, stamped(T=2)[:, 0, 0, 0], "TYX", compressed=True)
    data = bytearray(path.read_bytes())
    at = data.index(b"ImageDataSeq|1!") + 4072 + 8
    data[at : at + 20] = b"\xff" * 20
    path.write_bytes(data)
    with pytest.raises(DamagedFrameError, match="cannot be decoded"):
        open_movie(path).read_frame(1)


@pytest.mark.parametrize("size", [4, 90, 5000, 20_000])
def test_cut_file_is_refused(tmp_path, size):
    path = write_nd2(tmp_path / "a.nd2", stamped(T=5)[:, 0, 0, 0], "TYX", truncate_to=size)
    with pytest.raises(MovieError, match="complete ND2"):
        open_movie(path)


@pytest.mark.parametrize("head", [b"\xda\xce\xbe\x0a", b"\0\0\0\x0cjP  "])
def test_header_alone_is_refused(tmp_path, head):
    (tmp_path / "a.nd2").write_bytes(head + b"no microscope wrote this")
    with pytest.raises(MovieError, match="complete ND2"):
        open_movie(tmp_path / "a.nd2")


def test_file_without_frames_is_refused(tmp_path):
    path = write_nd2(tmp_path / "a.nd2", stamped(T=2)[:, 0, 0, 0], "TYX", skip_frames=(0, 1))
    with pytest.raises(MovieError, match="no frames"):
        open_movie(path, allow_damaged=True)


def test_frames_without_loops_are_not_cut_to_the_first(tmp_path):
    path = tmp_path / "a.nd2"
    movie = stamped(T=3)
    write_nd2(path, movie[:, 0, 0, 0], "TYX")
    # Same length, so that every offset stays: the chunk of the loops is no longer found.
    path.write_bytes(path.read_bytes().replace(b"ImageMetadataLV!", b"ImageMetadataXX!"))
    opened = open_movie(path)
    same(opened, movie)
    assert any("taken as T" in note for note in opened.info.notes)


def test_frame_is_fresh_and_writable(tmp_path):
    opened = open_movie(write_nd2(tmp_path / "a.nd2", stamped(T=2)[:, 0, 0, 0], "TYX"))
    frame = opened.read_frame(0)
    frame[:] = 0
    assert frame.flags.owndata
    assert opened.read_frame(0).any()


def test_source_is_small_when_pickled(tmp_path):
    path = write_nd2(
        tmp_path / "a.nd2", (2000, 1, 4, 4), "TCYX", frames=lambda i: np.full((4, 4, 1), i)
    )
    opened = open_movie(path)
    assert len(pickle.dumps(opened.source)) < 1000
    again = pickle.loads(pickle.dumps(opened))
    assert again.read_frame(1999).max() == 1999
    assert again.info == opened.info
