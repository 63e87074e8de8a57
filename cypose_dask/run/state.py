"""How far a result is: the zarr's status, and the journal, which knows more after a kill."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cypose_dask.errors import ResultError
from cypose_dask.results import Result, Status, is_own_output
from cypose_dask.results.naming import journal_of
from cypose_dask.results.writing import write_status
from cypose_dask.run.journal import Journal
from cypose_dask.run.lock import Owner, locked, owner_of
from cypose_dask.run.outcome import MissingFrame
from cypose_dask.run.tally import Tally

__all__ = ["PositionState", "ResultState", "catch_up", "find_results", "state_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionState:
    """How far one position is.

    Attributes
    ----------
    name : str
    done, pending, failed, damaged : int
        Frames.
    cells : int
    """

    name: str
    done: int
    pending: int
    failed: int
    damaged: int
    cells: int

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.done + self.pending + self.failed + self.damaged


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultState:
    """What is known of every frame of a result.

    Attributes
    ----------
    result : Result
    stored, stored_cells : (P, T, Z) ndarray of uint8, of uint32
        Status and cells in the zarr.
    told, told_cells : (P, T, Z) ndarray of uint8, of uint32
        The same in the journal; pending where it has no line.
    checksums : dict
        As of `Tally`.
    owner : Owner or None
        The run that writes the result now.
    """

    result: Result
    stored: np.ndarray
    stored_cells: np.ndarray
    told: np.ndarray
    told_cells: np.ndarray
    checksums: dict[tuple[int, int, int], str]
    owner: Owner | None

    @property
    def status(self) -> np.ndarray:
        """Status of every frame, (P, T, Z) uint8: the journal's, else the zarr's."""
        return np.where(self.told == Status.PENDING, self.stored, self.told)

    @property
    def cells(self) -> np.ndarray:
        """Cells of every frame, (P, T, Z) uint32: the journal's, else the zarr's."""
        return np.where(self.told == Status.PENDING, self.stored_cells, self.told_cells)

    @property
    def whole(self) -> bool:
        """Whether every frame has labels."""
        return bool((self.status == Status.DONE).all())

    def positions(self) -> list[PositionState]:
        """Count the frames of each position."""
        return [
            PositionState(
                name=name,
                **{s.name.lower(): int(np.count_nonzero(status == s)) for s in Status},
                cells=int(cells[status == Status.DONE].sum()),
            )
            for name, status, cells in zip(
                self.result.layout.position_names, self.status, self.cells, strict=True
            )
        ]

    @property
    def n_missing(self) -> int:
        """Number of failed and damaged frames."""
        return int(np.count_nonzero(np.isin(self.status, (Status.FAILED, Status.DAMAGED))))

    def missing(self, most: int | None = None) -> list[MissingFrame]:
        """Return failed and damaged frames, the first `most` of them, and why they have no labels.

        Pending frames are only counted, by `positions`.
        """
        status, first = self.status, self.result.start_frame
        places = np.argwhere(np.isin(status, (Status.FAILED, Status.DAMAGED)))[:most]
        reasons = Journal(journal_of(self.result.path)).reasons() if len(places) else {}
        return [
            MissingFrame(
                t=t + first,
                position=p,
                z=z,
                status=Status(int(status[p, t, z])),
                reason=reasons.get((t + first, p, z), "the journal does not say why"),
            )
            for p, t, z in places.tolist()
        ]


def find_results(paths: Iterable[str | Path]) -> list[Path]:
    """Expand folders into the results in them and below; stores are kept as they are.

    Raises
    ------
    ResultError
        If a folder holds no result.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        inside = [path] if _is_store(path) else sorted(_stores_below(path))
        if not inside:
            raise ResultError(f"{path} holds no result (NAME.zarr, made by `cypose-dask segment`).")
        found.update(dict.fromkeys(inside))
    return list(found)


def _stores_below(folder: Path) -> Iterator[Path]:
    for here, folders, _ in os.walk(folder):
        stores = [Path(here, name) for name in folders if name.endswith(".zarr")]
        # A journal tells that a store was a result whose metadata are lost since.
        yield from (s for s in stores if is_own_output(s) or journal_of(s).exists())
        folders[:] = [name for name in folders if not name.endswith(".zarr")]


def _is_store(path: Path) -> bool:
    return path.suffix == ".zarr" or (path / "zarr.json").exists() or not path.is_dir()


def catch_up(result: Result) -> None:
    """Write into the zarr what only the journal says, after a run that was killed.

    Raises
    ------
    ResultError
        As `state_of`, or if the store cannot be written.
    """
    state = state_of(result)
    if state.owner or np.array_equal(state.status, state.stored):
        return  # a run that goes on does it itself
    with locked(result.path):
        state = state_of(result)
        for position in range(result.n_positions):
            write_status(result.path, position, state.status[position], state.cells[position])


def state_of(result: Result) -> ResultState:
    """Read status and journal of a result; works while a run goes on, too.

    Raises
    ------
    ResultError
        If the store contradicts itself, or the journal belongs to another result.
    """
    owner = owner_of(result.path)  # first: a run that ends meanwhile has written all of it
    positions = range(result.n_positions)
    told = Tally(result.layout, result.start_frame, Journal(journal_of(result.path)).read())
    return ResultState(
        result=result,
        stored=np.stack([result.status(p) for p in positions]),
        stored_cells=np.stack([result.cells(p) for p in positions]),
        told=told.status,
        told_cells=told.cells,
        checksums=told.checksums,
        owner=owner,
    )
