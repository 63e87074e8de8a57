"""From labelled frames to a model that can be named: train, keep the best epoch, write it down.

::

    models/NAME             float16 weights
    models/NAME.md          the card
    models/registry.toml    one entry a model: hash, channels, diameter, licence
    models/NAME.training/   checkpoint, learning curve and float32 weights, to continue
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cypose_dask.errors import ModelError, SettingsError
from cypose_dask.learn.training.bundle import Entry, bundle_model
from cypose_dask.learn.training.card import UNKNOWN_LICENCE, CardFacts, model_card
from cypose_dask.learn.training.checkpoint import frame_hashes
from cypose_dask.learn.training.loop import Epoch, Recipe, best_of, train_network
from cypose_dask.learn.training.registry import REGISTRY
from cypose_dask.models.probe import probe_weights
from cypose_dask.models.registry import read_tables

if TYPE_CHECKING:
    from cypose_dask.learn.training.examples import Examples
    from cypose_dask.models import ModelSpec

__all__ = ["About", "ModelJob", "TrainedModel", "check_output", "default_recipe", "train_model"]

# Enough for 20 frames to teach a new look, gentle enough to keep what the model knows.
_FINE_TUNING = {"n_epochs": 100, "learning_rate": 0.001, "validate_every": 10}
_FEWEST_CROPS = 16


@dataclass(frozen=True, kw_only=True)
class About:
    """What a person says about a model.

    Attributes
    ----------
    description : str
        What it is for.
    licence : str
        SPDX name.
    command : str
        The command line that repeats the training.
    """

    description: str = ""
    licence: str = UNKNOWN_LICENCE
    command: str = "(not trained from the command line)"


@dataclass(frozen=True, kw_only=True)
class ModelJob:
    """A model to be made.

    Attributes
    ----------
    output : Path
        Where the weights go: ``models/NAME``.
    training, validation : Examples
        Frames to learn from, and others to choose the best epoch by.
    recipe : Recipe
    start : ModelSpec or None
        Weights to begin with; None starts from random ones.
    channel_names : tuple of tuple of str
        Names of each channel of the frames, where they are known.
    about : About
    gpu : bool
        Demand a GPU.
    restart : bool
        Delete an earlier training of this name instead of continuing it.
    """

    output: Path
    training: Examples
    validation: Examples
    recipe: Recipe
    start: ModelSpec | None = None
    channel_names: tuple[tuple[str, ...], ...] = ()
    about: About = field(default_factory=About)
    gpu: bool = False
    restart: bool = False

    @property
    def folder(self) -> Path:
        """Where the training is kept."""
        return training_folder(self.output)

    @property
    def optimistic(self) -> bool:
        """Whether frames of one movie are trained on and validated on."""
        return not set(self.training.movies).isdisjoint(self.validation.movies)


@dataclass(frozen=True)
class TrainedModel:
    """A model on disk.

    Attributes
    ----------
    path : Path
        Float16 weights; the card is ``NAME.md`` beside them.
    curve : tuple of Epoch
        Every validation; the first one is of epoch 0 where training began with weights.
    """

    path: Path
    curve: tuple[Epoch, ...]

    @property
    def card(self) -> Path:
        """The card."""
        return self.path.with_name(f"{self.path.name}.md")

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were kept."""
        return best_of(self.curve)

    @property
    def before(self) -> Epoch | None:
        """Scores of the weights that training began with, if it did not begin from scratch."""
        return self.curve[0] if self.curve[0].epoch == 0 else None


def default_recipe(n_frames: int, start: ModelSpec | None, **changes: Any) -> Recipe:
    """Return a recipe for so many frames, gentle where it starts from trained weights.

    Parameters
    ----------
    n_frames : int
        Frames to train on.
    start : ModelSpec or None
        Weights to begin with.
    **changes
        Fields of `Recipe`; None keeps the default.

    Returns
    -------
    Recipe

    Raises
    ------
    SettingsError
        A change is out of range.
    """
    fields: dict[str, Any] = dict(_FINE_TUNING) if start else {}
    least = _FEWEST_CROPS if start else Recipe().crops_per_epoch
    fields["crops_per_epoch"] = max(n_frames, least)
    return Recipe(**fields | {name: value for name, value in changes.items() if value is not None})


def train_model(job: ModelJob, watch: Callable[[Epoch], None] | None = None) -> TrainedModel:
    """Train a model, or go on with it, and write weights, registry entry and card.

    Parameters
    ----------
    job : ModelJob
    watch : callable, optional
        Called with every line of the learning curve, also with those of an earlier call.

    Returns
    -------
    TrainedModel

    Raises
    ------
    SettingsError
        The frames do not fit, `check_output` refuses, or the folder holds another training.
    ModelError
        The registry cannot be read, or frames have more channels than the network inputs.
    DeviceError
        A GPU was demanded and there is none.
    """
    name = job.output.name
    check_output(job.output, restart=job.restart)
    _refuse_overlap(job)
    if job.restart:
        _forget(job)
    weights = train_network(
        job.training,
        job.validation,
        folder=job.folder,
        name=name,
        recipe=job.recipe,
        start=job.start,
        gpu=job.gpu,
        watch=watch,
    )
    made = TrainedModel(job.output, _curve(job))
    # A person may have filled in the card of a training that was finished before.
    if not _is_written(made, weights):
        _write(job, made, weights)
    return made


