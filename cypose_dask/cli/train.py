"""``cypose-dask train``."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cypose_dask.cli.options import parse_channels, quiet_libraries

if TYPE_CHECKING:
    from cypose_dask.learn.training.job import TrainedModel
    from cypose_dask.learn.training.loop import Epoch

__all__ = ["command"]

# Seeds of synthetic frames: far from those of the tests and of the bundled models.
_FIRST_SEED, _SEEDS_EACH = 10_000_000, 100_000
_SYNTHETIC_VALIDATION = 16


def _parse_frames(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    """Turn ``0:20,30,40:100:10`` into the frames that it means; the ends are exclusive."""
    if text is None:
        return None
    frames: set[int] = set()
    try:
        for part in text.split(","):
            numbers = [int(number) for number in part.split(":")]
            if len(numbers) > 3 or min(numbers) < 0:
                raise ValueError
            frames |= {numbers[0]} if len(numbers) == 1 else set(range(*numbers))
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is no choice of frames; give START:STOP (exclusive), START:STOP:STEP, "
            "single numbers, or several of them with commas."
        ) from error
    if not frames:
        raise click.BadParameter(f"{text!r} chooses no frame; the end is exclusive.")
    return tuple(sorted(frames))


def _not_mean(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    channels = parse_channels(ctx, param, text)
    if channels == "mean":
        raise click.BadParameter("name the channels; a network cannot be trained on their mean.")
    return channels


@click.command("train")
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True,
              help="The new model: models/NAME.")  # fmt: skip
@click.option("--start", default="default", show_default=True, metavar="MODEL",
              help="Model to fine-tune: bundled or Cellpose name, or a path.")  # fmt: skip
@click.option("--from-scratch", is_flag=True, help="Begin with random weights instead.")
@click.option("--validation", multiple=True, metavar="SOURCE",
              help="Labelled frames to score on, instead of a share of the others.")  # fmt: skip
@click.option("--validation-share", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              default=0.2, show_default=True, help="Share of the frames to score on.")  # fmt: skip
@click.option("--synthetic", type=click.IntRange(1), metavar="N",
              help="Also train on N synthetic frames; alone without sources.")  # fmt: skip
@click.option("--channels", callback=_not_mean, metavar="NAME_OR_INDEX[,..]",
              help="Channels for the network, 0-based or by name.")  # fmt: skip
@click.option("--frames", callback=_parse_frames, metavar="START:STOP[,..]",
              help="Frames of results and stacks to take, 0-based.")  # fmt: skip
@click.option("--movie", "movies", multiple=True, metavar="MOVIE",
              help="Where the movie of a result lies now.")  # fmt: skip
@click.option("--axes", metavar="LETTERS", help="Meaning of the images' axes, e.g. CYX.")
@click.option("--rgb", type=click.Choice(["mean"]), help="Average the samples of RGB(A).")
@click.option("--diameter", type=click.FloatRange(5, 100), metavar="PX",
              help="Size that cells are scaled to; the start's own without.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), help="100, or 400 from scratch.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True),
              help="Peak rate; 0.001, or 0.004 from scratch.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1), help="Crops in one step; 8.")
@click.option("--crop-px", type=click.IntRange(16), help="Side of a crop, times 16; 112.")
@click.option("--validate-every", type=click.IntRange(1), help="Epochs between scores; 10.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Everything random follows from it.")  # fmt: skip
@click.option("--gpu", is_flag=True, help="Demand a GPU: CUDA, else MPS.")
@click.option("--licence", metavar="SPDX", help="Licence of the weights, for the card.")
@click.option("--describe", "description", default="", metavar="TEXT",
              help="What the model is for, for the card.")  # fmt: skip
@click.option("--restart", is_flag=True, help="Delete an earlier training of this name.")
@click.pass_context
def command(ctx: click.Context, /, sources: tuple[str, ...], output: Path, **given: Any) -> int:
    """Fine-tune a model on labelled frames, or train one from scratch.

    A SOURCE is a folder of images with their labels beside them (NAME_seg.npy of Cellpose's GUI,
    NAME_cp_masks.tif, NAME_masks.tif or NAME_labels.tif) or in a folder masks/ or labels/ in it,
    one such image, or a result (.zarr) whose labels you corrected. Label every cell of a frame:
    what is not labelled is taught as background.

    Whole movies are set aside to score on, and the epoch with the best score is kept. Run the same
    command again to continue a training that stopped.
    """
    quiet_libraries()
    from cypose_dask.learn.training.job import check_output, train_model

    if not sources and not given["synthetic"]:
        raise click.UsageError("Give a SOURCE of labelled frames, or --synthetic N.")
    if given["from_scratch"] and _is_typed(ctx, "start"):
        raise click.UsageError("Give --start MODEL or --from-scratch.")
    check_output(output, restart=given["restart"])
    given["command"] = _command_line(ctx)
    job = _job(sources, output, given)
    reporter = _Reporter(job.recipe.n_epochs)
    _announce(job)
    made = train_model(job, reporter.line)
    _summarise(made)
    return 0


def _job(sources: tuple[str, ...], output: Path, given: dict[str, Any]) -> Any:
    """Read the frames and settle everything else."""
    from cypose_dask.learn.training.card import UNKNOWN_LICENCE
    from cypose_dask.learn.training.job import About, ModelJob, default_recipe
    from cypose_dask.models import resolve_model

    start = None if given["from_scratch"] else resolve_model(given["start"])
    training, validation, names = _frames(sources, start, given)
    recipe = default_recipe(
        len(training),
        start,
        diameter=given["diameter"],
        n_epochs=given["epochs"],
        learning_rate=given["learning_rate"],
        batch_size=given["batch_size"],
        crop_px=given["crop_px"],
        validate_every=given["validate_every"],
        seed=given["seed"],
    )
    return ModelJob(
        output=output,
        training=training,
        validation=validation,
        recipe=recipe,
        start=start,
        channel_names=names,
        about=About(
            description=given["description"],
            licence=given["licence"] or UNKNOWN_LICENCE,
            command=given["command"],
        ),
        gpu=given["gpu"],
        restart=given["restart"],
    )


def _frames(sources: tuple[str, ...], start: Any, given: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return frames to train on, frames to validate on, and names of their channels."""
    if not sources:
        channels = len(start.wants) if start else len(given["channels"] or (0,))
        training = _synthetic(given["synthetic"], given["seed"], channels=channels)
        if given["validation"]:
            return training, _found(given["validation"], start, given).examples, ()
        aside = _synthetic(_SYNTHETIC_VALIDATION, given["seed"], channels=channels, aside=True)
        return training, aside, ()
    found = _found(sources, start, given)
    if given["validation"]:
        training, validation = found.examples, _found(given["validation"], start, given).examples
    else:
        training, validation = _split(found.examples, given)
    if given["synthetic"]:
        channels = max(len(frame) for frame in training.frames)
        training += _synthetic(given["synthetic"], given["seed"], channels=channels)
    return training, validation, found.channel_names


