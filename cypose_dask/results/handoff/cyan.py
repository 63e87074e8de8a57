"""Masks for CyAn, the MATLAB toolbox that tracks what CyPose segmented.

CyAn reads no labels. With ``UseMasks`` and ``InputMaskDir`` its CyTracker opens
``<InputMaskDir>/<movie>_series<N>_cellMask.tif``, takes the page of each frame by its number in the
movie (from 1), and makes ``mask > 0`` into cells by connectivity, corners included: cells that
touch in a labelled TIF become one. So these masks leave a gap between cells.

Source: CyTracker.m, ``trackFile``, of https://github.com/Biofrontiers-ALMC/CyAn (commit 03e2a50c);
MATLAB's ``bwconncomp``, which connects 8 neighbours in a plane.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import numpy as np

from cypose_dask.errors import ResultError, SettingsError
from cypose_dask.results.atomic import whole_file
from cypose_dask.results.handoff.choice import explained
from cypose_dask.results.naming import SOFTWARE
from cypose_dask.results.pages import LabelPages
from cypose_dask.results.ranges import as_ranges
from cypose_dask.results.store import Result
from cypose_dask.results.tif import require_complete, require_files

__all__ = ["export_cyan", "with_gaps"]

log = logging.getLogger(__name__)

_NEIGHBOURS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def export_cyan(
    result: Result | str | Path, folder: str | Path, *, allow_incomplete: bool = False
) -> list[Path]:
    """Write masks that CyAn's CyTracker reads with ``UseMasks``.

    Parameters
    ----------
    result : Result, str or Path
        Without planes, which CyAn does not know.
    folder : str or Path
        CyAn's ``InputMaskDir``; made if it is not there.
    allow_incomplete : bool
        Write frames that were not segmented as blank pages instead of refusing.

    Returns
    -------
    list of Path
        ``MOVIE_series1_cellMask.tif``, one a position: a page for each frame of the whole movie,
        uint8, 255 in cells. Where cells touch, the one with the higher label loses the pixels at
        the other. Frames outside of the result are blank: set CyAn's ``FrameRange`` then.

    Raises
    ------
    IncompleteResultError
        If frames have no labels and `allow_incomplete` is False.
    SettingsError
        If the result has planes.
    ResultError
        If the result is damaged, or a file cannot be written. No file is left then.

    Notes
    -----
    Frames in which CyAn will see another number of cells, because a gap cut a thin cell into two or
    a cell was in two parts before, are logged as a warning.
    """
    result, folder = require_complete(result, allow_incomplete), Path(folder)
    if result.layout.planes > 1:
        raise SettingsError(
            f"{result.path} has {result.layout.planes} planes, and CyAn reads movies of one."
        )
    about, written = _about(result), []
    for position in range(result.n_positions):
        labels = LabelPages.of(result, position)
        require_files(result, position, labels)
        series = (about.position or 0) + position + 1
        path = folder / f"{about.stem}_series{series}_cellMask.tif"
        masks = _Masks(labels, about.frames)
        with explained(path), whole_file(path) as partial:
            _write(partial, masks)
        masks.tell(path)
        written.append(path)
    return written


@dataclass(frozen=True, slots=True)
class _About:
    """What CyAn makes a name of: the movie's file without its last suffix, its position, its T."""

    stem: str
    position: int | None
    frames: int


def _about(result: Result) -> _About:
    try:
        movie = result.attributes["plan"]["movie"]
        path = str(movie["path"])
        name = PureWindowsPath(path) if "\\" in path else PurePath(path)
        return _About(name.stem, movie["reading"]["position"], int(movie["sizes"]["T"]))
    except (LookupError, TypeError, ValueError) as error:
        raise ResultError(
            f"{result.path} does not say which movie it was made from ({error!r}). Expected a "
            "result of `cypose-dask segment`."
        ) from error


@dataclass(slots=True)
class _Masks:
    """The pages of one position, and the frames in which CyAn will count otherwise."""

    labels: LabelPages
    frames: int
    differing: list[int] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        """T of the movie, Y, X."""
        return (self.frames, *self.labels.array.shape[-2:])

    def __iter__(self) -> Iterator[np.ndarray]:
        first, blank = self.labels.first, np.zeros(self.shape[1:], np.uint8)
        yield from (blank for _ in range(first))
        for t, labels in enumerate(self.labels, first):
            mask = with_gaps(labels)
            if _count_connected(mask) != labels.max(initial=0):
                self.differing.append(t)
            yield np.where(mask, np.uint8(255), np.uint8(0))
        yield from (blank for _ in range(first + len(self.labels), self.frames))

    def tell(self, path: Path) -> None:
        if self.differing:
            log.warning(
                "%s: CyAn will count another number of cells in frames %s, where a cell is in "
                "several parts or was too thin for a gap.",
                path.name,
                as_ranges(self.differing),
            )


def with_gaps(labels: np.ndarray) -> np.ndarray:
    """Return which pixels of labels (Y, X) are cells after no two of them touch: (Y, X) bool."""
    padded = np.pad(labels, 1)
    kept: np.ndarray = labels > 0
    for y, x in _NEIGHBOURS:
        other = padded[1 + y : 1 + y + labels.shape[0], 1 + x : 1 + x + labels.shape[1]]
        kept &= (other == 0) | (other >= labels)
    return kept


def _count_connected(mask: np.ndarray) -> int:
    from scipy.ndimage import label

    return int(label(mask, np.ones((3, 3)))[1])


def _write(path: Path, masks: _Masks) -> None:
    import tifffile

    options: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib"}
    with tifffile.TiffWriter(path) as tif:
        tif.write(
            iter(masks), shape=masks.shape, dtype=np.uint8, metadata=None, software=SOFTWARE,
            **options,
        )  # fmt: skip