def training_folder(output: Path) -> Path:
    """Return the folder in which the training of a model is kept."""
    return output.with_name(f"{output.name}.training")


def check_output(output: Path, *, restart: bool) -> None:
    """Refuse a name under which a model cannot be written, before any work.

    Parameters
    ----------
    output : Path
        ``models/NAME``.
    restart : bool
        Whether an earlier model of this name may be replaced.

    Raises
    ------
    SettingsError
        It is a folder, a name that is taken, or a file that is no model of this command.
    ModelError
        The registry beside it cannot be read.
    """
    registry = output.with_name(REGISTRY)
    if output.name in ("", "..", REGISTRY) or output.name.startswith(".") or output.is_dir():
        raise SettingsError(f"-o {output} is no name for a model. Give one such as models/NAME.")
    known = read_tables(registry)
    if registry.exists() and not known:
        raise SettingsError(
            f"{registry} is there and lists no models: it belongs to something else. Choose "
            "another folder."
        )
    if not output.exists():
        return
    if known.get(output.name, {}).get("file") != output.name:
        raise SettingsError(
            f"{output} is there and is no model in {registry}; it is left alone. Choose another "
            "name."
        )
    checkpoint = training_folder(output) / f"{output.name}.checkpoint"
    if not restart and not checkpoint.exists():
        raise SettingsError(
            f"The model {output} is there, and its training ({checkpoint}) is not, so it cannot be "
            "continued. Choose another name, or train it anew with --restart."
        )


def _refuse_overlap(job: ModelJob) -> None:
    shared = frame_hashes(job.training) & frame_hashes(job.validation)
    if shared:
        raise SettingsError(
            f"{len(shared)} of {len(job.validation)} validation frames are trained on, too; their "
            "score would say nothing. Name other frames for validation."
        )


def _forget(job: ModelJob) -> None:
    for ending in (".checkpoint", ".curve.json", ""):
        (job.folder / f"{job.output.name}{ending}").unlink(missing_ok=True)


def _curve(job: ModelJob) -> tuple[Epoch, ...]:
    path = job.folder / f"{job.output.name}.curve.json"
    if not path.exists():
        return ()
    lines = json.loads(path.read_text(encoding="utf-8"))["epochs"]
    return tuple(Epoch(**line | {"ap": tuple(line["ap"])}) for line in lines)


def _is_written(made: TrainedModel, weights: Path) -> bool:
    import torch

    from cypose_dask.models import resolve_model

    if not (made.path.exists() and made.card.exists()):
        return False
    try:
        resolve_model(made.path.absolute())
    except ModelError:
        return False
    ours, theirs = (
        torch.load(path, map_location="cpu", weights_only=True) for path in (weights, made.path)
    )
    return all(torch.equal(ours[key].to(theirs[key].dtype), theirs[key]) for key in ours)


def _write(job: ModelJob, made: TrainedModel, weights: Path) -> None:
    probe = probe_weights(weights)
    wants = _wants(job)
    facts = CardFacts(
        name=made.path.name,
        description=job.about.description,
        licence=job.about.licence,
        command=job.about.command,
        start=job.start,
        recipe=job.recipe,
        diameter=probe.diameter,
        inputs=probe.network_inputs,
        wants=wants,
        training=job.training.describe(),
        validation=job.validation.describe(),
        curve=made.curve,
        optimistic=job.optimistic,
    )
    entry = Entry(
        wants=wants,
        diameter=round(probe.diameter, 2),
        licence=job.about.licence,
        trained=_sentence(job),
    )
    bundle_model(
        weights, made.path.parent, name=made.path.name, entry=entry, card=model_card(facts)
    )


def _wants(job: ModelJob) -> tuple[tuple[str, ...], ...]:
    """Take the names of the channels; where they have none, what the first weights wanted."""
    count = max(len(frame) for frame in job.training.frames)
    names = job.channel_names[:count]
    if len(names) == count and all(names):
        return tuple(tuple(sorted({word.lower() for word in words})) for words in names)
    wants = job.start.wants[:count] if job.start else ()
    return wants if len(wants) == count else ((),) * count


def _sentence(job: ModelJob) -> str:
    cells = sum(len(np.unique(labels[labels > 0])) for labels in job.training.labels)
    begun = f"From {job.start.name}" if job.start else "From scratch"
    movies = len(set(job.training.movies))
    return (
        f"{begun} on {len(job.training)} frames of {movies} movie{'' if movies == 1 else 's'} with "
        f"{cells} cells by cypose-dask train, {job.recipe.n_epochs} epochs, seed "
        f"{job.recipe.seed}; see the card."
    )
