"""What returns from a worker: a few hundred bytes a frame, never pixels."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from cypose_dask.errors import CyposeError
from cypose_dask.results import Status
from cypose_dask.run.plan import Block

__all__ = ["BlockRecord", "FrameRecord", "said"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameRecord:
    """One frame (t counted in the movie) and what was seen of it.

    The measurements are those of `cypose_dask.engine.FrameStats`; a frame that failed has its
    `error` instead.
    """

    t: int
    z: int
    status: int
    error: str | None = None
    cells: int = 0
    covered_area: float = 0.0
    mean_cellprob: float | None = None
    flow_error: float | None = None
    focus: float | None = None
    blank: bool = False
    saturated: bool = False
    non_finite: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockRecord:
    """One finished block: a line of the journal.

    Attributes
    ----------
    block : Block
    frames : tuple of FrameRecord
    checksum : str
        BLAKE2b-128 of the labels' bytes; empty when the block could not be written.
    worker : str
        Address of the worker.
    begun : float
        When it was begun, s since 1970, by the worker's clock.
    seconds : float
        From the first read to the last sync, s.
    write_s : float
        Of these, to compress, write and sync the block, s.
    """

    block: Block
    frames: tuple[FrameRecord, ...]
    checksum: str
    worker: str = ""
    begun: float = 0.0
    seconds: float = 0.0
    write_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> BlockRecord:
        """Make a record from what `to_dict` returned."""
        frames = tuple(FrameRecord(**frame) for frame in fields["frames"])
        return cls(**{**fields, "block": Block(**fields["block"]), "frames": frames})

    @classmethod
    def failed(cls, block: Block, planes: int, error: str) -> BlockRecord:
        """Make the record of a block whose task died as a whole."""
        frames = tuple(
            FrameRecord(t=t, z=z, status=Status.FAILED, error=error)
            for t in range(block.start, block.stop)
            for z in range(planes)
        )
        return cls(block=block, frames=frames, checksum="")


def said(error: Exception) -> str:
    """Return what an error says; of errors that are not ours, their kind too."""
    return str(error) if isinstance(error, CyposeError) else f"{type(error).__name__}: {error}"
