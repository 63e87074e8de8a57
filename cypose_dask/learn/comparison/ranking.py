"""Which of several models fits a movie best, how that is known, and how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cypose_dask.settings import Settings

__all__ = ["Evidence", "Variant", "VariantScore", "rank_variants"]

# Two models always agree equally with each other.
_FEWEST_FOR_AGREEMENT = 3
# Scores nearer than this are called equal in words.
_TOO_CLOSE = 0.02
# Least distance of the lowest agreement from the one above it, to call that model an outlier.
_OUTLYING = 0.05


@dataclass(frozen=True, slots=True)
class Variant:
    """One candidate.

    Attributes
    ----------
    name : str
        What it is called in tables: the model, and the settings that tell it from others.
    settings : Settings
        With `channels` as indices of the movie's channels, or ``"mean"``.
    """

    name: str
    settings: Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantScore:
    """How one candidate did. Values are None where they cannot be known.

    Attributes
    ----------
    variant : Variant
        With its numbers settled: diameter, steps, normalisation.
    model_sha256 : str
    rank : int or None
        1 is the best; None when nothing ranks the candidates, or this one has no score.
    score : float or None
        What it was ranked by, 0 to 1.
    ap : tuple of float or None
        Average precision against the truth at IoU 0.5, 0.75 and 0.9, mean over frames.
    agreement : float or None
        Average precision against each other candidate at IoU 0.5 and 0.75, mean of all.
    steadiness : float or None
        Average precision of the labels of one frame against those of the next at IoU 0.5.
    jump : float or None
        Change of the number of cells from a frame to the next, as a share of their mean.
    cells : float
        Cells a frame, mean.
    diameter_px : float or None
        Median diameter of the cells, pixels.
    frames_per_s : float or None
        One over the median time of a frame on this machine.
    """

    variant: Variant
    model_sha256: str
    rank: int | None = None
    score: float | None = None
    ap: tuple[float, ...] | None = None
    agreement: float | None = None
    steadiness: float | None = None
    jump: float | None = None
    cells: float = 0.0
    diameter_px: float | None = None
    frames_per_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "rank": self.rank,
            "name": self.variant.name,
            "score": self.score,
            "ap": list(self.ap) if self.ap else None,
            **{n: getattr(self, n) for n in ("agreement", "steadiness", "jump", "cells")},
            "diameter_px": self.diameter_px,
            "frames_per_s": self.frames_per_s,
            "model_sha256": self.model_sha256,
            "settings": self.variant.settings.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the candidates were judged on: so many places, with truth, or with a next frame."""

    places: int
    truth: bool
    pairs: bool

    def __str__(self) -> str:
        """Return the words for tables."""
        several = "s" if self.places > 1 else ""
        kind = f"pair{several} of consecutive frames" if self.pairs else f"frame{several}"
        return f"{self.places} {kind}"


def rank_variants(
    scores: Sequence[VariantScore], evidence: Evidence
) -> tuple[tuple[VariantScore, ...], str, tuple[str, ...]]:
    """Order candidates, the best first.

    Returns
    -------
    scores : tuple of VariantScore
        With rank and score. Equal scores have equal ranks; those without a score come last.
    ranked_by : str
        A sentence that says by what.
    caveats : tuple of str
        Sentences about what the order can and cannot say.
    """
    how = _how(len(scores), evidence)
    scored = [replace(one, score=_score(one, how)) for one in scores]
    values = sorted((one.score for one in scored if one.score is not None), reverse=True)
    ranked = [
        one if one.score is None else replace(one, rank=values.index(one.score) + 1)
        for one in scored
    ]
    ranked.sort(key=lambda one: one.rank or math.inf)
    sentence = f"{_SENTENCES[how]}, on {evidence}"
    return tuple(ranked), sentence, tuple(_caveats(ranked, evidence, how))


