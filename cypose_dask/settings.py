"""`Settings`, of which every field can change a label, and `RunOptions`, of which none can."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from cypose_dask.errors import SettingsError

__all__ = ["Channels", "RunOptions", "Settings"]

Channels = tuple[int | str, ...] | Literal["mean"] | None

# Cellpose's own default restoration network, and CyPose's.
DEFAULT_RESTORATION = "denoise_cyto3"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that can change a label. Frozen, and validated when it is made.

    Parameters
    ----------
    model : str
        Name of a bundled, built-in or user model, or a path to Cellpose 2 or 3 weights.
        ``"default"`` is the registry's default.
    channels : tuple of int or str, "mean" or None
        Movie channels for the inputs of the network, by 0-based index or name.
        ``"mean"`` averages all channels, as Cellpose's ``--chan 0`` does. None asks the
        registry entry of the model, and a one-channel movie needs no answer.
    diameter : float, "model" or "estimate"
        Expected cell diameter, px. ``"model"`` is the mean diameter that the model was trained
        on; ``"estimate"`` measures it once a movie on sampled frames.
    niter : float or None
        Steps of the flow dynamics. None or 0 is Cellpose's ``200 * diameter / diam_mean``.
    flow_threshold : float
        Largest accepted flow error of a cell, dimensionless; 0 turns the check off.
    cellprob_threshold : float
        Pixels with a larger logit belong to cells, dimensionless.
    min_size_px : int
        Cells of fewer pixels are removed; -1 keeps all.
    normalize : "frame", "movie", "none" or tuple of float
        Where 0 and 1 of the network's input come from: percentiles of each frame, percentiles
        sampled over the movie, nowhere (raw pixels), or given intensities ``(low, high)``, or
        ``(low0, high0, low1, high1)`` with one pair a channel.
    percentiles : tuple of float
        Lower and upper percentile for ``"frame"`` and ``"movie"``, 0 to 100.
    invert : bool
        Invert after normalisation.
    denoise : str or None
        Name or path of a Cellpose 3 restoration network that is run first.
    start_frame, end_frame : int, int or None
        Frames ``start_frame <= t < end_frame`` are segmented, 0-based; None is the movie's end.
    gpu : bool
        Demand a GPU (CUDA, else MPS). Without one the run is refused.
    engine : "reference"
        Which implementation makes the labels.

    Raises
    ------
    SettingsError
        If a value is out of range or of the wrong kind.
    """

    model: str = "default"
    channels: Channels = None
    diameter: float | Literal["model", "estimate"] = "model"
    niter: float | None = None
    flow_threshold: float = 0.75
    cellprob_threshold: float = 0.0
    min_size_px: int = 15
    normalize: Literal["frame", "movie", "none"] | tuple[float, ...] = "frame"
    percentiles: tuple[float, float] = (1.0, 99.0)
    invert: bool = False
    denoise: str | None = None
    start_frame: int = 0
    end_frame: int | None = None
    gpu: bool = False
    engine: Literal["reference"] = "reference"

    def __post_init__(self) -> None:
        _check_choice("engine", self.engine, ("reference",))
        _check_finite("flow_threshold", self.flow_threshold, low=0)
        _check_finite("cellprob_threshold", self.cellprob_threshold)
        if self.niter is not None:
            _check_finite("niter", self.niter, low=0)
        _check_diameter(self.diameter)
        _check_normalize(self.normalize, self.invert)
        _check_percentiles(self.percentiles)
        _check_frame_range(self.start_frame, self.end_frame)
        _check_channels(self.channels)
        _check_restoration(self.denoise)

    @property
    def diameter_px(self) -> float:
        """The diameter of resolved settings, px."""
        if isinstance(self.diameter, str):
            raise SettingsError(f"diameter is still {self.diameter!r}; resolve the settings first.")
        return float(self.diameter)

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with some fields changed, validated again."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; tuples become lists."""
        return {k: _plain(v) for k, v in dataclasses.asdict(self).items()}

    def changed(self) -> dict[str, Any]:
        """Return only the fields that differ from the defaults."""
        default = Settings().to_dict()
        return {k: v for k, v in self.to_dict().items() if v != default[k]}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """How to run. No field changes a label.

    Parameters
    ----------
    frames_per_block : int or None
        Frames of one Dask task, which is also one shard of the result. None chooses from the
        size of a frame and the length of the movie. A result that is continued keeps its own.
    debug : bool
        Also store flows and cellprob (12 bytes a pixel).
    restart : bool
        Delete an existing result first instead of continuing it.
    blocks_in_flight : int or None
        Blocks that wait on the cluster at once. None is three a worker thread.
    wait_for_workers_s : float
        How long a run waits for its first worker, s.

    Raises
    ------
    SettingsError
        If a number is not positive.
    """

    frames_per_block: int | None = None
    debug: bool = False
    restart: bool = False
    blocks_in_flight: int | None = None
    wait_for_workers_s: float = 300.0

    def __post_init__(self) -> None:
        for name in ("frames_per_block", "blocks_in_flight", "wait_for_workers_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise SettingsError(f"{name} is {value}; it must be positive.")


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingsError(f"{name} is {value!r}; choose one of {', '.join(choices)}.")


def _check_finite(name: str, value: Any, low: float = -math.inf) -> None:
    if not _is_number(value) or value < low:
        least = f" of at least {low:g}" if math.isfinite(low) else ""
        raise SettingsError(f"{name} is {value!r}; it must be a finite number{least}.")


def _check_diameter(value: Any) -> None:
    if value in ("model", "estimate"):
        return
    if not _is_number(value) or value <= 0:
        raise SettingsError(
            f"diameter is {value!r}; give pixels above 0, 'model' (what the model was trained on) "
            "or 'estimate' (measured once on sampled frames)."
        )


def _check_normalize(value: Any, invert: bool) -> None:
    if value == "none" and invert:
        raise SettingsError(
            "normalize is 'none', but invert needs a normalisation, as in Cellpose. Drop one."
        )
    if value in ("frame", "movie", "none"):
        return
    if not isinstance(value, tuple) or len(value) not in (2, 4, 6):
        raise SettingsError(
            f"normalize is {value!r}; choose 'frame', 'movie' or 'none', or give intensities "
            "(low, high)."
        )
    for low, high in zip(value[::2], value[1::2], strict=True):
        if not (_is_number(low) and _is_number(high) and low < high):
            raise SettingsError(f"normalize has the pair ({low}, {high}); low must be below high.")


def _check_percentiles(value: Any) -> None:
    if len(value) != 2 or not 0 <= value[0] < value[1] <= 100:
        raise SettingsError(f"percentiles are {value!r}; give 0 <= low < high <= 100.")


def _check_frame_range(start: Any, end: Any) -> None:
    if start < 0:
        raise SettingsError(f"start_frame is {start}; frames are counted from 0.")
    if end is not None and end <= start:
        raise SettingsError(
            f"end_frame is {end} and start_frame {start}; the end is exclusive and must lie above."
        )


def _check_channels(value: Any) -> None:
    if value is None or value == "mean":
        return
    if not isinstance(value, tuple) or not 1 <= len(value) <= 3:
        raise SettingsError(
            f"channels is {value!r}; give a tuple of one to three names or 0-based indexes, or "
            "'mean'."
        )


def _check_restoration(value: str | None) -> None:
    if value is not None and "upsample" in value:
        raise SettingsError(
            f"denoise is {value!r}: upsampling changes the size of a frame, so its labels would "
            "not fit the movie. Choose a denoise, deblur or oneclick network."
        )