def _found(sources: tuple[str, ...], start: Any, given: dict[str, Any]) -> Any:
    from cypose_dask.learn.training.example_files import Reading, find_examples

    def choose(info: Any) -> Any:
        from cypose_dask.run.channels import resolve_channels

        return resolve_channels(None, info, start)

    reading = Reading(
        channels=given["channels"],
        choose=choose if start else None,
        frames=given["frames"],
        movies=given["movies"],
        axes=given["axes"],
        rgb=given["rgb"],
    )
    found = find_examples(sources, reading)
    for note in found.notes:
        click.echo(f"note      {note}")
    return found


def _split(examples: Any, given: dict[str, Any]) -> tuple[Any, Any]:
    from cypose_dask.learn.training.examples import split_by_movie, split_in_time

    share = given["validation_share"]
    if len(set(examples.movies)) > 1:
        both = split_by_movie(examples, share=share, seed=given["seed"])
    else:
        both = split_in_time(examples, share=share)
        click.echo(
            f"warning   all frames come from one movie, {examples.movies[0]}: {len(both[1])} from "
            "its middle are set aside to score on. The scores are optimistic, since frames of one "
            "movie are alike; --validation names frames of another one.",
            err=True,
        )
    return both


def _synthetic(count: int, seed: int, *, channels: int, aside: bool = False) -> Any:
    from cypose_dask.learn import Examples, training_set

    if channels > 2:
        raise click.UsageError("Synthetic frames have one channel, or two with chlorophyll.")
    first = _FIRST_SEED + (2 * seed + aside) * _SEEDS_EACH
    frames, labels = training_set(count, first_seed=first, chlorophyll=channels == 2)
    name = f"synthetic frames, seeds from {first}"
    return Examples(
        tuple(frame.reshape(-1, *frame.shape[-2:]) for frame in frames),
        tuple(labels),
        (name,) * count,
    )