_SENTENCES = {
    "truth": "ranked by average precision against the truth (mean of IoU 0.5, 0.75 and 0.9)",
    "both": "ranked without truth, by agreement with the other models and steadiness over time "
    "(mean of both)",
    "agreement": "ranked without truth, by agreement with the other models",
    "steadiness": "ranked without truth, by steadiness over time alone",
    "nothing": "not ranked: there is no truth, two models cannot outvote each other, and single "
    "frames show no steadiness",
}
_LIMITS = {
    "truth": "This holds for frames like these; other times and positions can differ.",
    "both": "Without truth nothing tells which model is right: models that make the same mistake "
    "agree, and one that finds only the easiest cells is steady. Growth and movement lower the "
    "steadiness of all alike. Look at the picture, or annotate a few frames "
    "(cypose-dask frames) and give them with --truth.",
    "agreement": "Without truth nothing tells which model is right: models that make the same "
    "mistake agree. Look at the picture, or annotate a few frames (cypose-dask frames) and give "
    "them with --truth.",
    "steadiness": "A model that finds only the easiest cells is steady, too. Look at the picture, "
    "or annotate a few frames (cypose-dask frames) and give them with --truth.",
    "nothing": "Give a third model, a movie with several times, or a truth.",
}


def _how(candidates: int, evidence: Evidence) -> str:
    if evidence.truth:
        return "truth"
    witnesses = candidates >= _FEWEST_FOR_AGREEMENT, evidence.pairs
    return {
        (True, True): "both",
        (True, False): "agreement",
        (False, True): "steadiness",
        (False, False): "nothing",
    }[witnesses]


def _score(one: VariantScore, how: str) -> float | None:
    parts: dict[str, tuple[float | None, ...]] = {
        "truth": one.ap or (None,),
        "both": (one.agreement, one.steadiness),
        "agreement": (one.agreement,),
        "steadiness": (one.steadiness,),
        "nothing": (None,),
    }
    known = [value for value in parts[how] if value is not None]
    return sum(known) / len(known) if len(known) == len(parts[how]) else None


def _caveats(ranked: Sequence[VariantScore], evidence: Evidence, how: str) -> Iterator[str]:
    if not evidence.truth and len(ranked) < _FEWEST_FOR_AGREEMENT:
        agreement = ranked[0].agreement
        words = "" if agreement is None else f" (they agree at {agreement:.2f})"
        yield f"Two models cannot tell which of them is right{words}; a third one could."
    elif not evidence.truth:
        yield from _outlier(ranked)
        yield from _relatives(ranked)
    yield from _close(ranked, evidence)
    if all(one.cells == 0 for one in ranked):
        yield "No model found a cell: check channel and diameter."
    yield _LIMITS[how]


def _outlier(ranked: Sequence[VariantScore]) -> Iterator[str]:
    known = sorted((one for one in ranked if one.agreement is not None), key=_agreement)
    if len(known) > 2 and _agreement(known[1]) - _agreement(known[0]) > _OUTLYING:
        yield (
            f"{known[0].variant.name} differs most from the others (agreement "
            f"{_agreement(known[0]):.2f}, they have at least {_agreement(known[1]):.2f})."
        )


def _agreement(one: VariantScore) -> float:
    return -1.0 if one.agreement is None else one.agreement


def _relatives(ranked: Sequence[VariantScore]) -> Iterator[str]:
    models = [one.model_sha256 for one in ranked]
    if len(set(models)) == 1:
        yield "All candidates are one network with different settings: they share its mistakes."
        return
    names = [one.variant.name for one in ranked if models.count(one.model_sha256) > 1]
    if names:
        yield (
            f"These share a network, so that they agree more easily with each other than with the "
            f"rest: {'; '.join(names)}."
        )


def _close(ranked: Sequence[VariantScore], evidence: Evidence) -> Iterator[str]:
    first, second = (one.score for one in ranked[:2])
    if first is not None and second is not None and first - second < _TOO_CLOSE:
        yield (
            f"The first two differ by {first - second:.3f}, too little to tell them apart on "
            f"{evidence}."
        )
