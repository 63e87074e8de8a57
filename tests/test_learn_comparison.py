"""Models compared on a few frames: which frames, what is measured, and who comes first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile
import zarr

from cypose_dask.engine import segment_frames
from cypose_dask.errors import MovieError, SettingsError
from cypose_dask.learn import (
    FrameRequest,
    Shot,
    Variant,
    VariantScore,
    compare_models,
    consecutive_shots,
    save_comparison,
    save_frames,
    true_shots,
)
from cypose_dask.learn.comparison.ranking import Evidence, rank_variants
from cypose_dask.learn.comparison.tally import Tally, drift_of, tally_shot
from cypose_dask.movies import open_movie
from cypose_dask.settings import Settings
from helpers.nd2_writer import write_nd2
from helpers.results import write_result


def squares(*corners, side=6, shape=(40, 40)):
    """Labels (Y, X) with a square cell at each corner."""
    labels = np.zeros(shape, np.uint32)
    for number, (y, x) in enumerate(corners, 1):
        labels[y : y + side, x : x + side] = number
    return labels


A, B, C = (2, 2), (2, 20), (20, 20)
BLANK = squares()


def shot_of(*truth):
    """A shot of noise: with a truth, or with two frames."""
    noise = np.random.default_rng(0).random((1, 40, 40))
    return Shot((0, 0, 0), (noise,) if truth else (noise, noise), *truth)


def tallied(shot, *candidates):
    tallies = [Tally() for _ in candidates]
    agreed = tally_shot(tallies, shot, [np.stack(one) for one in candidates])
    return tallies, agreed


def score(name, model="m", **known):
    return VariantScore(variant=Variant(name, Settings()), model_sha256=model, cells=3, **known)


PAIRS = Evidence(places=5, truth=False, pairs=True)
SINGLES = Evidence(places=5, truth=False, pairs=False)
TRUTH = Evidence(places=5, truth=True, pairs=False)


def test_agreement_is_symmetric_and_counts_common_cells():
    tallies, agreed = tallied(
        shot_of(), [squares(A, B), squares(A, B)], [squares(B, A), squares(A)]
    )
    assert tallies[0].agreement == tallies[1].agreement == [1.0, 0.5]
    assert agreed == 0.75


def test_frames_without_cells_say_nothing_about_agreement():
    tallies, _ = tallied(shot_of(), [BLANK, squares(A)], [BLANK, squares(A)])
    assert tallies[0].agreement == [1.0]
    assert tallied(shot_of(), [BLANK, BLANK], [BLANK, BLANK])[0][0].agreement == []


def test_steadiness_is_the_share_of_cells_that_stay():
    (steady, half, nothing), _ = tallied(
        shot_of(),
        [squares(A, B), squares(B, A)],
        [squares(A, B), squares(A)],
        [BLANK, BLANK],
    )
    assert steady.steadiness == [1.0]
    assert half.steadiness == [0.5]
    assert half.jumps == [pytest.approx(1 / 1.5)]
    # Nothing found where others find cells is not steady
    assert nothing.steadiness == [0.0]


@pytest.mark.parametrize("drift", [(3, -5), (-4, 0), (0, 0)])
def test_drift_of_the_stage_is_found_and_taken_out(drift):
    wide = np.random.default_rng(1).random((80, 80)).astype(np.float32)
    before = wide[20:60, 20:60]
    after = wide[20 - drift[0] : 60 - drift[0], 20 - drift[1] : 60 - drift[1]]
    assert drift_of(before, after) == drift
    corners = [(14, 14), (14, 24)]
    moved = [(y + drift[0], x + drift[1]) for y, x in corners]
    shot = Shot((0, 0, 0), (before[None], after[None]))
    (tally, _), _ = tallied(shot, [squares(*corners), squares(*moved)], [BLANK, BLANK])
    assert tally.steadiness == [1.0]


def test_truth_is_held_against_the_first_frame():
    (right, wrong), _ = tallied(shot_of(squares(A, B)), [squares(B, A)], [squares(A, C)])
    np.testing.assert_allclose(right.ap, [[1, 1, 1]])
    np.testing.assert_allclose(wrong.ap, [[1 / 3] * 3])


def test_truth_ranks_before_anything_else():
    scores = [
        score("agreeing", ap=(0.5, 0.4, 0.3), agreement=0.9),
        score("right", ap=(0.9, 0.8, 0.1), agreement=0.2),
    ]
    ranked, sentence, caveats = rank_variants(scores, TRUTH)
    assert [(one.variant.name, one.rank) for one in ranked] == [("right", 1), ("agreeing", 2)]
    assert ranked[0].score == pytest.approx(0.6)
    assert "average precision against the truth" in sentence
    assert "5 frames" in sentence
    assert not any("Two models" in caveat for caveat in caveats)


def test_without_truth_three_are_ranked_by_agreement_and_steadiness():
    scores = [
        score("odd", "a", agreement=0.1, steadiness=0.9),
        score("good", "b", agreement=0.6, steadiness=0.8),
        score("fair", "c", agreement=0.6, steadiness=0.5),
    ]
    ranked, sentence, caveats = rank_variants(scores, PAIRS)
    assert [one.variant.name for one in ranked] == ["good", "fair", "odd"]
    assert [one.score for one in ranked] == pytest.approx([0.7, 0.55, 0.5])
    assert "without truth" in sentence
    assert "5 pairs of consecutive frames" in sentence
    assert "odd differs most from the others" in caveats[0]
    assert "nothing tells which model is right" in caveats[-1]
    assert rank_variants(scores, SINGLES)[0][0].score == 0.6


def test_two_cannot_outvote_each_other():
    scores = [
        score("a", agreement=0.7, steadiness=0.2),
        score("b", agreement=0.7, steadiness=0.3),
    ]
    ranked, sentence, caveats = rank_variants(scores, PAIRS)
    assert [one.variant.name for one in ranked] == ["b", "a"]
    assert "steadiness over time alone" in sentence
    assert "cannot tell which of them is right (they agree at 0.70)" in caveats[0]
    ranked, sentence, _ = rank_variants(scores, SINGLES)
    assert [(one.variant.name, one.rank) for one in ranked] == [("a", None), ("b", None)]
    assert sentence.startswith("not ranked")


def test_a_tie_is_said_and_a_model_without_cells_comes_last():
    scores = [
        score("blind"),
        score("a", agreement=0.8, steadiness=0.8),
        score("b", agreement=0.8, steadiness=0.79),
    ]
    ranked, _, caveats = rank_variants(scores, PAIRS)
    assert [one.variant.name for one in ranked] == ["a", "b", "blind"]
    assert ranked[-1].rank is None
    assert any("differ by 0.005, too little" in caveat for caveat in caveats)
    blind = [replace(one, cells=0.0) for one in scores]
    assert any("No model found a cell" in caveat for caveat in rank_variants(blind, PAIRS)[2])


@pytest.mark.parametrize(
    ("models", "words"),
    [("mmm", "one network with different settings"), ("mmn", "share a network")],
)
def test_relatives_are_named(models, words):
    scores = [score(f"v{i}", m, agreement=0.5, steadiness=0.5) for i, m in enumerate(models)]
    assert words in " ".join(rank_variants(scores, PAIRS)[2])


def test_pairs_are_consecutive_and_spread(movie):
    shots = list(consecutive_shots(movie, 2))
    assert [shot.place for shot in shots] == [(1, 0, 0), (3, 0, 0)]
    for shot in shots:
        for i, frame in enumerate(shot.frames):
            np.testing.assert_array_equal(frame, movie.read_frame(shot.place[0] + i))
    assert len(list(consecutive_shots(movie, 50))) == 4


def test_pairs_go_round_positions_and_around_damage(synthetic, tmp_path):
    frames = np.stack([synthetic.frames] * 2, axis=1)
    path = write_nd2(tmp_path / "p.nd2", frames, axes="TPCYX", skip_frames=(2,))
    movie = open_movie(path, allow_damaged=True)
    places = [shot.place for shot in consecutive_shots(movie, 2)]
    assert places == [(1, 1, 0), (3, 1, 0)]


def test_stills_give_single_frames(synthetic, tmp_path):
    path = write_nd2(tmp_path / "p.nd2", synthetic.frames[None], axes="TPCYX")
    shots = list(consecutive_shots(open_movie(path), 3))
    assert [shot.place for shot in shots] == [(0, 0, 0), (0, 2, 0), (0, 4, 0)]
    assert {len(shot.frames) for shot in shots} == {1}


def test_crops_are_the_same_square_in_both_frames(movie):
    for shot in consecutive_shots(movie, 2, crop_px=32):
        y, x, side = shot.window
        for i, frame in enumerate(shot.frames):
            whole = movie.read_frame(shot.place[0] + i)
            np.testing.assert_array_equal(frame, whole[:, y : y + side, x : x + side])
    with pytest.raises(SettingsError, match="too small for a crop"):
        list(consecutive_shots(movie, 2, crop_px=65))


def test_blank_movies_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((4, 16, 16), np.uint8), photometric="minisblack")
    with pytest.raises(MovieError, match="no two consecutive frames"):
        list(consecutive_shots(open_movie(tmp_path / "b.tif", axes="TYX"), 2))


def test_truth_of_a_stack_meets_its_own_frames(movie, synthetic, tmp_path):
    truth = synthetic.labels.copy()
    truth[2] = 0  # not annotated
    tifffile.imwrite(tmp_path / "t.tif", truth, photometric="minisblack")
    shots = list(true_shots(movie, tmp_path / "t.tif", 3))
    assert [shot.place[0] for shot in shots] == [0, 4, 1]
    assert len(list(true_shots(movie, tmp_path / "t.tif", 9))) == 4
    for shot in shots:
        np.testing.assert_array_equal(shot.truth, truth[shot.place[0]])
        np.testing.assert_array_equal(shot.frames[0], movie.read_frame(*shot.place))


def test_truth_that_does_not_fit_is_refused(movie, synthetic, tmp_path):
    tifffile.imwrite(tmp_path / "t.tif", synthetic.labels[:3], photometric="minisblack")
    with pytest.raises(SettingsError, match=r"3 label images.*5 frames"):
        list(true_shots(movie, tmp_path / "t.tif", 3))
    tifffile.imwrite(tmp_path / "s.tif", synthetic.labels[:, :40], photometric="minisblack")
    with pytest.raises(SettingsError, match="40 x 64 px"):
        list(true_shots(movie, tmp_path / "s.tif", 3))
    tifffile.imwrite(tmp_path / "e.tif", 0 * synthetic.labels, photometric="minisblack")
    with pytest.raises(MovieError, match="no cell is labelled"):
        list(true_shots(movie, tmp_path / "e.tif", 3))


@pytest.mark.parametrize("alone", [None, 0, 1])
def test_a_result_knows_its_own_frames_and_positions(alone, synthetic, tmp_path):
    frames = np.stack([synthetic.frames, synthetic.frames[::-1]], axis=1)
    path = write_nd2(tmp_path / "p.nd2", frames, axes="TPCYX")
    labels = np.stack([synthetic.labels, synthetic.labels[::-1]], axis=1)[2:, :, None]
    if alone is not None:
        labels = labels[:, alone : alone + 1]
    store = tmp_path / "r.zarr"
    write_result(store, labels.astype(np.uint32), start_frame=2)
    group = zarr.open_group(store)
    ours = dict(group.attrs["cypose_dask"])
    ours["plan"] = {**ours["plan"], "movie": {"reading": {"position": alone}}}
    group.attrs["cypose_dask"] = ours
    for position in (None, 0, 1):
        movie = open_movie(path, position=position)
        known = {p for p in (0, 1) if position in (None, p) and alone in (None, p)}
        if not known:
            with pytest.raises(SettingsError, match="no finished labels"):
                list(true_shots(movie, store, 9))
            continue
        shots = list(true_shots(movie, store, 9))
        assert {shot.place[0] for shot in shots} == {2, 3, 4}
        assert {shot.place[1] + (position or 0) for shot in shots} == known
        for shot in shots:
            t, p = shot.place[0], shot.place[1] + (position or 0)
            np.testing.assert_array_equal(shot.frames[0], frames[t, p])
            np.testing.assert_array_equal(shot.truth, synthetic.labels[t if p == 0 else 4 - t])


@pytest.mark.parametrize("crop_px", [None, 32])
def test_an_annotated_folder_of_frames_is_a_truth(crop_px, movie, synthetic, tmp_path):
    saved = save_frames([movie], tmp_path, FrameRequest(n=3, crop_px=crop_px))
    with pytest.raises(MovieError, match="none of its 3 frames"):
        list(true_shots(movie, tmp_path, 5))
    for path, entry, ending in zip(
        saved.written, saved.entries, ("_seg.npy", "_cp_masks.tif", None), strict=True
    ):
        y, x, side = entry["window"] or (0, 0, 64)
        labels = synthetic.labels[entry["t"], y : y + side, x : x + side]
        target = path.with_name(f"{path.stem}{ending}")
        if ending == "_seg.npy":
            np.save(target, {"masks": labels, "filename": str(path)}, allow_pickle=True)
        elif ending:
            tifffile.imwrite(target, labels)
    shots = list(true_shots(movie, tmp_path, 5))
    assert len(shots) == 2
    for shot in shots:
        y, x, side = shot.window or (0, 0, 64)
        part = slice(y, y + side), slice(x, x + side)
        np.testing.assert_array_equal(shot.truth, synthetic.labels[shot.place[0]][part])
        np.testing.assert_array_equal(shot.frames[0], movie.read_frame(*shot.place)[:, *part])


def test_an_annotated_folder_may_hold_its_labels_in_masks(movie, synthetic, tmp_path):
    saved = save_frames([movie], tmp_path, FrameRequest(n=2))
    (tmp_path / "masks").mkdir()
    for path, entry in zip(saved.written, saved.entries, strict=True):
        labels = synthetic.labels[entry["t"]]
        tifffile.imwrite(tmp_path / "masks" / f"{path.stem}_cp_masks.tif", labels)
    shots = list(true_shots(movie, tmp_path, 5))
    assert len(shots) == 2
    for shot in shots:
        np.testing.assert_array_equal(shot.truth, synthetic.labels[shot.place[0]])


def test_frames_of_another_movie_are_no_truth(movie, synthetic, tmp_path):
    tifffile.imwrite(tmp_path / "o.tif", synthetic.frames[:2, 0], photometric="minisblack")
    other = open_movie(tmp_path / "o.tif", axes="TYX")
    save_frames([other], tmp_path / "out", FrameRequest(n=1))
    with pytest.raises(SettingsError, match="holds no frames of"):
        list(true_shots(movie, tmp_path / "out", 3))


def test_models_see_their_own_channels_and_settings(movie, monkeypatch):
    seen = []

    def segment(frames, model, settings):
        seen.append((frames.copy(), settings))
        return segment_frames(frames, model, settings)

    monkeypatch.setattr("cypose_dask.learn.comparison.compare.segment_frames", segment)
    shots = list(consecutive_shots(movie, 1))
    plain = Settings(channels=(1,), diameter=12, normalize="movie")
    variants = [Variant("one", plain), Variant("mean", Settings(channels="mean"))]
    found = compare_models(shots, variants)
    np.testing.assert_array_equal(seen[0][0][:, 0], [frame[1] for frame in shots[0].frames])
    assert seen[1][0].shape == (2, 2, 64, 64)
    assert seen[0][1].diameter == 12
    assert isinstance(seen[0][1].normalize, tuple)  # measured once, over all frames
    assert {one.variant.name for one in found.scores} == {"one", "mean"}
    assert all(one.frames_per_s > 0 for one in found.scores)


def test_the_better_model_wins_with_truth_and_the_order_of_arguments_does_not_matter(
    movie, synthetic, tmp_path
):
    tifffile.imwrite(tmp_path / "t.tif", synthetic.labels, photometric="minisblack")
    good, bad = (
        Variant("good", Settings(channels=(0,))),
        Variant("bad", Settings(channels=(0,), cellprob_threshold=6.0)),
    )
    for order in ([good, bad], [bad, good]):
        shots = true_shots(movie, tmp_path / "t.tif", 1)
        found = compare_models(shots, order)
        assert [one.variant.name for one in found.scores] == ["good", "bad"]
        assert found.scores[0].ap[0] > 0.8
        area = [int((labels > 0).sum()) for labels in found.example.labels]
        assert area[0] > area[1] > 0
    place = found.example.shot.place
    expected = segment_frames(movie.read_frame(*place)[None, :1]).labels[0]
    np.testing.assert_array_equal(found.example.labels[0], expected)
    assert found.to_dict()["variants"][0]["settings"]["channels"] == [0]
    picture = save_comparison(found, tmp_path / "out" / "c.png")
    from PIL import Image

    with Image.open(picture) as drawn:
        assert drawn.width > 4 * 400
        assert drawn.height > 400


@pytest.mark.parametrize(
    ("names", "words"), [(["a"], "at least two"), (["a", "b", "a"], "given twice")]
)
def test_candidates_must_be_several_and_different(names, words):
    with pytest.raises(SettingsError, match=words):
        compare_models([shot_of()], [Variant(name, Settings()) for name in names])


def test_no_frames_are_refused():
    with pytest.raises(SettingsError, match="no frames"):
        compare_models([], [Variant("a", Settings()), Variant("b", Settings())])
