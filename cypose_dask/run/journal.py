"""The journal: one fsynced line a block, written by the client alone.

A shard that exists proves nothing: its run may have been killed before the shard was on the disk.
So a block is done when its line is here.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from cypose_dask.run.record import BlockRecord

__all__ = ["Journal"]

logger = logging.getLogger(__name__)


class Journal:
    """The journal of one result.

    Parameters
    ----------
    path : Path
        ``movie.journal.jsonl``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Iterator[BlockRecord]:
        """Yield every record in the order of writing; a torn line is ignored."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield BlockRecord.from_dict(json.loads(line))
                except (ValueError, KeyError, TypeError, RecursionError):  # torn, or not text
                    logger.warning("%s: line %d is no record; ignored", self.path, number)

    def reasons(self) -> dict[tuple[int, int, int], str]:
        """Return why frames have no labels, by ``(t, position, z)``; later lines win."""
        found: dict[tuple[int, int, int], str] = {}
        for record in self.read():
            for frame in record.frames:
                at = (frame.t, record.block.position, frame.z)
                found.pop(at, None)
                if frame.error:
                    found[at] = frame.error
        return found

    def append(self, record: BlockRecord) -> None:
        """Add one line and bring it to the disk before returning."""
        line = json.dumps(record.to_dict()) + "\n"
        with self.path.open("ab") as file:
            if self._is_torn():
                file.write(b"\n")
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    def _is_torn(self) -> bool:
        """Tell whether the last line lacks its end, which would swallow the next one."""
        size = self.path.stat().st_size
        if size == 0:
            return False
        with self.path.open("rb") as file:
            file.seek(size - 1)
            return file.read(1) != b"\n"
