"""What a run needs of every worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cypose_dask.models import ModelSpec
from cypose_dask.movies.source import FrameSource
from cypose_dask.run.memory import block_bytes

if TYPE_CHECKING:
    from cypose_dask.run.plan import Plan

__all__ = ["Needs"]

# Facts of the fingerprint that end so are versions, which must be true of whoever computes.
_VERSION = " version"
_PATIENCE_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What is asked of every worker; small, and sent to each. What is empty is not asked.

    Attributes
    ----------
    versions : dict
        Packages whose version must be this one, by name.
    gpu : bool
        Whether a GPU must run a kernel.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"mps"``, which must be what the worker chooses.
    runtime : str
        What runs the network: ``"winograd"``, ``"openvino"``, ``"torch"`` or ``"cellpose"``.
    movies : tuple of FrameSource
        Must be there, the same as here.
    models : tuple of ModelSpec
        Their weights must be there, with the same hash.
    folders : tuple of Path
        Must exist, be the folders of this machine, and take files.
    block_bytes : int
        Memory that one block takes, bytes.
    patience_s : float
        How long a worker may take for all of it, s.
    """

    versions: dict[str, str] = field(default_factory=dict)
    gpu: bool = False
    device: str = ""
    runtime: str = ""
    movies: tuple[FrameSource, ...] = ()
    models: tuple[ModelSpec, ...] = ()
    folders: tuple[Path, ...] = ()
    block_bytes: int = 0
    patience_s: float = _PATIENCE_S

    @classmethod
    def of(cls, plan: Plan, folder: Path) -> Needs:
        """Take what a plan needs, whose result is written into a folder that exists."""
        facts = plan.fingerprint().items()
        return cls(
            versions={n.removesuffix(_VERSION): str(v) for n, v in facts if n.endswith(_VERSION)},
            gpu=plan.settings.gpu,
            device=plan.device,
            runtime=plan.settings.runtime,
            movies=(plan.movie.source,),
            models=(plan.model, plan.restoration) if plan.restoration else (plan.model,),
            folders=(folder.resolve(),),
            block_bytes=block_bytes(plan),
        )
