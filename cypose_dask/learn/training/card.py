"""The card of a trained model: what went in, how, what came out, and what a person must add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from cypose_dask.learn.scoring.counts import THRESHOLDS
from cypose_dask.learn.training.loop import Epoch, Recipe, best_of

if TYPE_CHECKING:
    from cypose_dask.models import ModelSpec

__all__ = ["CardFacts", "model_card"]

UNKNOWN_LICENCE = "NOASSERTION"  # SPDX's word for "nobody said"
_PACKAGES = ("cypose-dask", "cellpose", "torch", "numpy")
_MOST_LINES = 40


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card is written from.

    Attributes
    ----------
    name : str
        Of the model.
    description : str
        What it is for, in the user's words; empty where nothing was said.
    licence : str
        SPDX name.
    command : str
        The command line that repeats the training.
    start : ModelSpec or None
        Weights that training began with; None is from scratch.
    recipe : Recipe
    diameter : float
        Mean diameter of the training cells, px.
    inputs : int
        Channels of the network's input.
    wants : tuple of tuple of str
        Per used input, names of channels that suit it.
    training, validation : sequence of str
        One line a source: movie, frames and cells.
    curve : sequence of Epoch
        Every validation.
    optimistic : bool
        Whether training and validation frames come from the same movie.
    """

    name: str
    description: str
    licence: str
    command: str
    start: ModelSpec | None
    recipe: Recipe
    diameter: float
    inputs: int
    wants: tuple[tuple[str, ...], ...]
    training: Sequence[str]
    validation: Sequence[str]
    curve: Sequence[Epoch]
    optimistic: bool


def model_card(facts: CardFacts) -> str:
    """Write the Markdown card of a model.

    Parameters
    ----------
    facts : CardFacts

    Returns
    -------
    str
    """
    parts = (_head(facts), _data(facts), _recipe(facts), _scores(facts), _curve(facts), _LIMITS)
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _head(facts: CardFacts) -> list[str]:
    start = facts.start
    begun = f"{start.name} ({start.kind}, sha256 `{start.sha256}`)" if start else "random weights"
    licence = facts.licence
    if licence == UNKNOWN_LICENCE:
        licence += " (to be filled in: the licence of the weights)"
    wants = "; ".join(", ".join(words) or "any" for words in facts.wants) or "not stated"
    return [
        f"# {facts.name}",
        "",
        facts.description
        or "(To be filled in: which cells, microscope and objective this is for.)",
        "",
        "| | |",
        "| --- | --- |",
        f"| began with | {_cell(begun)} |",
        f"| architecture | Cellpose 3 network, {facts.inputs} inputs, float16 weights |",
        f"| channels | {_cell(wants)} |",
        f"| diameter | {facts.diameter:.1f} px in training (mean over frames) |",
        f"| licence | {_cell(licence)} |",
    ]


def _data(facts: CardFacts) -> list[str]:
    lines = ["## Data", "", "Trained on:", "", *_listed(facts.training)]
    lines += ["", "Validated on:", "", *_listed(facts.validation)]
    if facts.optimistic:
        lines += [
            "",
            "Training and validation frames come from the same movie, so the scores below are "
            "better than those to expect on another movie.",
        ]
    return lines


def _recipe(facts: CardFacts) -> list[str]:
    numbers = ", ".join(f"{name} {value}" for name, value in asdict(facts.recipe).items())
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    return ["## Recipe", "", "```", facts.command, "```", "", f"{numbers}.", "", f"{versions}."]


def _scores(facts: CardFacts) -> list[str]:
    first, best = facts.curve[0], best_of(facts.curve)
    header = " | ".join(f"AP@{threshold:g}" for threshold in THRESHOLDS)
    rows = [f"| after (epoch {best.epoch}) | {_numbers(best)} |"]
    if first.epoch == 0:
        rows.insert(0, f"| before | {_numbers(first)} |")
    return [
        "## Scores",
        "",
        "Mean average precision of the validation frames, each at the median diameter of its true",
        "cells. The epoch with the best mean over the thresholds was kept: these frames chose it,",
        "so expect a little less on frames that chose nothing (`cypose-dask evaluate`).",
        "",
        f"| | {header} |",
        "| --- |" + " --- |" * len(THRESHOLDS),
        *rows,
    ]


def _curve(facts: CardFacts) -> list[str]:
    header = " | ".join(f"AP@{threshold:g}" for threshold in THRESHOLDS)
    lines = [
        f"| {line.epoch} | {'' if line.loss is None else f'{line.loss:.4f}'} | {_numbers(line)} | "
        f"{line.rate:.2g} |"
        for line in _thinned(facts.curve)
    ]
    return [
        "## Learning curve",
        "",
        f"| epoch | loss | {header} | rate |",
        "| --- | --- |" + " --- |" * (len(THRESHOLDS) + 1),
        *lines,
    ]


_LIMITS = [
    "## Limits",
    "",
    "(To be filled in: what it gets wrong, and data that it was not made for.)",
]


def _thinned(curve: Sequence[Epoch]) -> list[Epoch]:
    """Leave lines out of a long curve, evenly; the first and the last stay."""
    step = -(-len(curve) // _MOST_LINES)
    kept = list(curve[::step])
    return kept if kept[-1] is curve[-1] else [*kept, curve[-1]]


def _numbers(line: Epoch) -> str:
    return " | ".join(f"{ap:.3f}" for ap in line.ap)


def _listed(lines: Sequence[str]) -> list[str]:
    return [f"- {_cell(line)}" for line in lines]


def _cell(text: str) -> str:
    """Keep a name from breaking the table that it stands in."""
    return text.replace("|", "\\|").replace("\n", " ")
