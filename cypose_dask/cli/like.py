"""``--like``: the settings of another program, where nothing is said by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from cypose_dask.likeness import Likeness

__all__ = ["like_option", "liken"]

Command = TypeVar("Command", bound=Callable[..., Any])
_NOT_SAID = (None, ParameterSource.DEFAULT)
# Options that say a setting of another name.
_ALSO_SAY = {"channels": ("chan", "chan2"), "denoise": ("restoration",)}


def like_option(command: Command) -> Command:
    """Add ``--like`` to a command with `segmentation_options`."""
    return click.option(
        "--like", metavar="PROGRAM_OR_FILE",
        help="Set what cypose, cellpose-cli, cellpose-gui or cellpose-api would, or what a "
        "_seg.npy of Cellpose's GUI keeps; options that are given win.",
    )(command)  # fmt: skip


def liken(settings: dict[str, Any], like: str | None) -> dict[str, Any]:
    """Return settings with those of another program where the command line says nothing.

    Prints, to the error stream, what is assumed or differs.

    Raises
    ------
    CyposeError
        If there is no such program or file, or a setting cannot be taken over.
    """
    if like is None:
        return settings
    said = {name: value for name, value in settings.items() if _is_said(name)}
    likeness = _likeness(like, said.get("model"))
    settled, notes = likeness.settle(said)
    click.echo(f"like      {likeness.name}: {_listed(likeness, settled)}", err=True)
    for note in notes:
        click.echo(f"          {note}", err=True)
    return {**settings, **settled}


def _is_said(name: str) -> bool:
    source = click.get_current_context().get_parameter_source
    return any(source(option) not in _NOT_SAID for option in (name, *_ALSO_SAY.get(name, ())))


def _likeness(like: str, model: str | None) -> Likeness:
    from cypose_dask.likeness import PRESETS, preset, seg_file_likeness

    if like in PRESETS or not (like.lower().endswith(".npy") or Path(like).is_file()):
        return preset(like, model)
    return seg_file_likeness(like)


def _listed(likeness: Likeness, settled: dict[str, Any]) -> str:
    """Say the settings that were taken over."""
    taken = {name: settled[name] for name in likeness.settings if settled[name] is not False}
    automatic = {"niter": "automatic", "denoise": "none"}
    words = (f"{name} {_shown(automatic.get(name) if value is None else value)}"
             for name, value in taken.items())  # fmt: skip
    return ", ".join(words)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
