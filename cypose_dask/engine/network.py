"""Networks in memory: one of each model a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cypose_dask.engine.device import usable_cores
from cypose_dask.engine.stats import Timer
from cypose_dask.errors import ModelError
from cypose_dask.models.spec import ModelSpec, file_sha256
from cypose_dask.settings import Settings

if TYPE_CHECKING:
    from cypose_dask.engine.restore import Restoration

__all__ = ["Forward", "Network", "Networks", "load_networks"]

# A raw output (Y', X', 3) of flow in y, flow in x and logit, and the style (256,).
Output = tuple[np.ndarray, np.ndarray]


class Forward(Protocol):
    """Runs a network over whole frames, in tiles."""

    def __call__(
        self,
        images: Sequence[np.ndarray],
        rescale: float,
        *,
        skip_empty: bool = False,
        timer: Timer | None = None,
    ) -> list[Output]:
        """Predict frames of one shape.

        Parameters
        ----------
        images : sequence of (Y, X, C) ndarray of float32
            Normalised, dimensionless; C is the network's number of inputs.
        rescale : float
            ``diam_mean / diameter``, dimensionless; the frames are resized by it first.
        skip_empty : bool
            Leave out tiles without structure.
        timer : Timer
            Counts the seconds of the stages.

        Returns
        -------
        list of (output, style)
            (Y', X', 3) float32: flow in y, flow in x, logit, at the rescaled size; (256,) float32.
        """
        ...

    def frames_at_once(self, shape: tuple[int, ...], rescale: float) -> int:
        """Return how many frames (Y, X) of a block fill the device."""
        ...


@dataclass(frozen=True, slots=True)
class Network:
    """One model in memory.

    Attributes
    ----------
    forward : Forward
        Of the engine and runtime that it was loaded for.
    spec : ModelSpec
    device : str
        ``"cpu"``, ``"cuda"`` or ``"mps"``.
    threads : int
        Cores that one frame may use.
    """

    forward: Forward
    spec: ModelSpec
    device: str
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Networks:
    """What a run needs in memory: the segmentation network and, if asked for, a restoration."""

    segmentation: Network
    restoration: Restoration | None = None

    def frames_at_once(self, shape: tuple[int, ...], settings: Settings) -> int:
        """Return how many frames (Y, X) `segment_group` should be given at once."""
        network = self.segmentation
        rescale = network.spec.diam_mean / settings.diameter_px
        return network.forward.frames_at_once(shape, rescale)


_loaded: dict[tuple[object, ...], Any] = {}
_loading = threading.Lock()


def load_networks(
    model: ModelSpec,
    device: str,
    restoration: ModelSpec | None = None,
    *,
    settings: Settings | None = None,
    threads: int | None = None,
    callers: int = 1,
) -> Networks:
    """Return the networks of a run, loading each at most once a process.

    Parameters
    ----------
    model, restoration : ModelSpec, ModelSpec or None
    device : str
        ``"cpu"``, ``"cuda"`` or ``"mps"``.
    settings : Settings
        Its engine, runtime and precision count.
    threads : int or None
        Cores that one frame may use. None is all that this process may use.
    callers : int
        Threads of this process that segment at the same time.

    Raises
    ------
    ModelError
        If a file is no longer the one that was hashed when it was resolved, or the runtime
        cannot run it.
    """
    settings, threads = settings or Settings(), threads or usable_cores()
    how = (device, settings.engine, settings.runtime, settings.precision, threads, callers)
    return Networks(
        Network(_load_once(model, how, _load_segmentation), model, device, threads),
        _load_once(restoration, (device,), _load_restoration) if restoration else None,
    )


def _load_once(spec: ModelSpec, how: tuple[Any, ...], load: Callable[..., Any]) -> Any:
    key = (spec.sha256, *how)  # equal weights can lie at two addresses
    with _loading:
        if key not in _loaded:
            _check_unchanged(spec)
            _loaded[key] = load(spec, *how)
        return _loaded[key]


def _check_unchanged(spec: ModelSpec) -> None:
    try:
        found = file_sha256(spec.path)
    except OSError as error:
        raise ModelError(
            f"Model {spec.name!r}: this worker cannot read {spec.path} ({error}). The weights must "
            "lie on a disk that every worker sees."
        ) from error
    if found != spec.sha256:
        raise ModelError(
            f"{spec.path}: SHA-256 is {found}, but {spec.sha256} was resolved at the start. The "
            "file was changed meanwhile; start again."
        )


def _load_segmentation(spec: ModelSpec, device: str, *how: Any) -> Forward:
    engine, runtime, precision, threads, callers = how
    # Here, because both know what a network is.
    from cypose_dask.engine import fast, reference

    if engine == "reference":
        return reference.load(spec, device)
    if device == "cpu":
        return fast.load_cpu(spec, runtime, threads=threads, callers=callers)
    return fast.load_gpu(spec, device, precision)


def _load_restoration(spec: ModelSpec, device: str) -> Any:
    from cypose_dask.engine import restore

    return restore.load(spec, device)
