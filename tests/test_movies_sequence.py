"""Sequences: what numbers in names mean, gaps, odd members, and outputs lying around."""

import pickle

import imagecodecs
import numpy as np
import pytest
import tifffile

from cypose_dask.errors import DamagedFrameError, MovieError, MovieNotFoundError
from cypose_dask.movies import open_movie
from helpers.stamps import stamped
from helpers.tiff_writer import damage


def same(movie, expected):
    assert movie.frames.shape == expected.shape
    np.testing.assert_array_equal(movie.frames.compute(scheduler="sync"), expected)


def write(folder, movie, form):
    """Write one TIFF a plane; `form` is formatted with t, p, z, c."""
    for t, p, z, c in np.ndindex(movie.shape[:4]):
        path = folder / form.format(t=t, p=p, z=z, c=c, dye=["BF", "GFP", "Chl"][c])
        path.parent.mkdir(exist_ok=True, parents=True)
        tifffile.imwrite(path, movie[t, p, z, c], metadata=None)


def save_png(path, pixels):
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))


def test_one_number_is_time_in_the_order_of_numbers(tmp_path):
    movie = stamped(T=12)
    write(tmp_path, movie, "img{t}.tif")  # img10 sorts before img2 by the alphabet
    opened = open_movie(tmp_path / "img*.tif")
    same(opened, movie)
    assert opened.info.format == "sequence"
    assert opened.info.path == str(tmp_path / "img*.tif")
    assert any("taken as T" in note for note in opened.info.notes)


@pytest.mark.parametrize(
    "form",
    ["t{t:03}xy{p:02}z{z}c{c}.tif", "exp7_T{t}_P{p}_Z{z}_CH{c}.tif", "a_s{p}_w{c}_t{t}_z{z}.tif",
     "img_channel{c:03}_position{p:03}_time{t:09}_z{z:03}.tif", "pos{p}/t{t}/z{z}c{c}.tif",
     "time-{t} slice-{z} pos_{p} ch_{c}.tif"],
)  # fmt: skip
def test_words_before_numbers_name_the_axes(tmp_path, form):
    movie = stamped(T=2, P=3, Z=2, C=2)
    write(tmp_path, movie, form)
    pattern = "**/*.tif" if "/" in form else "*.tif"
    same(open_movie(tmp_path / pattern), movie)


def test_numbering_may_start_anywhere_and_padding_does_not_matter(tmp_path):
    movie = stamped(T=3)
    for number, name in [(0, "img8.tif"), (1, "img009.tif"), (2, "img10.tif")]:
        tifffile.imwrite(tmp_path / name, movie[number, 0, 0, 0])
    same(open_movie(tmp_path / "img*.tif"), movie)


def test_text_after_a_channel_number_names_the_channel(tmp_path):
    movie = stamped(T=2, P=2, C=3)
    write(tmp_path, movie, "exp_w{c}{dye}_s{p}_t{t}.tif")
    opened = open_movie(tmp_path / "*.tif")
    same(opened, movie)
    assert opened.info.channel_names == ("BF", "GFP", "Chl")
    assert opened.info.position_names == ("s0", "s1")
    same(open_movie(tmp_path / "*.tif", channels=["Chl"], position="s1"), movie[:, 1:, :, 2:])


def test_channels_within_each_file_are_read(tmp_path):
    movie = stamped(T=3, C=2)
    for t in range(3):
        tifffile.imwrite(tmp_path / f"img{t}.tif", movie[t, 0, 0], photometric="minisblack",
                         imagej=True, metadata={"axes": "CYX"})  # fmt: skip
    same(open_movie(tmp_path / "img*.tif"), movie)
    same(open_movie(tmp_path / "img*.tif", channels=[1]), movie[:, :, :, 1:])


def test_pages_of_each_file_can_be_named_by_axes(tmp_path):
    movie = stamped(T=3, Z=2)
    for t in range(3):
        tifffile.imwrite(tmp_path / f"img{t}.tif", movie[t, 0, :, 0], metadata=None,
                         photometric="minisblack")  # fmt: skip
    with pytest.raises(MovieError, match="both the names and the pages"):
        open_movie(tmp_path / "img*.tif")
    same(open_movie(tmp_path / "img*.tif", axes="TZYX"), movie)
    same(open_movie(tmp_path / "img*.tif", axes="ZYX"), movie)


