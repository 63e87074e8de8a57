"""Which label file belongs to which: folders paired by name, frames paired by their order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cypose_dask.errors import MovieError, MovieNotFoundError, SettingsError
from cypose_dask.learn.scoring.label_files import LabelFrames, read_labels

__all__ = [
    "LabelPair",
    "find_images",
    "find_label_files",
    "folder_of_labels",
    "label_stem",
    "pair_labels",
]

_SUFFIX = re.compile(r"(\.ome)?\.(tiff?|btf|tf8|png|npy|zarr)$", re.I)
_IMAGE_SUFFIX = re.compile(r"(\.ome)?\.(tiff?|btf|tf2|tf8|lsm|stk|png|nd2|zarr)$", re.I)
_MARK = re.compile(r"_(seg|cp_masks|masks?|labels?)(_p\d{3,})?$", re.I)
_LABEL_FOLDERS = ("masks", "labels")
_LISTED = 10


@dataclass(frozen=True, eq=False)
class LabelPair:
    """A prediction and its truth, with as many frames.

    Attributes
    ----------
    name : str
        Stem of the files in a folder; empty where two files were named.
    truth, predicted : LabelFrames
    """

    name: str
    truth: LabelFrames
    predicted: LabelFrames

    def __len__(self) -> int:
        """Return the number of frames of each."""
        return len(self.truth)

    def frame_name(self, index: int) -> str:
        """Return the file's stem and what tells the frame from the others of the file."""
        source = self.predicted if self.predicted.from_result else self.truth
        return f"{self.name} {source.name(index)}".strip() or self.truth.path.name

    def not_done(self) -> Iterator[str]:
        """Name the frames that one of the two has no labels for."""
        for side, frames in (("truth", self.truth), ("prediction", self.predicted)):
            yield from (f"{side} {self.name} {one}".replace("  ", " ") for one in frames.not_done)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Read truth and prediction of one frame, (Y, X) each; None if one has no labels.

        Raises
        ------
        MovieError
            If one cannot be read, or the two have different sizes.
        """
        truth, predicted = self.truth.read(index), self.predicted.read(index)
        if truth is None or predicted is None:
            return None
        if truth.shape != predicted.shape:
            raise MovieError(
                f"{self.frame_name(index)}: the truth has {truth.shape[0]} x {truth.shape[1]} px "
                f"(Y x X, {self.truth.path}), the prediction {predicted.shape[0]} x "
                f"{predicted.shape[1]} px ({self.predicted.path}). Both must show the same frame."
            )
        return truth, predicted


def pair_labels(
    prediction: str | Path, truth: str | Path, *, allow_missing: bool = False
) -> tuple[list[LabelPair], list[str]]:
    """Pair predicted label files with true ones.

    Parameters
    ----------
    prediction, truth : str or Path
        Two files, which need not have the same name, or two folders, whose files are paired by
        `label_stem`.
    allow_missing : bool, optional
        Leave files out that have no partner.

    Returns
    -------
    pairs : list of LabelPair
        In the order of their names, unread; never empty.
    left_out : list of str
        Files without a partner, in words.

    Raises
    ------
    MovieNotFoundError
        If there is nothing at a path, or a folder has no label files.
    SettingsError
        If one is a folder and the other a file, or files have no partner.
    MovieError
        If a file cannot be read, two different ones have the same stem, or a pair has different
        numbers of frames.
    """
    sides = Path(prediction), Path(truth)
    folders = [_is_folder(side) for side in sides]
    if folders[0] != folders[1]:
        one, other = sides if folders[0] else reversed(sides)
        raise SettingsError(
            f"{one} is a folder and {other} is a file. Name two files or two folders; a pattern in "
            f"quotes, such as '{one}/*.tif', makes one movie of a folder of frames."
        )
    if not folders[0]:
        return [_pair("", read_labels(sides[0]), read_labels(sides[1]))], []
    found = [find_label_files(side) for side in sides]
    left_out = _without_partner(found[0], found[1])
    common = sorted(found[0].keys() & found[1].keys())
    if not common or (left_out and not allow_missing):
        advice = f", or score the {len(common)} pairs with --allow-missing (allow_missing=True)"
        raise SettingsError(
            f"{sides[0]} has {len(found[0])} label files and {sides[1]} has {len(found[1])}; "
            f"{len(left_out)} have no partner: {_listed(left_out)}. Files are paired by name "
            "without _seg, _cp_masks, _masks or _labels. Rename or move them"
            f"{advice if common else ''}."
        )
    return [_pair(name, found[0][name], found[1][name]) for name in common], left_out


def find_label_files(folder: str | Path) -> dict[str, LabelFrames]:
    """Find the label files of a folder, by `label_stem`.

    Where some files are marked as labels (``_seg.npy``, ``_cp_masks.tif``, ``_masks.tif``,
    ``_labels.tif``, a result zarr), the others are taken for images. Where none is, labels are
    looked for in `folder_of_labels`, and every TIF, PNG and zarr is one. Two files of one stem are
    one if they hold the same labels.

    Raises
    ------
    MovieNotFoundError
        If there is no such folder, or no label file in it.
    MovieError
        If a file cannot be read, or two of one stem hold different labels.
    SettingsError
        If there are labels in two folders inside it.
    """
    folder = folder_of_labels(_existing(folder))
    files = sorted(path for path in folder.iterdir() if _is_candidate(path))
    marked = [path for path in files if _is_marked(path)]
    groups: dict[str, list[Path]] = {}
    for path in marked or files:
        groups.setdefault(label_stem(path), []).append(path)
    if not groups:
        raise MovieNotFoundError(
            f"{folder}: there are no label files. Expected .tif, .png, _seg.npy or .zarr."
        )
    return {stem: _only(paths) for stem, paths in groups.items()}


def folder_of_labels(folder: Path) -> Path:
    """Return where the labels of a folder of images lie: in it, or in ``masks`` or ``labels``.

    Label files beside the images (``_cp_masks.tif`` and the like) win over those inside.

    Raises
    ------
    SettingsError
        If there are none beside the images, and some in both folders.
    """
    if any(_is_candidate(path) and _is_marked(path) for path in folder.iterdir()):
        return folder
    inside = [folder / name for name in _LABEL_FOLDERS if _holds_labels(folder / name)]
    if len(inside) > 1:
        raise SettingsError(
            f"{inside[0]} and {inside[1]} both hold label files, and it is not clear which are "
            "meant. Move one of them out of the folder."
        )
    return inside[0] if inside else folder


def label_stem(path: str | Path) -> str:
    """Return the name of the image that a label file belongs to.

    Examples
    --------
    >>> [label_stem(name) for name in ("a_seg.npy", "a_cp_masks.tif", "a.ome.tif", "a.zarr")]
    ['a', 'a', 'a', 'a']
    >>> label_stem("movie_cp_masks_p001.tif")
    'movie_p001'
    """
    stem = _SUFFIX.sub("", Path(path).name)
    return _MARK.sub(lambda match: match[2] or "", stem)


def find_images(folder: str | Path, stems: Iterable[str]) -> dict[str, Path]:
    """Find the images that label files belong to, by `label_stem`; label files are no images.

    Raises
    ------
    MovieNotFoundError
        If there is no such folder.
    SettingsError
        If an image is missing, or two images have the same stem.
    """
    folder = _existing(folder)
    stems = list(stems)
    candidates: dict[str, list[Path]] = {stem: [] for stem in stems}
    for path in sorted(folder.iterdir()):
        stem = _IMAGE_SUFFIX.sub("", path.name)
        if stem in candidates and stem != path.name and not _is_marked(path):
            candidates[stem].append(path)
    missing = [stem for stem, found in candidates.items() if not found]
    if missing:
        raise SettingsError(
            f"{folder} has no image for {len(missing)} of {len(stems)} label files: "
            f"{_listed(missing)}. Images have the name of the labels, without _seg, _cp_masks, "
            "_masks or _labels."
        )
    twice = [str(path) for found in candidates.values() if len(found) > 1 for path in found]
    if twice:
        raise SettingsError(f"Images have the same name: {_listed(twice)}. Keep one of each.")
    return {stem: found[0] for stem, found in candidates.items()}


def _pair(name: str, predicted: LabelFrames, truth: LabelFrames) -> LabelPair:
    # A TIF does not know whether its frames are times or planes.
    if [n for n in truth.grid if n > 1] != [n for n in predicted.grid if n > 1]:
        raise MovieError(
            f"The truth {truth.path} has {_frames(truth)}, the prediction {predicted.path} "
            f"{_frames(predicted)}. Both must show the same frames."
        )
    return LabelPair(name, truth, predicted)


def _frames(labels: LabelFrames) -> str:
    names = ("positions", "times", "planes")
    several = [f"{n} {word}" for n, word in zip(labels.grid, names, strict=True) if n > 1]
    frames = f"{len(labels)} frame{'' if len(labels) == 1 else 's'}"
    return f"{frames} ({' x '.join(several)})" if len(several) > 1 else frames


def _only(paths: Sequence[Path]) -> LabelFrames:
    """Return the one file of a stem, or the first of several with the same labels."""
    # A result knows which of its frames failed; its TIF does not.
    opened = sorted((read_labels(path) for path in paths), key=lambda one: not one.from_result)
    for other in opened[1:]:
        if not _same(opened[0], other):
            raise MovieError(
                f"{opened[0].path} and {other.path} belong to the same image and hold different "
                "labels. Move the one that is not meant out of the folder."
            )
    return opened[0]


def _same(one: LabelFrames, other: LabelFrames) -> bool:
    if len(one) != len(other):
        return False
    pairs = ((one.read(i), other.read(i)) for i in range(len(one)))
    return all(a is None or b is None or np.array_equal(a, b) for a, b in pairs)


def _without_partner(
    predicted: Mapping[str, LabelFrames], truth: Mapping[str, LabelFrames]
) -> list[str]:
    alone = [(predicted[s].path, "no truth") for s in sorted(predicted.keys() - truth.keys())]
    alone += [(truth[s].path, "no prediction") for s in sorted(truth.keys() - predicted.keys())]
    return [f"{path.name} ({reason})" for path, reason in alone]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _existing(folder: str | Path) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise MovieNotFoundError(f"{folder}: there is no such folder. Check the path.")
    return folder


def _holds_labels(folder: Path) -> bool:
    return folder.is_dir() and any(_is_candidate(path) for path in folder.iterdir())


def _is_folder(path: Path) -> bool:
    return path.is_dir() and path.suffix.lower() != ".zarr" and not _is_zarr(path)


def _is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup", ".zattrs"))


def _is_candidate(path: Path) -> bool:
    if path.name.startswith(".") or not _SUFFIX.search(path.name) or _is_no_label(path):
        return False
    if path.suffix.lower() == ".npy":
        return path.name.lower().endswith("_seg.npy")
    return _is_zarr(path) if path.is_dir() else path.suffix.lower() != ".zarr"


def _is_no_label(path: Path) -> bool:
    """Tell our own pictures, flows and probabilities from labels."""
    from cypose_dask.results import is_own_output

    name = path.name.lower()
    ours = name.endswith((".flow.tif", ".prob.tif"))
    return ours or (name.endswith(".png") and is_own_output(path))


def _is_marked(path: Path) -> bool:
    from cypose_dask.results import is_own_output

    marked = _MARK.search(_SUFFIX.sub("", path.name)) is not None
    return marked or (path.suffix.lower() == ".zarr" and is_own_output(path))
