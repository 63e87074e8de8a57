"""Several models, or settings, on a few frames of one movie: which one fits it best.

With truth the models are ranked by average precision. Without it there are two witnesses, and both
can be wrong: models that agree with the others, and labels that hold from one frame to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cypose_dask.engine import load_networks, resolve_settings, segment_frames, settle_engine
from cypose_dask.errors import SettingsError
from cypose_dask.learn.comparison.ranking import Evidence, Variant, VariantScore, rank_variants
from cypose_dask.learn.comparison.shots import Shot
from cypose_dask.learn.comparison.tally import Tally, tally_shot
from cypose_dask.models import ModelSpec, resolve_model, resolve_restoration
from cypose_dask.settings import Settings

__all__ = ["Example", "ModelComparison", "Variant", "VariantScore", "compare_models"]

Progress = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Example:
    """The shot on which the candidates differ most, and what each found there.

    `labels` are (Y, X), one a candidate, the best first.
    """

    shot: Shot
    labels: tuple[NDArray[Any], ...]

    def in_order(self, order: Sequence[int]) -> Example:
        """Return the same with the labels in another order."""
        return replace(self, labels=tuple(self.labels[i] for i in order))


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """The candidates, the best first, and what the order means.

    Attributes
    ----------
    scores : tuple of VariantScore
    ranked_by : str
        A sentence.
    caveats : tuple of str
        Sentences about what the order can and cannot say.
    places : tuple of str
        The frames that were segmented.
    example : Example
    """

    scores: tuple[VariantScore, ...]
    ranked_by: str
    caveats: tuple[str, ...]
    places: tuple[str, ...]
    example: Example

    def to_dict(self) -> dict[str, Any]:
        """Return everything but pixels as JSON values."""
        return {
            "ranked_by": self.ranked_by,
            "caveats": list(self.caveats),
            "frames": list(self.places),
            "variants": [score.to_dict() for score in self.scores],
        }


@dataclass(frozen=True, slots=True)
class _Ready:
    """A candidate whose model is found and whose numbers are settled."""

    variant: Variant
    model: ModelSpec

    def segment(self, frames: Sequence[NDArray[Any]]) -> Any:
        chosen = [_chosen(frame, self.variant.settings) for frame in frames]
        return segment_frames(np.stack(chosen), self.model, self.variant.settings)


def compare_models(
    shots: Iterable[Shot], variants: Sequence[Variant], *, progress: Progress | None = None
) -> ModelComparison:
    """Segment a few frames with every candidate, and rank the candidates.

    Parameters
    ----------
    shots : iterable of Shot
        From `consecutive_shots` or `true_shots`; all with truth, or all without.
    variants : sequence of Variant
        At least two, with different names.
    progress : callable, optional
        Called with the names of shot and candidate before each segmentation.

    Returns
    -------
    ModelComparison
        Ranked by average precision (mean of IoU 0.5, 0.75, 0.9) where there is truth. Without
        it, by the mean of agreement and steadiness; with two candidates by steadiness alone, with
        single frames by agreement alone, and not at all when neither can tell.

    Raises
    ------
    SettingsError
        If there are fewer than two variants, two have one name, or there are no shots.
    ModelError, DeviceError, MovieError
        As `segment_frames`.
    """
    _check(variants)
    shots = list(shots)
    if not shots:
        raise SettingsError("There are no frames to compare models on.")
    ready = [_ready(variant, shots) for variant in variants]
    tallies = [Tally() for _ in variants]
    examples: list[tuple[float, Example]] = []
    for shot in shots:
        made = [_segmented(one, shot, progress) for one in ready]
        labels = [segmentation.labels for segmentation in made]
        agreed = tally_shot(tallies, shot, labels)
        for tally, segmentation in zip(tallies, made, strict=True):
            tally.seconds += [sum(stats.seconds.values()) for stats in segmentation.stats]
        examples.append((agreed, Example(shot, tuple(one[0] for one in labels))))
        examples = [min(examples, key=lambda one: one[0])]
    return _concluded(
        [_measured(*b) for b in zip(ready, tallies, strict=True)], shots, examples[0][1]
    )


def _concluded(
    measured: Sequence[VariantScore], shots: Sequence[Shot], example: Example
) -> ModelComparison:
    evidence = Evidence(
        places=len(shots),
        truth=shots[0].truth is not None,
        pairs=any(len(shot.frames) > 1 for shot in shots),
    )
    scores, ranked_by, caveats = rank_variants(measured, evidence)
    names = [one.variant.name for one in measured]
    order = tuple(names.index(one.variant.name) for one in scores)
    places = tuple(shot.name for shot in shots)
    return ModelComparison(scores, ranked_by, caveats, places, example.in_order(order))


def _check(variants: Sequence[Variant]) -> None:
    names = [variant.name for variant in variants]
    if len(names) < 2:
        raise SettingsError(f"Found {len(names)} candidate; give at least two models or settings.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError(f"The candidate {twice[0]!r} is given twice; give different ones.")


def _ready(variant: Variant, shots: Sequence[Shot]) -> _Ready:
    settings = variant.settings
    model = resolve_model(settings.model)
    restoration = resolve_restoration(settings.denoise) if settings.denoise else None
    device, settings = settle_engine(settings, model)
    networks = load_networks(model, device, restoration, settings=settings)
    # One diameter and one intensity range for all frames, as a run over the movie would have.
    # A list, because crops of an annotated folder may differ in size.
    frames: Any = [_chosen(shot.frames[0], settings) for shot in shots]
    return _Ready(replace(variant, settings=resolve_settings(settings, networks, frames)), model)


def _chosen(frame: NDArray[Any], settings: Settings) -> NDArray[Any]:
    if not isinstance(settings.channels, tuple):
        return frame
    return frame[[int(channel) for channel in settings.channels]]


def _segmented(one: _Ready, shot: Shot, progress: Progress | None) -> Any:
    if progress:
        progress(shot.name, one.variant.name)
    return one.segment(shot.frames)


def _measured(one: _Ready, tally: Tally) -> VariantScore:
    seconds = [value for value in tally.seconds if value > 0]
    return VariantScore(
        variant=one.variant,
        model_sha256=one.model.sha256,
        ap=tuple(float(v) for v in np.mean(tally.ap, axis=0)) if tally.ap else None,
        agreement=_mean(tally.agreement),
        steadiness=_mean(tally.steadiness),
        jump=_mean(tally.jumps),
        cells=float(np.mean(tally.cells)),
        diameter_px=float(np.median(tally.diameters)) if tally.diameters else None,
        frames_per_s=1 / float(np.median(seconds)) if seconds else None,
    )


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
