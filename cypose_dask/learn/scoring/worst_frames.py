"""A picture of frames where truth and prediction differ: truth, prediction, disagreement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cypose_dask.errors import MovieError, SettingsError
from cypose_dask.learn.scoring.frame_score import Comparison, compare_frame
from cypose_dask.results.preview import captioned, enlarged, overlay, panel_factor, save_sheet

if TYPE_CHECKING:
    from cypose_dask.learn.scoring.file_evaluation import FileEvaluation
    from cypose_dask.learn.scoring.label_pairs import LabelPair
    from cypose_dask.movies import Movie

__all__ = ["Backdrops", "draw_frame", "open_backdrops", "save_worst_frames"]

# Colours that the common kinds of colour blindness tell apart (Okabe and Ito 2008).
_AGREED = (110, 110, 110)
_NOT_SCORED = (50, 50, 60)
_MISSED = (213, 94, 0)
_SURPLUS = (0, 114, 220)
_BOTH = (204, 121, 200)
_TOO_THIN = (255, 200, 140)
_TOO_FAT = (150, 210, 255)

Backdrops = Callable[["LabelPair", int], np.ndarray]


@dataclass(frozen=True)
class _Rules:
    threshold: float
    ignore_border: bool
    partial_truth: bool


def save_worst_frames(
    found: FileEvaluation, path: str | Path, *, most: int = 3, backdrops: Backdrops | None = None
) -> list[str]:
    """Draw the worst frames as PNG, one row a frame.

    Parameters
    ----------
    found : FileEvaluation
    path : str or Path
        The PNG.
    most : int, optional
        Largest number of frames. Where none has an error, the first frame is drawn.
    backdrops : callable or None, optional
        Made by `open_backdrops`: the image under the outlines. None draws them over the cells'
        silhouettes.

    Returns
    -------
    list of str
        Names of the frames that were drawn, the worst first.
    """
    evaluation = found.evaluation
    rules = _Rules(evaluation.thresholds[0], evaluation.ignore_border, evaluation.partial_truth)
    chosen = evaluation.worst(most) or [0]
    names = [evaluation.frames[index].name for index in chosen]
    rows = [_row(found, index, (rules, backdrops)) for index in chosen]
    width = max(row.shape[1] for row in rows)
    white = [((0, 0), (0, width - row.shape[1]), (0, 0)) for row in rows]
    sheet = [np.pad(row, pad, constant_values=255) for row, pad in zip(rows, white, strict=True)]
    save_sheet(np.concatenate(sheet), path)
    return names


def draw_frame(
    truth: np.ndarray,
    predicted: np.ndarray,
    *,
    name: str = "",
    backdrop: np.ndarray | None = None,
    threshold: float = 0.5,
    ignore_border: bool = False,
    partial_truth: bool = False,
) -> np.ndarray:
    """Draw truth, prediction and disagreement of one frame side by side.

    Parameters
    ----------
    truth, predicted : ndarray of int, (Y, X)
        Labels.
    name : str, optional
        Stands above the first panel.
    backdrop : ndarray or None, (Y, X), optional
        The image under the outlines.
    threshold : float, optional
        Intersection over union from which two cells match, dimensionless.
    ignore_border, partial_truth : bool, optional
        As in `cypose_dask.learn.evaluate_labels`.

    Returns
    -------
    ndarray of uint8, (Y', X', 3)

    Raises
    ------
    SettingsError
        If the sizes differ.
    """
    rules = _Rules(threshold, ignore_border, partial_truth)
    return _draw((truth, predicted), name, (rules, backdrop))


def open_backdrops(path: str | Path, pairs: Sequence[LabelPair]) -> Backdrops:
    """Open the images that labels belong to: a movie for one pair, a folder for those of folders.

    Raises
    ------
    MovieNotFoundError
        If there is nothing at `path`.
    MovieError
        If an image cannot be read.
    SettingsError
        If a folder lacks images, or a movie has another number of frames than its labels.
    """
    movies = [_open(image) for image in _images(Path(path), pairs)]
    by_pair = {id(pair): _checked(movie, pair) for pair, movie in zip(pairs, movies, strict=True)}

    def read(pair: LabelPair, index: int) -> np.ndarray:
        movie = by_pair[id(pair)]
        return np.asarray(movie.read_frame(*_place(movie, pair, index))[0])

    return read


def _images(path: Path, pairs: Sequence[LabelPair]) -> list[Path]:
    from cypose_dask.learn.scoring.label_pairs import find_images

    if len(pairs) == 1 and not pairs[0].name:
        return [path]
    found = find_images(path, [pair.name for pair in pairs])
    return [found[pair.name] for pair in pairs]


def _open(path: Path) -> Movie:
    from cypose_dask.movies import open_movie

    return open_movie(path, rgb="mean")


def _checked(movie: Movie, pair: LabelPair) -> Movie:
    sizes = movie.info.sizes
    frames = sizes["T"] * sizes["P"] * sizes["Z"]
    if _times_known(pair) is None and frames != len(pair):
        raise SettingsError(
            f"{movie.info.path} holds {frames} of the {len(pair)} frames of {pair.truth.path}; "
            "expected the movie that was labelled."
        )
    return movie


def _times_known(pair: LabelPair) -> tuple[tuple[int, int, int], ...] | None:
    """Return the movie's own (t, p, z) of the frames, which only a result knows."""
    for labels in (pair.predicted, pair.truth):
        if labels.from_result:
            return labels.places
    return None