def test_two_unnamed_numbers_are_asked_for(tmp_path):
    movie = stamped(T=2, P=3)
    write(tmp_path, movie, "a{p}-b{t}.tif")
    with pytest.raises(MovieError, match=r"--axes"):
        open_movie(tmp_path / "*.tif")
    same(open_movie(tmp_path / "*.tif", axes="PTYX"), movie)


def test_one_unnamed_number_can_be_named_by_axes(tmp_path):
    movie = stamped(Z=3)
    write(tmp_path, movie, "image{z}.tif")
    same(open_movie(tmp_path / "image*.tif", axes="ZYX"), movie)


def test_numbers_that_do_not_vary_mean_nothing(tmp_path):
    movie = stamped(T=3)
    write(tmp_path, movie, "2024-01-05_c1_t{t}.tif")
    same(open_movie(tmp_path / "*.tif"), movie)


# ---- PNG -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_png_is_read(tmp_path, dtype):
    movie = (stamped(T=3) % np.iinfo(dtype).max).astype(dtype)
    for t in range(3):
        save_png(tmp_path / f"img{t}.png", movie[t, 0, 0, 0])
    same(open_movie(tmp_path / "img*.png"), movie)
    same(open_movie(tmp_path / "img2.png"), movie[2:])


@pytest.mark.parametrize("samples", [3, 4])
def test_colour_png_is_refused_unless_averaged(tmp_path, samples):
    colours = np.random.default_rng(0).integers(0, 255, (2, 5, 7, samples)).astype(np.uint8)
    for t in range(2):
        save_png(tmp_path / f"img{t}.png", colours[t])
    with pytest.raises(MovieError, match="--rgb mean"):
        open_movie(tmp_path / "img*.png")
    expected = np.rint(colours[..., :3].astype(float).mean(-1)).astype(np.uint8)
    same(open_movie(tmp_path / "img*.png", rgb="mean"), expected[:, None, None, None])
    green = open_movie(tmp_path / "img1.png", axes="YXC", channels=[1])
    np.testing.assert_array_equal(green.read_frame(0)[0], colours[1, :, :, 1])


def test_png_that_is_cut_or_absurd_is_refused(tmp_path):
    path = tmp_path / "img1.png"
    save_png(path, stamped(np.uint8)[0, 0, 0, 0])
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(MovieError, match="no complete PNG"):
        open_movie(path)
    path.write_bytes(whole[:16] + (30_000).to_bytes(4, "big") * 2 + whole[24:])
    with pytest.raises(MovieError, match="claims"):
        open_movie(path)


# ---- refused -------------------------------------------------------------------------------


def test_gaps_are_refused_or_listed(tmp_path):
    movie = stamped(T=5)
    write(tmp_path, movie, "img{t}.tif")
    (tmp_path / "img3.tif").unlink()
    with pytest.raises(MovieError, match=r"1 files are missing .* T 3"):
        open_movie(tmp_path / "img*.tif")
    opened = open_movie(tmp_path / "img*.tif", allow_damaged=True)
    assert (opened.info.sizes["T"], opened.info.damaged) == (5, ((3, 0, 0),))
    with pytest.raises(DamagedFrameError, match="no file"):
        opened.read_frame(3)
    np.testing.assert_array_equal(opened.read_frame(4), movie[4, 0, 0])


def test_missing_channel_of_one_frame_is_refused(tmp_path):
    write(tmp_path, stamped(T=3, C=2), "t{t}c{c}.tif")
    (tmp_path / "t1c1.tif").unlink()
    with pytest.raises(MovieError, match="T 1, C 1"):
        open_movie(tmp_path / "*.tif")
    assert open_movie(tmp_path / "*.tif", allow_damaged=True).info.damaged == ((1, 0, 0),)


def test_dates_are_no_numbering(tmp_path):
    for number in (20240105, 20240211):
        tifffile.imwrite(tmp_path / f"img{number}.tif", stamped()[0, 0, 0, 0])
    with pytest.raises(MovieError, match="most numbers are missing"):
        open_movie(tmp_path / "img*.tif")


@pytest.mark.parametrize(
    "odd", [np.zeros((6, 7), np.uint16), np.zeros((5, 7), np.uint8), np.zeros((2, 5, 7), np.uint16)]
)
def test_a_member_of_another_size_or_type_is_refused(tmp_path, odd):
    write(tmp_path, stamped(T=3), "img{t}.tif")
    tifffile.imwrite(tmp_path / "img2.tif", odd, photometric="minisblack")
    with pytest.raises(MovieError, match=r"img2\.tif: found .* expected uint16 of sizes \(5, 7\)"):
        open_movie(tmp_path / "img*.tif")
    assert open_movie(tmp_path / "img*.tif", allow_damaged=True).info.damaged == ((2, 0, 0),)


