"""`Settings`, of which every field can change a label, and `RunOptions`, of which none can."""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
from dataclasses import dataclass
from typing import Any, Literal

from cypose_dask.errors import SettingsError

__all__ = ["Channels", "RunOptions", "Settings"]

Channels = tuple[int | str, ...] | Literal["mean", "first"] | None

# Cellpose's own default restoration network, and CyPose's.
DEFAULT_RESTORATION = "denoise_cyto3"
# What may be said on a command line, the default first; "cellpose" and "mps" are only settled.
ENGINE_CHOICES = {
    "engine": ("fast", "reference"),
    "runtime": ("auto", "winograd", "openvino", "torch", "cellpose"),
    "precision": ("single", "half"),
    "dynamics_device": ("auto", "cpu", "cuda", "mps"),
}
# Cellpose counts the steps of its dynamics in a uint32, which would wrap.
_MOST_STEPS = 2**32 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that can change a label. Frozen, and validated when it is made.

    Lists become tuples, numpy's numbers Python's, and paths text, so that settings compare, hash
    and go through JSON: ``Settings(**settings.to_dict()) == settings``.

    Parameters
    ----------
    model : str
        Name of a bundled, built-in or user model, or a path to Cellpose 2 or 3 weights.
        ``"default"`` is the registry's default.
    channels : tuple of int or str, "mean", "first" or None
        Movie channels for the inputs of the network, by 0-based index or name.
        ``"mean"`` averages all channels, as Cellpose's ``--chan 0`` does; ``"first"`` takes the
        first ones, as many as the network has inputs, as `CellposeModel.eval` does. None asks the
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
    fix_small_masks : bool
        Remove the cells that are too small. Cellpose 3.1.1.3 removes others in their place where
        the check of flows left gaps in the numbers; False does the same (fast engine).
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
    engine : "fast" or "reference"
        ``"reference"`` calls Cellpose's own functions frame by frame; ``"fast"`` gives the same
        labels from our kernels and a network runtime.
    runtime : "auto", "cellpose", "torch", "openvino" or "winograd"
        What runs the network: ``"winograd"`` (CPU, our kernels), ``"openvino"`` (CPU, from the
        ``[cpu]`` extra), ``"torch"``, or Cellpose's own call, which is the reference engine's only
        one. ``"auto"`` is the fastest that can run this model.
    precision : "single" or "half"
        Of the network on a GPU; ``"half"`` is faster there and moves some cell borders.
    dynamics_device : "auto", "cpu" or "cuda"
        Where flows are followed. ``"auto"`` is the network's own device, as in Cellpose, whose
        two implementations differ by some pixels of one cell in seven.
    skip_empty : bool
        Leave out tiles in which nothing stands out of the noise (fast engine).

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
    fix_small_masks: bool = False
    normalize: Literal["frame", "movie", "none"] | tuple[float, ...] = "frame"
    percentiles: tuple[float, float] = (1.0, 99.0)
    invert: bool = False
    denoise: str | None = None
    start_frame: int = 0
    end_frame: int | None = None
    gpu: bool = False
    engine: Literal["fast", "reference"] = "fast"
    runtime: Literal["auto", "cellpose", "torch", "openvino", "winograd"] = "auto"
    precision: Literal["single", "half"] = "single"
    dynamics_device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    skip_empty: bool = False

    def __post_init__(self) -> None:
        _make_plain(self)
        _check_text("model", self.model)
        _check_engine(self)
        _check_number("flow_threshold", self.flow_threshold, low=0)
        _check_number("cellprob_threshold", self.cellprob_threshold)
        if self.niter is not None:
            _check_number("niter", self.niter, low=0, high=_MOST_STEPS)
        _check_whole("min_size_px", self.min_size_px, low=-1)
        _check_yes_or_no("fix_small_masks", self.fix_small_masks)
        _check_yes_or_no("invert", self.invert)
        _check_yes_or_no("gpu", self.gpu)
        _check_yes_or_no("skip_empty", self.skip_empty)
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
        return {k: _json(v) for k, v in dataclasses.asdict(self).items()}

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
        If a number is not positive, or of the wrong kind.
    """

    frames_per_block: int | None = None
    debug: bool = False
    restart: bool = False
    blocks_in_flight: int | None = None
    wait_for_workers_s: float = 300.0

    def __post_init__(self) -> None:
        _make_plain(self)
        for name in ("frames_per_block", "blocks_in_flight"):
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), low=1)
        _check_number("wait_for_workers_s", self.wait_for_workers_s, above=0)
        _check_yes_or_no("debug", self.debug)
        _check_yes_or_no("restart", self.restart)


def _make_plain(options: Settings | RunOptions) -> None:
    for field in dataclasses.fields(options):
        # The dataclass is frozen for its users; here it is still being made.
        object.__setattr__(options, field.name, _plain(getattr(options, field.name)))


def _plain(value: Any) -> Any:
    """Return Python's own kind of a value: numbers of numpy, paths and lists are replaced."""
    if isinstance(value, (tuple, list)):
        return tuple(_plain(v) for v in value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _json(value: Any) -> Any:
    return [_json(v) for v in value] if isinstance(value, tuple) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"{name} is {value!r}; give a name or a path.")


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingsError(f"{name} is {value!r}; choose one of {', '.join(choices)}.")