def _command_line(ctx: click.Context) -> str:
    """Rebuild what was typed, as a line for a shell."""
    words = ["cypose-dask", "train", *ctx.params["sources"]]
    for param in ctx.command.params:
        value = ctx.params.get(param.name or "")
        typed = _is_typed(ctx, param.name or "")
        if not typed or not isinstance(param, click.Option) or param.name == "restart":
            continue
        values: Any = value if param.multiple else (value,)
        for one in values:
            words += [param.opts[-1]] if param.is_flag else [param.opts[-1], _as_typed(one)]
    return shlex.join(words)


def _is_typed(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _as_typed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


# ---- what is printed -----------------------------------------------------------------------


class _Reporter:
    """One line a validation, with the time that is left."""

    def __init__(self, n_epochs: int) -> None:
        self._n_epochs = n_epochs
        self._last = (0, time.monotonic())
        self._best: Epoch | None = None

    def line(self, line: Epoch) -> None:
        """Print a line of the learning curve."""
        now = time.monotonic()
        epochs, seconds = line.epoch - self._last[0], now - self._last[1]
        self._last = (line.epoch, now)
        if self._best is None or line.score >= self._best.score:
            self._best = line
        # Lines of an earlier call come at once.
        left = (self._n_epochs - line.epoch) * seconds / epochs if epochs > 0 else 0.0
        parts = [
            f"epoch {line.epoch:>4} of {self._n_epochs}",
            "before training" if line.loss is None else f"loss {line.loss:.4f}",
            f"AP@0.5/0.75/0.9 {_scores(line)}",
            f"best {_scores(self._best)} (epoch {self._best.epoch})",
            *([f"{_duration(left)} left"] if left > 1 else []),
        ]
        click.echo("  ".join(parts))


def _announce(job: Any) -> None:
    begun = f"{job.start.name} (sha256 {job.start.sha256[:12]})" if job.start else "random weights"
    recipe = job.recipe
    for title, examples in (("train on", job.training), ("score on", job.validation)):
        for line in examples.describe():
            click.echo(f"{title}  {line}")
    click.echo(f"start     {begun}")
    click.echo(
        f"recipe    {recipe.n_epochs} epochs of {recipe.crops_per_epoch} crops of "
        f"{recipe.crop_px} px, learning rate {recipe.learning_rate:g}, seed {recipe.seed}"
    )
    click.echo(f"training  {job.folder}")


def _summarise(made: TrainedModel) -> None:
    best, before = made.best, made.before
    if before is None:
        click.echo(f"scores    AP@0.5/0.75/0.9 {_scores(best)} (epoch {best.epoch})")
    else:
        click.echo(
            f"scores    AP@0.5/0.75/0.9 before {_scores(before)} -> after {_scores(best)} "
            f"(epoch {best.epoch})"
        )
    if best is before:
        click.echo(
            "warning   no epoch was better than the model that training began with, so its "
            "weights were kept. More labelled frames help, or another --learning-rate.",
            err=True,
        )
    click.echo(f"model     {made.path}")
    click.echo(f"card      {made.card} (fill in what is marked)")
    click.echo(
        f"next      cypose-dask segment movie.nd2 --model {shlex.quote(_as_path(made.path))}"
    )


def _as_path(path: Path) -> str:
    """Return a path that cannot be taken for the name of a built-in model."""
    text = os.fspath(path)
    return text if path.parent != Path() else os.path.join(os.curdir, text)  # noqa: PTH118


def _scores(line: Epoch) -> str:
    return " / ".join(f"{ap:.3f}" for ap in line.ap)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
