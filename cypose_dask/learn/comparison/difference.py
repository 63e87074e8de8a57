"""Which settings differ between two results, and what each of them alone does to the labels.

Some frames are segmented by A's settings, and again with one setting at a time replaced by B's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cypose_dask.engine import segment_frames
from cypose_dask.errors import CyposeError, SettingsError
from cypose_dask.learn.comparison.sides import Key, Side
from cypose_dask.learn.scoring import Counts, pooled
from cypose_dask.learn.scoring.frame_score import score_frame
from cypose_dask.models import ModelSpec
from cypose_dask.movies import Movie
from cypose_dask.settings import Settings

__all__ = ["Difference", "Effect", "diff_sides"]

ALL = "all of them"
# Settings that are one thing; what is compared and replaced together.
_GROUPS = {
    "model": ("model",),
    "channels": ("channels",),
    "diameter": ("diameter",),
    "niter": ("niter",),
    "flow_threshold": ("flow_threshold",),
    "cellprob_threshold": ("cellprob_threshold",),
    "min_size_px": ("min_size_px", "fix_small_masks"),
    "normalize": ("normalize", "percentiles"),
    "invert": ("invert",),
    "denoise": ("denoise",),
    "skip_empty": ("skip_empty",),
}
# Where and by what it ran: this machine may not have it, and labels are the same but for rounding.
_MACHINE = ("gpu", "engine", "runtime", "precision", "dynamics_device")
_HERE = {"gpu": False, "engine": "fast", "runtime": "auto", "precision": "single",
         "dynamics_device": "auto"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Effect:
    """What one setting alone does.

    Attributes
    ----------
    name, a, b : str
        The setting, and its values in words.
    counts : Counts or None
        A's cells against those with B's value; None if it was not tried.
    changed : float
        Share of pixels that are cell in one and background in the other, dimensionless.
    why_not : str
        Why it was not tried.
    """

    name: str
    a: str
    b: str
    counts: Counts | None = None
    changed: float = 0.0
    why_not: str = ""

    @property
    def lost(self) -> int:
        """Cells of A without a counterpart of an IoU of 0.5."""
        return self.counts.fn[0] if self.counts else 0

    @property
    def gained(self) -> int:
        """Cells that A has not."""
        return self.counts.fp[0] if self.counts and self.counts.fp else 0

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        counts = self.counts.to_dict() if self.counts else None
        return {
            "setting": self.name, "a": self.a, "b": self.b, "changed_pixels": self.changed,
            "lost": self.lost, "gained": self.gained, "counts": counts, "why_not": self.why_not,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two results.

    Attributes
    ----------
    effects : tuple of Effect
        The largest first, with `ALL` last if several were tried.
    places : tuple of (t, p, z)
        Frames that were segmented.
    notes : tuple of str
        Sentences about what cannot be said.
    """

    effects: tuple[Effect, ...]
    places: tuple[Key, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "frames": [list(place) for place in self.places],
            "effects": [effect.to_dict() for effect in self.effects],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class _Way:
    """A model, and settings that run here."""

    model: ModelSpec
    settings: Settings

    def labels(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        chosen = [_chosen(frame, self.settings) for frame in frames]
        return segment_frames(np.stack(chosen), self.model, self.settings).labels


def diff_sides(
    a: Side,
    b: Side,
    movie: Movie,
    *,
    frames: int = 3,
    gpu: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Difference:
    """Segment some frames by A's settings, and with each setting that differs replaced by B's.

    Parameters
    ----------
    a, b : Side
    movie : Movie
        What both were made from, with all its channels.
    frames : int
        How many frames, spread over A's, or B's if A is an image alone.
    gpu : bool
        Run on a GPU.
    progress : callable, optional
        Called with the name of what is tried next.

    Raises
    ------
    SettingsError
        If it is not known by what A was made.
    ModelError, DeviceError, MovieError
        As `segment_frames`.
    """
    if a.unknown or a.model is None:
        raise SettingsError(
            f"{a.path} cannot be segmented again: {' '.join(a.unknown.values())} Give it second."
        )
    say = progress or (lambda name: None)
    models = (a.model, b.model or a.model)
    a, b = _with_channels_of(a, b), _with_channels_of(b, a)
    channels = movie.info.sizes["C"]
    way_a = _way(a, models[0], channels, gpu=gpu)
    way_b = _way(b, models[1], channels, gpu=gpu)
    places = (b if a.result is None else a).places(frames)
    pixels = [movie.read_frame(*place) for place in places]
    say("A")
    base = way_a.labels(pixels)
    groups = [name for name in _GROUPS if name not in b.unknown and _differ(name, way_a, way_b)]
    ways = {name: _swapped(way_a, way_b, (name,)) for name in groups}
    if len(groups) > 1:
        ways[ALL] = _swapped(way_a, way_b, groups)
    tried = []
    for name, way in ways.items():
        say(name)
        tried.append(_effect(name, (way_a, way), pixels, base))
    return Difference(
        effects=(*_largest_first(tried), *_not_tried(a, b)),
        places=tuple(places),
        notes=(*_check_stored(a, places, base), *_notes(a, b)),
    )


def _with_channels_of(side: Side, other: Side) -> Side:
    """Take the channels of the other side, if this one saw an image of one channel alone."""
    if not side.lone_channel or other.result is None:
        return side
    note = "its image has one channel; it is taken for what the other result segmented"
    settings = side.settings.replace(channels=other.settings.channels)
    return replace(side, settings=settings, notes=(*side.notes, note))


def _way(side: Side, model: ModelSpec, channels: int, *, gpu: bool) -> _Way:
    """Return what a side ran, on this machine; one channel has no mean."""
    changes: dict[str, Any] = {**_HERE, "gpu": gpu}
    if side.settings.channels == "mean" and channels == 1:
        changes["channels"] = (0,)
    # Chosen already, by whoever hands over the pixels.
    changes |= {"start_frame": 0, "end_frame": None, "model": model.name}
    return _Way(model, side.settings.replace(**changes))


def _differ(name: str, a: _Way, b: _Way) -> bool:
    if name == "model":
        return a.model.sha256 != b.model.sha256 or a.model.diam_mean != b.model.diam_mean
    if name == "normalize" and a.settings.normalize == b.settings.normalize != "frame":
        return False
    return any(getattr(a.settings, f) != getattr(b.settings, f) for f in _GROUPS[name])


def _swapped(a: _Way, b: _Way, groups: Iterable[str]) -> _Way:
    """Return A's way with some settings of B."""
    groups = list(groups)
    fields = [field for name in groups for field in _GROUPS[name]]
    settings = a.settings.replace(**{field: getattr(b.settings, field) for field in fields})
    return _Way(b.model if "model" in groups else a.model, settings)


def _effect(
    name: str, ways: tuple[_Way, _Way], pixels: Sequence[np.ndarray], base: np.ndarray
) -> Effect:
    before, after = ways
    words = ("", "") if name == ALL else (_in_words(name, before), _in_words(name, after))
    try:
        labels = after.labels(pixels)
    except CyposeError as error:
        return Effect(name, *words, why_not=str(error))
    counts = pooled(score_frame(one, other) for one, other in zip(base, labels, strict=True))
    changed = float(((base > 0) != (labels > 0)).mean())
    return Effect(name, *words, counts, changed)


def _largest_first(effects: Sequence[Effect]) -> list[Effect]:
    def size(effect: Effect) -> tuple[bool, int, float]:
        return effect.name == ALL, -effect.lost - effect.gained, -effect.changed

    return sorted(effects, key=size)


def _not_tried(a: Side, b: Side) -> list[Effect]:
    """Name what differs and was not tried: what B does not say, and the machine."""
    unknown = [
        Effect(name, _shown(getattr(a.settings, name)), "?", why_not=why)
        for name, why in b.unknown.items()
    ]
    if a.result is None or b.result is None:
        return unknown
    return unknown + [
        Effect(name, str(own), str(other), why_not="where it ran; borders may differ by a pixel")
        for name in _MACHINE
        if (own := getattr(a.settings, name)) != (other := getattr(b.settings, name))
    ]


def _check_stored(a: Side, places: Sequence[Key], base: np.ndarray) -> list[str]:
    """Say whether A's settings still give A's labels."""
    stored = [a.stored(place) for place in places]
    pairs = [(one, other) for one, other in zip(stored, base, strict=True) if one is not None]
    if not pairs:
        return []
    different = sum(bool((one != other).any()) for one, other in pairs)
    if not different:
        return [f"A's settings give again what {a.path} holds on {_count(len(pairs))}."]
    return [
        f"On {different} of {_count(len(pairs))}, A's settings do not give what {a.path} holds: "
        "another device, version or kernel made it."
    ]


def _notes(a: Side, b: Side) -> list[str]:
    notes = [f"{side.path.name}: {note}." for side in (a, b) for note in side.notes]
    covered = [
        f"{one.start_frame} to {one.start_frame + one.layout.frames - 1}"
        for one in (a.result, b.result)
        if one is not None
    ]
    if len(set(covered)) == 2:
        notes.append(f"They cover other frames: {' and '.join(covered)}.")
    return notes


def _count(frames: int) -> str:
    return f"{frames} frame{'' if frames == 1 else 's'}"


# ---- words ---------------------------------------------------------------------------------


def _in_words(name: str, way: _Way) -> str:
    s = way.settings
    if name == "model":
        return f"{way.model.name} ({way.model.sha256[:8]})"
    if name == "normalize" and s.normalize == "frame":
        return "percentiles {:g} to {:g} of each frame".format(*s.percentiles)
    if name == "normalize" and isinstance(s.normalize, tuple):
        return ", ".join(f"{value:g}" for value in s.normalize)
    if name == "diameter" and s.diameter == "model":
        return f"the model's {way.model.diameter:.4g}"
    if name == "niter" and s.niter is None:
        return "automatic"
    return _shown(getattr(s, name))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _chosen(frame: np.ndarray, settings: Settings) -> np.ndarray:
    if not isinstance(settings.channels, tuple):
        return frame
    return frame[[int(channel) for channel in settings.channels]]