def _check_engine(settings: Settings) -> None:
    for name, choices in ENGINE_CHOICES.items():
        _check_choice(name, getattr(settings, name), choices)
    if settings.engine == "reference":
        _check_reference(settings)
    elif settings.runtime == "cellpose":
        raise SettingsError("runtime is 'cellpose'; that is --engine reference.")
    if settings.precision == "half" and not settings.gpu:
        raise SettingsError("precision is 'half', which only a GPU computes faster; add --gpu.")
    if settings.dynamics_device in ("cuda", "mps") and not settings.gpu:
        raise SettingsError(
            f"dynamics_device is {settings.dynamics_device!r}, but the run was not given a GPU; "
            "add --gpu."
        )


def _check_reference(settings: Settings) -> None:
    """Refuse choices that the reference engine, which does what Cellpose does, does not have."""
    chosen = {
        "runtime": settings.runtime not in ("auto", "cellpose"),
        "precision": settings.precision != "single",
        "skip_empty": settings.skip_empty is True,
        "fix_small_masks": settings.fix_small_masks is True,
    }
    for name in (name for name, wrong in chosen.items() if wrong):
        raise SettingsError(
            f"{name} is {getattr(settings, name)!r}, which the reference engine does not have. "
            "Use the fast engine, or leave it out."
        )


def _check_yes_or_no(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise SettingsError(f"{name} is {value!r}; give True or False.")


def _check_whole(name: str, value: Any, low: int) -> None:
    if not _is_number(value) or not isinstance(value, int) or value < low:
        raise SettingsError(f"{name} is {value!r}; give a whole number of at least {low}.")


def _check_number(
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    above: float = -math.inf,
    high: float = math.inf,
) -> None:
    if _is_number(value) and low <= value <= high and value > above:
        return
    limits = [
        f" of at least {low:g}" if low > -math.inf else "",
        f" above {above:g}" if above > -math.inf else "",
        f" and at most {high:.0f}" if high < math.inf else "",
    ]
    raise SettingsError(f"{name} is {value!r}; give a finite number{''.join(limits)}.")


def _check_diameter(value: Any) -> None:
    if isinstance(value, str) and value in ("model", "estimate"):
        return
    if not _is_number(value) or value <= 0:
        raise SettingsError(
            f"diameter is {value!r}; give pixels above 0, 'model' (what the model was trained on) "
            "or 'estimate' (measured once on sampled frames)."
        )


def _check_normalize(value: Any, invert: bool) -> None:
    if isinstance(value, str) and value in ("frame", "movie", "none"):
        if value == "none" and invert:
            raise SettingsError(
                "normalize is 'none', but invert needs a normalisation, as in Cellpose. Drop one."
            )
        return
    if not isinstance(value, tuple) or len(value) not in (2, 4, 6):
        raise SettingsError(
            f"normalize is {value!r}; choose 'frame', 'movie' or 'none', or give intensities "
            "(low, high)."
        )
    for low, high in zip(value[::2], value[1::2], strict=True):
        if not (_is_number(low) and _is_number(high) and low < high):
            raise SettingsError(
                f"normalize has the pair {(low, high)!r}; give two numbers, the lower one first."
            )


def _check_percentiles(value: Any) -> None:
    pair = isinstance(value, tuple) and len(value) == 2 and all(_is_number(v) for v in value)
    if not pair or not 0 <= value[0] < value[1] <= 100:
        raise SettingsError(f"percentiles are {value!r}; give 0 <= low < high <= 100.")


def _check_frame_range(start: Any, end: Any) -> None:
    _check_whole("start_frame", start, low=0)
    if end is None:
        return
    _check_whole("end_frame", end, low=1)
    if end <= start:
        raise SettingsError(
            f"end_frame is {end} and start_frame {start}; the end is exclusive and must lie above."
        )


def _check_channels(value: Any) -> None:
    if value is None or (isinstance(value, str) and value in ("mean", "first")):
        return
    if not isinstance(value, tuple) or not 1 <= len(value) <= 3:
        raise SettingsError(
            f"channels is {value!r}; give a tuple of one to three names or 0-based indexes, "
            "'mean' or 'first'."
        )
    for channel in value:
        if not _is_channel(channel):
            raise SettingsError(
                f"channels has {channel!r}; give a name, or an index that counts from 0."
            )


def _is_channel(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_restoration(value: Any) -> None:
    if value is None:
        return
    _check_text("denoise", value)
    if "upsample" in value:
        raise SettingsError(
            f"denoise is {value!r}: upsampling changes the size of a frame, so its labels would "
            "not fit the movie. Choose a denoise, deblur or oneclick network."
        )
