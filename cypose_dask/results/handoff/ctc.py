"""Folders of the Cell Tracking Challenge: images, masks of track numbers, and a table of tracks.

::

    01/t000.tif ...              the images
    01_RES/mask000.tif ...       uint16, pixels hold the number of their track
    01_RES/res_track.txt         L B E P: number, first and last frame, parent (0 for none)

Source: the challenge's "Naming and file content conventions" for submissions. Frames count from 0
in the folder; a sequence is a position of the movie, counted from 01.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cypose_dask.errors import ResultError, SettingsError
from cypose_dask.movies import Movie
from cypose_dask.results.atomic import whole_folder
from cypose_dask.results.handoff.choice import explained
from cypose_dask.results.handoff.tracks import Track, TrackRow, Tracks, tracks_of
from cypose_dask.results.linking import LinkedCells
from cypose_dask.results.naming import SOFTWARE
from cypose_dask.results.pages import LabelPages
from cypose_dask.results.source import frame_or_blank, network_movie
from cypose_dask.results.store import Result, Status
from cypose_dask.results.tif import require_complete, require_files
from cypose_dask.results.tracks import has_tracks, read_tracks

__all__ = ["export_ctc"]

_MOST_TRACKS = np.iinfo(np.uint16).max
_FEWEST_DIGITS = 3


def export_ctc(
    result: Result | str | Path,
    folder: str | Path,
    *,
    tracks: Sequence[Tracks] | None = None,
    unlinked: bool = False,
    movie: str | Path | None = None,
    allow_incomplete: bool = False,
) -> list[Path]:
    """Write a result as the Cell Tracking Challenge's evaluation and many trackers read it.

    Parameters
    ----------
    result : Result, str or Path
        Without planes: labels are those of single planes, and the challenge's those of volumes.
    folder : str or Path
        A new folder.
    tracks : sequence of Tracks or None
        One for each position. None takes those of `cypose_dask.link`.
    unlinked : bool
        Make every cell of every frame a track of its own, without parents. Masks are then right
        for segmentation, and worth nothing as tracks.
    movie : str, Path or None
        Where the movie lies now; None looks where it was, and beside the result.
    allow_incomplete : bool
        Write blank masks where frames were not segmented instead of refusing.

    Returns
    -------
    list of Path
        The folders of results, ``01_RES``, ``02_RES``, ... The images beside them are the first
        channel that the network saw, in the movie's dtype.

    Raises
    ------
    SettingsError
        If there are `tracks` and `unlinked`, more tracks than uint16 numbers, planes, or tracks
        that contradict the labels or each other.
    IncompleteResultError
        If frames have no labels and `allow_incomplete` is False.
    MovieNotFoundError
        If the movie is gone.
    MovieError
        If it cannot be read.
    ResultError
        If the cells were not linked, the result is damaged, there is something at `folder`, or it
        cannot be written. Nothing is left then.
    """
    result, folder = require_complete(result, allow_incomplete), Path(folder)
    chosen = _chosen(result, tracks, unlinked=unlinked)
    opened, mean = network_movie(result, movie)
    with explained(folder), whole_folder(folder) as partial:
        for position, linked in enumerate(chosen):
            labels = LabelPages.of(result, position)
            require_files(result, position, labels)
            images = _Images(opened, mean, position)
            _write_sequence(partial / f"{position + 1:02d}", images, labels, linked)
    return [folder / f"{position + 1:02d}_RES" for position in range(result.n_positions)]


def _chosen(result: Result, tracks: Sequence[Tracks] | None, *, unlinked: bool) -> Sequence[Tracks]:
    if result.layout.planes > 1:
        raise SettingsError(
            f"{result.path} has {result.layout.planes} planes, whose cells are numbered plane by "
            "plane; the Cell Tracking Challenge numbers volumes. Export a movie of one plane."
        )
    if unlinked and tracks is not None:
        raise SettingsError("There are tracks, and unlinked cells were asked for; choose one.")
    if unlinked:
        return [_alone(result, position) for position in range(result.n_positions)]
    if tracks is None:
        return [tracks_of(cells) for cells in _linked(result)]
    if len(tracks) != result.n_positions:
        raise SettingsError(
            f"{result.path} has {result.n_positions} positions, and tracks of {len(tracks)} were "
            "given. Expected one for each."
        )
    return tracks


def _linked(result: Result) -> list[LinkedCells]:
    if not has_tracks(result):
        raise ResultError(
            f"{result.path}: a folder of the Cell Tracking Challenge needs tracks, and its cells "
            f"were not linked. Link them (cypose-dask link {result.path}), or write every cell of "
            "every frame as a track of its own with --unlinked, to score the segmentation alone."
        )
    return read_tracks(result)


def _alone(result: Result, position: int) -> Tracks:
    """Make every cell of every frame a track."""
    done = result.status(position)[:, 0] == Status.DONE
    cells = np.where(done, result.cells(position)[:, 0], 0).astype(np.int64)
    last, first = np.cumsum(cells), result.start_frame
    times = np.repeat(np.arange(len(cells)) + first, cells)
    return Tracks(
        table=[Track(i, int(t), int(t)) for i, t in enumerate(times[: _MOST_TRACKS + 1], 1)],
        ids=lambda t: np.arange(last[t - first] - cells[t - first], last[t - first]) + 1,
    )


@dataclass(frozen=True, slots=True)
class _Images:
    """One image a frame: the first channel that the network saw, or the mean."""

    movie: Movie
    mean: bool
    position: int

    def read(self, t: int, *, may_be_damaged: bool) -> np.ndarray:
        """Read the image (Y, X) of a frame; a damaged one that may be so is blank."""
        place = (t, self.position, 0)
        frame = frame_or_blank(self.movie, place, may_be_damaged=may_be_damaged)
        return frame.mean(axis=0, dtype=np.float32) if self.mean else frame[0]


def _write_sequence(folder: Path, images: _Images, labels: LabelPages, tracks: Tracks) -> None:
    masks = folder.with_name(f"{folder.name}_RES")
    for one in (folder, masks):
        one.mkdir(parents=True)
    table = _table(labels, tracks)
    digits = max(_FEWEST_DIGITS, len(str(len(labels) - 1)))
    seen = _Seen(table)
    for number, page in enumerate(labels):
        t, done = number + labels.first, bool(labels.status[number, 0] == Status.DONE)
        ids = tracks.ids(t) if done else np.zeros(0, int)
        seen.add(t, ids, int(page.max(initial=0)))
        numbered = np.concatenate([[0], ids]).astype(np.uint16)[page]
        _write_tif(masks / f"mask{number:0{digits}d}.tif", numbered)
        image = images.read(t, may_be_damaged=not done)
        _write_tif(folder / f"t{number:0{digits}d}.tif", image)
    seen.require_all()
    (masks / "res_track.txt").write_text("".join(_lines(table, labels.first)))


def _write_tif(path: Path, image: np.ndarray) -> None:
    import tifffile

    tifffile.imwrite(
        path, image, photometric="minisblack", compression="zlib", software=SOFTWARE, metadata=None
    )


def _lines(table: dict[int, TrackRow], first: int) -> Iterator[str]:
    for number in sorted(table):
        row = table[number]
        yield f"{number} {row.begin - first} {row.end - first} {row.parent}\n"


def _table(labels: LabelPages, tracks: Tracks) -> dict[int, TrackRow]:
    """Return the tracks by their number.

    Raises
    ------
    SettingsError
        If numbers occur twice or do not fit into uint16, or parents are not there before.
    """
    rows = list(tracks.table)
    table = {int(row.id): row for row in rows}
    if len(table) < len(rows) or min(table, default=1) < 1:
        raise SettingsError(f"{labels.store}: numbers of tracks occur twice, or are below 1.")
    if max(table, default=0) > _MOST_TRACKS:
        raise SettingsError(
            f"{labels.store} has tracks numbered up to {max(table)} or more, and masks of the Cell "
            f"Tracking Challenge are uint16, which number {_MOST_TRACKS}. Link the cells, or "
            "segment fewer frames a result (--start-frame, --end-frame)."
        )
    for row in rows:
        parent = table.get(row.parent) if row.parent else None
        if row.parent and (parent is None or parent.end >= row.begin):
            raise SettingsError(
                f"{labels.store}: track {row.id} begins at frame {row.begin}, and its parent "
                f"{row.parent} is no track that ended before."
            )
    return table


@dataclass(slots=True)
class _Seen:
    """In which frames each track was seen, against its row in the table."""

    table: dict[int, TrackRow]
    frames: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, t: int, ids: np.ndarray, cells: int) -> None:
        """Note the tracks of a frame.

        Raises
        ------
        SettingsError
            If there are not as many as cells, one occurs twice, or has no row.
        """
        numbers = [int(number) for number in ids]
        strange = [number for number in numbers if number not in self.table]
        if len(numbers) != cells or len(set(numbers)) < cells or strange:
            raise SettingsError(
                f"Frame {t} has {cells} cells and {len(set(numbers))} tracks"
                f"{f', of which {strange[0]} is in no row of the table' if strange else ''}; "
                "expected one for each cell. The tracks belong to other labels: link again."
            )
        for number in numbers:
            self.frames[number] = (self.frames.get(number, (t, t))[0], t)

    def require_all(self) -> None:
        """Raise SettingsError unless every track began and ended where its row says."""
        for number, row in self.table.items():
            found = self.frames.get(number)
            if found != (row.begin, row.end):
                raise SettingsError(
                    f"Track {number} lasts from frame {row.begin} to {row.end} by the table, and "
                    f"was seen {f'from {found[0]} to {found[1]}' if found else 'nowhere'}. The "
                    "tracks belong to other labels: link again."
                )
