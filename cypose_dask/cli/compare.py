"""``cypose-dask compare``."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from cypose_dask.cli.options import (
    parse_channels,
    parse_diameter,
    parse_normalize,
    position_option,
    quiet_libraries,
)

__all__ = ["command"]

# Values may hold commas themselves: channels=0,1
_BETWEEN = re.compile(r",(?=\s*[A-Za-z_-]+\s*=)")
# A comparison takes its own frames, and one device for all.
_NOT_A_VARIANT = ("start_frame", "end_frame", "gpu", "engine")
_YES_OR_NO = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_COLUMNS = {
    "rank": "rank",
    "score": "score",
    "AP@0.5": "ap50",
    "AP@0.75": "ap75",
    "AP@0.9": "ap90",
    "agree": "agreement",
    "steady": "steadiness",
    "jump": "jump",
    "cells": "cells",
    "diam px": "diameter_px",
    "frames/s": "frames_per_s",
    "model": "name",
}


@click.command("compare")
@click.argument("source", metavar="MOVIE")
@click.option("--model", "models", multiple=True, metavar="NAME",
              help="A model, bundled, Cellpose's or a path; repeat for others.")  # fmt: skip
@click.option(
    "--variant", "variants", multiple=True, metavar="NAME=VALUE,..",
    help="A model with settings: 'model=cyano-rods,diameter=18,flow_threshold=0.4'.",
)  # fmt: skip
@click.option("-n", "--number", type=click.IntRange(1), default=5, show_default=True,
              help="Pairs of frames (single frames with --truth).")  # fmt: skip
@click.option("--truth", type=click.Path(path_type=Path),
              help="True labels: TIF, zarr, pattern, or annotated folder of `frames`.")  # fmt: skip
@click.option("--crop", type=click.IntRange(16), metavar="PX",
              help="Compare on squares with cells instead of whole frames: faster.")  # fmt: skip
@click.option(
    "--channels", callback=parse_channels, metavar="NAME_OR_INDEX[,..]",
    help="Channels for all models, 0-based or by name, or 'mean'.",
)  # fmt: skip
@click.option("--diameter", callback=parse_diameter, default="model", show_default=True,
              help="For all models: px, 'model' (as trained) or 'estimate'.")  # fmt: skip
@click.option("--gpu", is_flag=True, help="Demand a GPU: CUDA, else MPS.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False),
              help="Write the table, settings and frames as JSON.")  # fmt: skip
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False),
              help="Draw the outlines on the frame where models differ most, as PNG.")  # fmt: skip
@click.option("--axes", metavar="LETTERS", help="Meaning of the stored axes, e.g. TYX or TCYX.")
@click.option("--position", metavar="NAME_OR_INDEX", help="Take one position only.")
@click.option("--rgb", type=click.Choice(["mean"]), help="Average the samples of RGB(A).")
def command(source: str, models: tuple[str, ...], variants: tuple[str, ...], **given: Any) -> int:
    """Run several models, or settings, on a few frames of a movie, and rank them.

    With --truth by average precision. Without, by agreement between the models (three or more)
    and by steadiness from one frame to the next; neither proves a model right.

    A variant is any settings of `segment` as NAME=VALUE with commas between them, such as
    'model=cyano-rods,channels=0,1,diameter=18,min_size_px=30'; --channels and --diameter hold
    for variants that do not say otherwise.
    """
    quiet_libraries()
    from cypose_dask.learn import compare_models, save_comparison
    from cypose_dask.movies import open_movie

    movie = open_movie(
        source,
        axes=given["axes"],
        position=position_option(given["position"]),
        rgb=given["rgb"],
        allow_damaged=True,  # frames that are damaged are not taken
    )
    candidates = _candidates(models, variants, (movie.info, given))
    shots = _shots(movie, given)
    found = compare_models(shots, candidates, progress=_progress(len(shots), len(candidates)))
    click.echo("\n".join(_table(found)))
    if given["json_path"]:
        from cypose_dask.results.atomic import write_json

        write_json(given["json_path"], {"movie": movie.info.path, **found.to_dict()})
        click.echo(f"json      {given['json_path']}")
    if given["picture"]:
        click.echo(f"picture   {save_comparison(found, given['picture'])}")
    return 0


def _shots(movie: Any, given: dict[str, Any]) -> list[Any]:
    from cypose_dask.learn import consecutive_shots, true_shots

    if given["truth"] is None:
        return list(consecutive_shots(movie, given["number"], crop_px=given["crop"]))
    if given["crop"]:
        raise click.UsageError("--crop goes without --truth; the truth says what is scored.")
    return list(true_shots(movie, given["truth"], given["number"]))


def _candidates(
    models: tuple[str, ...], variants: tuple[str, ...], rest: tuple[Any, dict[str, Any]]
) -> list[Any]:
    """Return a `Variant` for each --model and --variant, with channels resolved."""
    from cypose_dask.errors import SettingsError
    from cypose_dask.learn import Variant
    from cypose_dask.models import resolve_model
    from cypose_dask.run.channels import resolve_channels
    from cypose_dask.settings import Settings

    info, given = rest
    common = {name: given[name] for name in ("channels", "diameter", "gpu")}
    made = []
    for wish in ({"model": name} for name in models), map(_parse_variant, variants):
        for changes in wish:
            settings = Settings(**{**common, **changes})
            model = resolve_model(settings.model)
            channels = resolve_channels(settings.channels, info, model)
            made.append(Variant(_name(model.name, changes), settings.replace(channels=channels)))
    if len(made) < 2:
        raise SettingsError(
            f"Found {len(made)} candidate; give at least two of --model and --variant. "
            "`cypose-dask models` lists models."
        )
    return made


def _name(model: str, changes: dict[str, Any]) -> str:
    said = [f"{name}={_said(value)}" for name, value in changes.items() if name != "model"]
    return ", ".join([model, *said])


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_said, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _parse_variant(text: str) -> dict[str, Any]:
    """Turn ``model=x,channels=0,1,diameter=18`` into settings."""
    from cypose_dask.settings import Settings

    known = [field.name for field in fields(Settings) if field.name not in _NOT_A_VARIANT]
    found: dict[str, Any] = {}
    for part in _BETWEEN.split(text):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        name = name.replace("-", "_")
        if not equals or not value or name not in known or name in found:
            raise click.BadParameter(
                f"{part.strip()!r} in {text!r}; expected NAME=VALUE with each of these names at "
                f"most once: {', '.join(known)}.",
                param_hint="--variant",
            )
        found[name] = _value(name, value)
    return found


def _value(name: str, text: str) -> Any:
    context = click.get_current_context()
    option = click.Option([f"--{name}"])
    parsers = {"channels": parse_channels, "diameter": parse_diameter, "normalize": parse_normalize}
    if name in parsers:
        return parsers[name](context, option, text)
    if name in ("model", "denoise"):
        return text
    try:
        if name == "percentiles":
            return tuple(float(part) for part in text.split(","))
        if name == "invert":
            return _YES_OR_NO[text.lower()]
        return int(text) if name == "min_size_px" else float(text)
    except (ValueError, KeyError) as error:
        raise click.BadParameter(
            f"{text!r} is no value for {name}.", param_hint="--variant"
        ) from error


def _progress(shots: int, candidates: int) -> Any:
    done = 0

    def show(shot: str, name: str) -> None:
        nonlocal done
        done += 1
        click.echo(f"segment   {done} of {shots * candidates}: {shot}, {name}", err=True)

    return show


def _table(found: Any) -> list[str]:
    rows = [_row(score) for score in found.scores]
    used = [key for key in _COLUMNS.values() if any(row[key] != "-" for row in rows)]
    titles = {key: title for title, key in _COLUMNS.items()}
    table = [{key: titles[key] for key in used}, *rows]
    widths = {key: max(len(line[key]) for line in table) for key in used}
    last = used[-1]
    lines = ["  ".join(line[key].rjust(widths[key]) if key != last else line[key] for key in used)
             for line in table]  # fmt: skip
    return [found.ranked_by, *lines, *(f"note      {caveat}" for caveat in found.caveats)]


def _row(score: Any) -> dict[str, str]:
    ap = score.ap or (None, None, None)
    return {
        "rank": _shown(score.rank, "d"),
        "score": _shown(score.score, ".3f"),
        **{key: _shown(ap[i], ".3f") for i, key in enumerate(("ap50", "ap75", "ap90"))},
        "agreement": _shown(score.agreement, ".3f"),
        "steadiness": _shown(score.steadiness, ".3f"),
        "jump": _shown(score.jump, ".0%"),
        "cells": _shown(score.cells, ".1f"),
        "diameter_px": _shown(score.diameter_px, ".1f"),
        "frames_per_s": _shown(score.frames_per_s, ".2g"),
        "name": score.variant.name,
    }


def _shown(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)