def _place(movie: Movie, pair: LabelPair, index: int) -> tuple[int, int, int]:
    sizes = movie.info.sizes
    known = _times_known(pair)
    if known is None:
        p, t, z = np.unravel_index(index, (sizes["P"], sizes["T"], sizes["Z"]))
        return int(t), int(p), int(z)
    if not all(at < sizes[axis] for at, axis in zip(known[index], "TPZ", strict=True)):
        raise SettingsError(
            f"{movie.info.path} has no frame {pair.frame_name(index)}; expected the movie that was "
            "segmented."
        )
    return known[index]


def _row(found: FileEvaluation, index: int, how: tuple[_Rules, Backdrops | None]) -> np.ndarray:
    rules, backdrops = how
    labels = found.read(index)
    pair, frame = found.places[index]
    backdrop = backdrops(pair, frame) if backdrops else None
    if backdrop is not None and backdrop.shape != labels[0].shape:
        raise MovieError(
            f"{pair.frame_name(frame)}: the image has {backdrop.shape} px (Y, X), its labels "
            f"{labels[0].shape}; expected the image that was labelled."
        )
    return _draw(labels, found.evaluation.frames[index].name, (rules, backdrop))


def _draw(
    labels: tuple[np.ndarray, np.ndarray], name: str, how: tuple[_Rules, np.ndarray | None]
) -> np.ndarray:
    rules, backdrop = how
    found = compare_frame(*labels, ignore_border=rules.ignore_border)
    match = found.scored.match(rules.threshold)
    sides = (found.truth, found.predicted)
    texts = (f"{name}  truth: {len(found.not_scored)}", f"prediction: {len(found.excused)}")
    panels = [
        captioned(_outlined(side, backdrop), text.strip())
        for side, text in zip(sides, texts, strict=True)
    ]
    third = _with_true_outlines(
        disagreement(found, match, partial_truth=rules.partial_truth), found.truth
    )
    return np.concatenate([*panels, captioned(third, _summary(found, match, rules))], axis=1)


def _outlined(labels: np.ndarray, backdrop: np.ndarray | None) -> np.ndarray:
    if backdrop is not None:
        return overlay(backdrop, labels)
    picture = overlay(labels > 0, labels)
    # Outlines show better on gray silhouettes than on white ones.
    picture[(picture == 255).all(axis=2)] = _AGREED
    return picture


def _with_true_outlines(picture: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Enlarge a picture and part the cells that touch."""
    from skimage.segmentation import find_boundaries

    factor = panel_factor(truth.shape)
    big = enlarged(picture, factor)
    big[find_boundaries(enlarged(truth, factor), mode="inner")] //= 2
    return big


def _summary(found: Comparison, match: np.ndarray, rules: _Rules) -> str:
    missed = f"missed {int(found.missed(match).sum())} (orange)"
    if rules.partial_truth:
        return missed
    return f"{missed}, too many {int(found.surplus(match).sum())} (blue)"


def disagreement(found: Comparison, match: np.ndarray, *, partial_truth: bool) -> np.ndarray:
    """Colour what two label images agree on and what they do not.

    Parameters
    ----------
    found : Comparison
    match : ndarray of int
        Pairs of cells that match, as `Overlaps.match` returns them for `found.scored`.
    partial_truth : bool
        Predicted cells without a match are no errors.

    Returns
    -------
    ndarray of uint8, (Y, X, 3)
        Gray: matched and agreed. Orange: a true cell that was missed. Blue: a predicted cell too
        many. Purple: both. Pale orange and pale blue: pixels of a matched cell that only the truth
        or only the prediction has. Dark: cells that are not scored.
    """
    partner = np.zeros(len(found.not_scored) + 1, np.int64)
    partner[found.scored.true[match] + 1] = found.scored.predicted[match] + 1
    taken = np.zeros(len(found.excused) + 1, bool)
    taken[partner] = True
    taken[0] = False
    missed = _at(found.missed(match), found.truth)
    surplus = _at(found.surplus(match), found.predicted) & (not partial_truth)
    same = (partner[found.truth] == found.predicted) & (partner[found.truth] > 0)
    layers = (
        ((found.truth > 0) | (found.predicted > 0), _NOT_SCORED),
        ((partner[found.truth] > 0) & ~same, _TOO_THIN),
        (taken[found.predicted] & ~same, _TOO_FAT),
        (same, _AGREED),
        (missed, _MISSED),
        (surplus, _SURPLUS),
        (missed & surplus, _BOTH),
    )
    picture = np.zeros((*found.truth.shape, 3), np.uint8)
    for where, colour in layers:
        picture[where] = colour
    return picture


def _at(cells: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.concatenate(([False], cells))[labels]