def test_a_cut_member_is_refused_or_listed(tmp_path):
    write(tmp_path, stamped(T=3), "img{t}.tif")
    damage(tmp_path / "img0.tif", 0.8)
    with pytest.raises(MovieError, match=r"img0\.tif"):
        open_movie(tmp_path / "img*.tif")
    opened = open_movie(tmp_path / "img*.tif", allow_damaged=True)
    assert opened.info.damaged == ((0, 0, 0),)
    with pytest.raises(MovieError):
        opened.read_frame(0)


MISFITS = [
    (["a1.tif", "b2.tif"], "more than their numbers"),
    (["a1.tif", "a1_2.tif"], "count of numbers"),
    (["a1.tif", "a01.tif"], "same numbers"),
    (["t1_time1.tif", "t2_time2.tif"], "both count T"),
    (["a1.tif", "a2.png"], "PNG, TIFF"),
    (["a1.tif", "a2.jpg"], r"\.jpg, TIFF"),
]


@pytest.mark.parametrize(("names", "words"), MISFITS)
def test_names_that_do_not_fit_are_refused(tmp_path, names, words):
    for name in names:
        tifffile.imwrite(tmp_path / name, stamped()[0, 0, 0, 0])
    with pytest.raises(MovieError, match=words):
        open_movie(tmp_path / "*")


def test_directory_and_missing_paths_say_what_to_do(tmp_path):
    with pytest.raises(MovieError, match=r"pattern in quotes"):
        open_movie(tmp_path)
    for absent in ("no.nd2", "no*.tif"):
        with pytest.raises(MovieNotFoundError, match=r"no such file|no file matches"):
            open_movie(tmp_path / absent)
    with pytest.raises(FileNotFoundError):
        open_movie(tmp_path / "no.nd2")


def test_outputs_beside_the_images_are_left_out(tmp_path):
    movie = stamped(T=3)
    write(tmp_path, movie, "img{t}.tif")
    for t in range(3):
        tifffile.imwrite(tmp_path / f"img{t}_cp_masks.tif", stamped()[0, 0, 0, 0])
        tifffile.imwrite(tmp_path / f"img{t}_cp_masks_p001.tif", stamped()[0, 0, 0, 0])
        tifffile.imwrite(tmp_path / f"img{t}_preview.tif", stamped()[0, 0, 0, 0])
    opened = open_movie(tmp_path / "img*.tif")
    same(opened, movie)
    assert any("9 outputs" in note for note in opened.info.notes)
    assert open_movie(tmp_path / "img*_cp_masks.tif").info.sizes["T"] == 3


def test_brackets_in_a_name_that_exists_are_no_pattern(tmp_path):
    tifffile.imwrite(tmp_path / "img[1].tif", stamped(T=2)[:, 0, 0, 0], photometric="minisblack",
                     metadata={"axes": "TYX"})  # fmt: skip
    info = open_movie(tmp_path / "img[1].tif").info
    assert (info.format, info.sizes["T"]) == ("tiff", 2)


# ---- identity ------------------------------------------------------------------------------


def test_source_stays_small_with_many_files(tmp_path):
    write(tmp_path, stamped(T=300), "img{t}.tif")
    assert len(pickle.dumps(open_movie(tmp_path / "img*.tif").source)) < 1000


def test_changed_member_is_refused_when_read(tmp_path):
    write(tmp_path, stamped(T=3), "img{t}.tif")
    opened = open_movie(tmp_path / "img*.tif")
    opened.read_frame(1)
    tifffile.imwrite(tmp_path / "img1.tif", np.zeros((9, 9), np.uint16))
    with pytest.raises(MovieError, match=r"img1\.tif has changed"):
        opened.read_frame(1)
    opened.read_frame(2)


def test_fingerprint_covers_all_members(tmp_path):
    write(tmp_path, stamped(T=3), "img{t}.tif")
    before = open_movie(tmp_path / "img*.tif").info.fingerprint
    tifffile.imwrite(tmp_path / "img1.tif", stamped()[0, 0, 0, 0] + 1, metadata=None)
    after = open_movie(tmp_path / "img*.tif").info.fingerprint
    assert before.size_bytes == after.size_bytes
    assert before.content_sha256 != after.content_sha256
