"""A log beside each result: its plan, its blocks, what was warned of, and how it ended."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cypose_dask.results.naming import log_of

if TYPE_CHECKING:
    from cypose_dask.run import MovieOutcome, Plan, Source
    from cypose_dask.run.record import BlockRecord

__all__ = ["RunLog"]

logger = logging.getLogger(__name__)


class RunLog(logging.Handler):
    """Adds to ``NAME.log`` of every movie that is under way; runs that continue one go on there.

    Parameters
    ----------
    movies : sequence of Source
    output : Path or None
        As for `segment_files`.
    """

    def __init__(self, movies: Sequence[Source], output: Path | None) -> None:
        from cypose_dask.run.directory import names_of

        super().__init__(logging.WARNING)
        named = zip(movies, names_of(movies, output), strict=True)
        self._paths = {movie.path: log_of(names.zarr) for movie, names in named}
        self._open: set[str] = set()

    def __enter__(self) -> RunLog:
        """Hear the package's warnings, too."""
        logging.getLogger("cypose_dask").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Hear them no more."""
        logging.getLogger("cypose_dask").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Add a warning of the package to the log of every movie that is under way."""
        if record.name != __name__:
            for source in tuple(self._open):
                self._add(source, f"{record.levelname.lower()}: {record.getMessage()}")

    def plan(self, source: str, plan: Plan) -> None:
        """Begin a movie's part."""
        self._open.add(source)
        self._add(source, "run begins", *plan.describe())

    def block(self, source: str, record: BlockRecord, done: int, total: int) -> None:
        """Add a block."""
        cells = sum(frame.cells for frame in record.frames)
        by = f" on {record.worker}" if record.worker else ""
        self._add(
            source,
            f"block {record.block}: {cells} cells in {record.seconds:.1f} s{by}; {done} of {total}",
            *(f"  t={f.t} z={f.z} has no labels: {f.error}" for f in record.frames if f.error),
        )

    def outcome(self, outcome: MovieOutcome) -> None:
        """End a movie's part; a movie that was never begun has none."""
        end = outcome.error or f"{outcome.frames} frames, {outcome.cells} cells"
        missing = f", {len(outcome.not_done)} without labels" if outcome.not_done else ""
        self._add(outcome.source, f"run ends: {end}{missing}")
        self._open.discard(outcome.source)

    def _add(self, source: str, *lines: str) -> None:
        if source not in self._open:
            return
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        try:
            _append(self._paths[source], [f"{now} {line}" for line in lines])
        except OSError as error:  # a full disk stops the run where labels are written
            self._open.discard(source)
            logger.warning("%s cannot be written (%s)", self._paths[source], error)


def _append(path: Path, lines: list[str]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
