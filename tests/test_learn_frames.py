"""Which frames are chosen for annotation, and what is written of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from cypose_dask.errors import DamagedFrameError, ResultError, SettingsError
from cypose_dask.learn import FrameRequest, save_frames, select_frames, synthetic_movie
from cypose_dask.learn.frames.choice import most_different
from cypose_dask.learn.frames.features import cell_maps, look_at, window_shares
from cypose_dask.movies import open_movie
from cypose_dask.movies.lazy import LazyFrames
from helpers.nd2_writer import write_nd2


@pytest.fixture(scope="module")
def colonies():
    """Two positions that grow from 2 and from 8 cells: frames and labels (T, P, [C,] Y, X)."""
    made = [synthetic_movie(n_frames=12, shape=(160, 160), seed=n, start_cells=n) for n in (2, 8)]
    return (
        np.stack([one.frames for one in made], axis=1),
        np.stack([one.labels for one in made], axis=1),
    )


@pytest.fixture(scope="module")
def colony_path(colonies, tmp_path_factory):
    path = tmp_path_factory.mktemp("colonies") / "colony.nd2"
    return write_nd2(path, colonies[0], axes="TPCYX", channels=["BF", "Chl"], pixel_size_um=0.11)


@pytest.fixture
def colony(colony_path):
    return open_movie(colony_path)


def save_tif(path, frames):
    """Write (T, [C,] Y, X); a single T is left out."""
    axes = {3: "TYX", 4: "TCYX"}[frames.ndim]
    if len(frames) == 1:
        frames, axes = frames[0], axes[1:]
    tifffile.imwrite(path, frames, photometric="minisblack", metadata={"axes": axes})
    return open_movie(path, axes=axes, allow_damaged=True)


def pixels_of(movie, entry):
    frame = movie.read_frame(entry["t"], entry["p"], entry["z"])
    if entry["window"]:
        y, x, side = entry["window"]
        frame = frame[:, y : y + side, x : x + side]
    return np.squeeze(frame)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_density_rises_with_the_area_of_cells(colonies):
    frames, labels = colonies
    density = [cells.mean() for cells in cell_maps([look_at(frame) for frame in frames[:, 0]])]
    assert np.all(np.diff(density) > 0)
    assert np.corrcoef(density, (labels[:, 0] > 0).mean(axis=(1, 2)))[0, 1] > 0.98


def test_density_does_not_depend_on_units_and_light(colonies):
    frames = colonies[0][::4, 0, :1].astype(np.float32)
    looks = [[look_at(frame) for frame in version] for version in (frames, frames * 0.01 + 3)]
    one, other = (np.stack(cell_maps(look)) for look in looks)
    assert (one == other).mean() > 0.999


def test_noise_alone_has_no_cells():
    noise = np.random.default_rng(0).poisson(900, (4, 1, 128, 128)).astype(np.uint16)
    assert max(cells.mean() for cells in cell_maps([look_at(frame) for frame in noise])) < 0.02


def test_window_shares_are_means_of_windows():
    cells = np.random.default_rng(1).random((9, 12)).astype(np.float32)
    shares = window_shares(cells, 4)
    assert shares.shape == (6, 9)
    expected = [[cells[i : i + 4, j : j + 4].mean() for j in range(9)] for i in range(6)]
    np.testing.assert_allclose(shares, expected, atol=1e-5)
    odd = window_shares(cells, 3)
    np.testing.assert_allclose(odd[2, 5], cells[2:5, 5:8].mean(), atol=1e-5)


def test_choice_begins_with_densest_and_sparsest_and_ends_with_empty():
    densities = [0.2, 0.0, 0.5, 0.01, 0.21]
    order = most_different([{"density": value} for value in densities], 5)
    assert order[:2] == [2, 3]
    assert order[-1] == 1
    assert sorted(order) == [0, 1, 2, 3, 4]


def test_choice_differs_from_what_is_taken():
    candidates = [{"density": value} for value in (0.1, 0.3, 0.8)]
    assert most_different(candidates, 1) == [2]
    assert most_different(candidates, 1, taken=[{"density": 0.81}]) == [0]
    assert most_different(candidates, 1, taken=[{"density": 0.09}]) == [2]


def test_choice_takes_nothing_twice():
    assert sorted(most_different([{"density": 0.5}] * 4, 9)) == [0, 1, 2, 3]


def test_sparse_and_dense_frames_of_all_positions_are_chosen(colony, colonies):
    chosen = select_frames([colony], FrameRequest(n=6)).frames
    cover = (colonies[1] > 0).mean(axis=(2, 3))
    covered = [cover[frame.t, frame.p] for frame in chosen]
    assert {frame.p for frame in chosen} == {0, 1}
    assert min(covered) == cover.min()
    assert max(covered) > 0.9 * cover.max()
    assert len({frame.key for frame in chosen}) == 6


def test_every_movie_gives_its_part(colony, synthetic, tmp_path):
    short = save_tif(tmp_path / "short.tif", synthetic.frames[:2])
    chosen = select_frames([colony, short], FrameRequest(n=7)).frames
    assert [sum(f.movie == i for f in chosen) for i in (0, 1)] == [5, 2]
    lone = select_frames([colony, short], FrameRequest(n=1)).frames
    assert len(lone) == 1


def test_same_seed_same_frames(colony):
    def choose(seed):
        return select_frames([colony], FrameRequest(n=3, crop_px=64, seed=seed)).frames

    assert choose(1) == choose(1)
    assert choose(1) != choose(2)


def test_another_seed_looks_at_other_frames(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (600, 32, 32), np.uint8)
    movie = save_tif(tmp_path / "long.tif", frames)
    times = [
        {f.t for f in select_frames([movie], FrameRequest(n=9, seed=seed)).frames}
        for seed in (0, 1)
    ]
    assert len(times[0] & times[1]) < 5


def test_reading_is_bounded_however_long_the_movie(colony_path, tmp_path, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 255, (600, 32, 32), np.uint8)
    movie = save_tif(tmp_path / "long.tif", frames)
    read = []
    original = LazyFrames.read
    monkeypatch.setattr(
        LazyFrames, "read", lambda self, *at: (read.append(at), original(self, *at))[1]
    )
    selection = select_frames([movie], FrameRequest(n=10))
    assert len(read) == selection.looked_at <= 40
    assert {t // 100 for t, *_ in read} == set(range(6))
    assert len({frame.t for frame in selection.frames}) == 10


def test_damaged_blank_and_nan_frames_are_passed_over_and_counted(synthetic, tmp_path):
    frames = np.concatenate([synthetic.frames[:, 0]] * 2).astype(np.float32)
    frames[1] = 7
    frames[3, 5, 5] = np.nan
    selection = select_frames([save_tif(tmp_path / "m.tif", frames)], FrameRequest(n=20))
    assert {frame.t for frame in selection.frames} == set(range(10)) - {1, 3}
    notes = " ".join(selection.notes)
    assert "1 frame blank" in notes
    assert "1 frame with NaN" in notes
    assert "12 fewer than asked for" in notes
    path = write_nd2(tmp_path / "h.nd2", synthetic.frames, axes="TCYX", skip_frames=(2,))
    selection = select_frames([open_movie(path, allow_damaged=True)], FrameRequest(n=5))
    assert {frame.t for frame in selection.frames} == {0, 1, 3, 4}
    assert "1 frame damaged" in selection.notes[0]
    assert selection.looked_at == 4  # known damage is not read


def test_a_frame_that_turns_out_damaged_is_passed_over(colony, monkeypatch):
    original = LazyFrames.read

    def read(self, t, p, z):
        if t == 5:
            raise DamagedFrameError("cut off")
        return original(self, t, p, z)

    monkeypatch.setattr(LazyFrames, "read", read)
    selection = select_frames([colony], FrameRequest(n=24))
    assert {frame.t for frame in selection.frames} == set(range(12)) - {5}
    assert "2 frames damaged" in selection.notes[0]


def test_a_movie_without_usable_frames_is_refused(tmp_path):
    movie = save_tif(tmp_path / "m.tif", np.full((3, 32, 32), 9, np.uint16))
    with pytest.raises(SettingsError, match=r"No frame is left.*3 frames blank"):
        select_frames([movie])


def test_crops_hold_cells_and_do_not_overlap(colonies, tmp_path):
    frames, labels = colonies
    # One image alone: all crops come out of it
    around = ((160, 160), (160, 160))
    wide = np.pad(frames[4:5, 0], ((0, 0), (0, 0), *around), mode="symmetric")
    movie = save_tif(tmp_path / "one.tif", wide)
    cells = np.pad(labels[4, 0], around, mode="symmetric") > 0
    chosen = select_frames([movie], FrameRequest(n=5, crop_px=96)).frames
    assert len(chosen) == 5
    cover = np.zeros(cells.shape, int)
    for y, x, side in (frame.window for frame in chosen):
        assert (cells[y : y + side, x : x + side]).sum() > 50
        assert 0 <= y <= cells.shape[0] - side
        assert 0 <= x <= cells.shape[1] - side
        cover[y : y + side, x : x + side] += 1
    assert cover.max() == 1


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"crop_px": 500}, "too small for crops of 500 px"),
        ({"z": 3}, "plane 3"),
        ({"start_frame": 12}, "12 frames along T"),
        ({"end_frame": 40}, "12 frames along T"),
        ({"n": 0}, "n is 0"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(colony, request_, words):
    with pytest.raises(SettingsError, match=words):
        select_frames([colony], FrameRequest(**request_))


def test_files_hold_the_frames_they_are_named_after(colony_path, tmp_path):
    movie = open_movie(colony_path)
    saved = save_frames([movie], tmp_path / "out", FrameRequest(n=4, start_frame=3, end_frame=9))
    assert len(saved.written) == 4
    for path, entry in zip(saved.written, saved.entries, strict=True):
        assert path.name == f"colony_p{entry['p']:03d}_t{entry['t']:04d}.tif"
        assert 3 <= entry["t"] < 9
        with tifffile.TiffFile(path) as tif:
            assert tif.is_imagej
            assert tif.series[0].axes == "CYX"
            assert tif.imagej_metadata["Labels"] == ["BF", "Chl"]
            assert tif.imagej_metadata["unit"] == "um"
            per_um = tif.pages[0].tags["XResolution"].value
            assert per_um[1] / per_um[0] == pytest.approx(0.11, rel=1e-4)
            assert tif.pages[0].dtype == movie.info.dtype
            np.testing.assert_array_equal(tif.asarray(), pixels_of(movie, entry))
    record = json.loads((tmp_path / "out" / "frames.json").read_text())
    assert record["frames"] == json.loads(json.dumps(saved.entries))
    assert record["frames"][0]["channels"] == ["BF", "Chl"]


def test_one_position_and_one_channel_keep_the_files_numbers(colony_path, tmp_path):
    movie = open_movie(colony_path, position=1, channels=["Chl"])
    saved = save_frames([movie], tmp_path, FrameRequest(n=2, crop_px=64))
    whole = open_movie(colony_path)
    for path, entry in zip(saved.written, saved.entries, strict=True):
        y, x, side = entry["window"]
        assert path.name == f"colony_p001_t{entry['t']:04d}_y{y:04d}_x{x:04d}.tif"
        expected = whole.read_frame(entry["t"], 1)[1, y : y + side, x : x + side]
        np.testing.assert_array_equal(tifffile.imread(path), expected)
        assert (entry["p"], entry["channels"]) == (1, ["Chl"])


def test_planes_are_named_and_the_middle_one_is_the_default(tmp_path):
    stack = np.random.default_rng(0).integers(0, 99, (2, 3, 40, 40), np.uint16)
    tifffile.imwrite(tmp_path / "z.tif", stack, photometric="minisblack", metadata={"axes": "TZYX"})
    movie = open_movie(tmp_path / "z.tif", axes="TZYX")
    for plane, expected in ((None, 1), (2, 2)):
        folder = tmp_path / f"{plane}"
        saved = save_frames([movie], folder, FrameRequest(n=1, z=plane))
        assert saved.written[0].name.endswith(f"_z0{expected}.tif")
        np.testing.assert_array_equal(
            tifffile.imread(saved.written[0]), stack[saved.entries[0]["t"], expected]
        )


def test_planes_without_times_may_be_times_and_that_is_said(tmp_path):
    stack = np.random.default_rng(0).integers(0, 99, (5, 40, 40), np.uint16)
    for axes, said in (("ZYX", True), ("TYX", False)):
        tifffile.imwrite(tmp_path / "z.tif", stack, photometric="minisblack")
        selection = select_frames([open_movie(tmp_path / "z.tif", axes=axes)], FrameRequest(n=1))
        assert any("--axes TYX" in note for note in selection.notes) == said


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "uint32"])
def test_every_dtype_is_kept(dtype, synthetic, tmp_path):
    frames = (synthetic.frames[:2] // 256).astype(dtype)
    movie = save_tif(tmp_path / "m.tif", frames)
    (path,) = save_frames([movie], tmp_path / "out", FrameRequest(n=1)).written
    written = tifffile.imread(path)
    assert written.dtype == dtype
    assert written.shape == (2, 64, 64)


def test_the_same_call_again_leaves_everything_alone(colony, tmp_path):
    first = save_frames([colony], tmp_path, FrameRequest(n=3))
    np.save(first.written[0].with_name(f"{first.written[0].stem}_seg.npy"), np.arange(3))
    first.written[1].write_bytes(b"a person's own version")
    before = contents(tmp_path)
    again = save_frames([colony], tmp_path, FrameRequest(n=3))
    assert again.written == ()
    assert again.kept == first.written
    assert again.looked_at == 0
    assert contents(tmp_path) == before


def test_a_call_that_was_killed_is_finished(colony, tmp_path, monkeypatch):
    whole = save_frames([colony], tmp_path / "whole", FrameRequest(n=4))
    folder = tmp_path / "killed"
    written = []

    def imwrite(path, *args, original=tifffile.imwrite, **kwargs):
        original(path, *args, **kwargs)
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tifffile, "imwrite", imwrite)
        with pytest.raises(KeyboardInterrupt):
            save_frames([colony], folder, FrameRequest(n=4))
    assert len(list(folder.glob("*.tif"))) == 2
    assert not list(folder.glob("*.partial"))
    saved = save_frames([colony], folder, FrameRequest(n=4))
    assert (len(saved.kept), len(saved.written)) == (2, 2)
    assert contents(folder).keys() == contents(whole.folder).keys()


def test_a_full_disk_is_said(colony, tmp_path, monkeypatch):
    def imwrite(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", imwrite)
    with pytest.raises(ResultError, match=r"No space left.*Make room"):
        save_frames([colony], tmp_path, FrameRequest(n=1))
    assert [path.name for path in tmp_path.iterdir()] == ["frames.json"]


def test_another_choice_is_refused_in_a_folder_that_has_one(colony, tmp_path):
    save_frames([colony], tmp_path, FrameRequest(n=2))
    before = contents(tmp_path)
    with pytest.raises(SettingsError, match=r"n was 2, is 3.*--add"):
        save_frames([colony], tmp_path, FrameRequest(n=3))
    with pytest.raises(SettingsError, match="the movies or how they are read"):
        save_frames([colony.with_channels([0])], tmp_path, FrameRequest(n=2))
    assert contents(tmp_path) == before


def test_foreign_images_are_never_mixed_in_silence(colony, tmp_path):
    (tmp_path / "mine.tif").write_bytes(b"mine")
    with pytest.raises(SettingsError, match="1 other images"):
        save_frames([colony], tmp_path, FrameRequest(n=1))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.tif"]
    save_frames([colony], tmp_path, FrameRequest(n=1), add=True)
    assert (tmp_path / "mine.tif").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_of_the_same_name_and_other_content_is_refused(colony, tmp_path):
    (name,) = (p.name for p in save_frames([colony], tmp_path / "a", FrameRequest(n=1)).written)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / name).write_bytes(b"mine")
    with pytest.raises(SettingsError, match="holds other pixels"):
        save_frames([colony], tmp_path / "b", FrameRequest(n=1), add=True)
    assert (tmp_path / "b" / name).read_bytes() == b"mine"


def test_adding_gives_new_frames_until_there_are_none(colony_path, tmp_path):
    movie = open_movie(colony_path, position=0)
    save_frames([movie], tmp_path, FrameRequest(n=5))
    before = contents(tmp_path)
    more = save_frames([movie], tmp_path, FrameRequest(n=5), add=True)
    assert len(more.written) == 5
    last = save_frames([movie], tmp_path, FrameRequest(n=5), add=True)
    assert len(last.written) == 2
    after = contents(tmp_path)
    assert len(after) == 13
    assert all(after[name] == data for name, data in before.items() if name != "frames.json")
    with pytest.raises(SettingsError, match="No frame is left"):
        save_frames([movie], tmp_path, FrameRequest(n=5), add=True)
    # An earlier call is still known
    assert len(save_frames([movie], tmp_path, FrameRequest(n=5)).kept) == 5


def test_a_long_movie_can_be_added_to_again_and_again(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (400, 32, 32), np.uint8)
    movie = save_tif(tmp_path / "long.tif", frames)
    for _ in range(6):
        assert len(save_frames([movie], tmp_path / "out", FrameRequest(n=3), add=True).written) == 3
    assert len(list((tmp_path / "out").glob("*.tif"))) == 18


def test_added_crops_do_not_overlap_earlier_ones(colonies, tmp_path):
    movie = save_tif(tmp_path / "one.tif", colonies[0][6:7, 1])
    request = FrameRequest(n=2, crop_px=48)
    entries = save_frames([movie], tmp_path / "out", request).entries
    entries += save_frames([movie], tmp_path / "out", request, add=True).entries
    assert len(entries) == 4
    cover = np.zeros((160, 160), int)
    for y, x, side in (entry["window"] for entry in entries):
        cover[y : y + side, x : x + side] += 1
    assert cover.max() == 1


def test_movies_of_one_name_get_different_files(synthetic, tmp_path):
    movies = []
    for folder, frames in (("a", synthetic.frames[:2]), ("b", synthetic.frames[2:4])):
        (tmp_path / folder).mkdir()
        movies.append(save_tif(tmp_path / folder / "img.tif", frames))
    saved = save_frames(movies, tmp_path / "out", FrameRequest(n=4))
    names = [path.name for path in saved.written]
    assert names == [
        "img_p000_t0000.tif", "img_p000_t0001.tif", "b_img_p000_t0000.tif", "b_img_p000_t0001.tif"
    ]  # fmt: skip
    for path, entry in zip(saved.written, saved.entries, strict=True):
        np.testing.assert_array_equal(
            tifffile.imread(path), pixels_of(movies[entry["movie"]], entry)
        )


def test_one_movie_given_twice_is_refused(synthetic, tmp_path):
    movies = [save_tif(tmp_path / f"{name}.tif", synthetic.frames[:2]) for name in "ab"]
    with pytest.raises(SettingsError, match="same content"):
        save_frames(movies, tmp_path / "out")


def test_an_unreadable_record_is_refused(colony, tmp_path):
    (tmp_path / "frames.json").write_text("{")
    with pytest.raises(SettingsError, match="cannot be read"):
        save_frames([colony], tmp_path, FrameRequest(n=1))


def test_cellpose_reads_the_files_as_its_gui_does(colony, tmp_path):
    from cellpose import io

    (path,) = save_frames([colony], tmp_path, FrameRequest(n=1)).written
    assert io.imread(str(path)).shape == (2, 160, 160)
