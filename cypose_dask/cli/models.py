"""``cypose-dask models``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cypose_dask.models import ModelSpec

__all__ = ["command"]


@click.command("models")
@click.argument("name", required=False)
def command(name: str | None) -> int:
    """List all models, or look into one (a built-in is downloaded when it is not here yet)."""
    if name is None:
        _list()
    else:
        _describe(name)
    return 0


def _list() -> None:
    from cypose_dask.models import builtin, registry, resolve

    default, *others = registry.bundled_names()
    click.echo("bundled")
    click.echo("\n".join(f"  {n}" for n in (f"{default}  (default)", *others)))
    click.echo(f"built into Cellpose (in {builtin.model_folder()}, or downloaded)")
    for known in (*builtin.BUILTIN, *builtin.FORGOTTEN):
        click.echo(f"  {known}{'' if builtin.is_cached(known) else '  (not here yet)'}")
    mine = resolve.user_names()
    if mine:
        click.echo("your own, in Cellpose's list")
        click.echo("\n".join(f"  {known}" for known in mine))
    click.echo("or the path of any Cellpose 2 or 3 weights")


def _describe(name: str) -> None:
    from cypose_dask.models import resolve_model

    spec = resolve_model(name)
    click.echo(f"name        {spec.name} ({spec.kind})")
    click.echo(f"file        {spec.path}")
    click.echo(f"sha256      {spec.sha256}")
    click.echo(f"inputs      {spec.network_inputs}")
    click.echo(f"diameter    {spec.diameter:.4g} px in training, rescaled to {spec.diam_mean:.4g}")
    for words in spec.wants:
        click.echo(f"wants       a channel called {', '.join(words)}")
    trained = _entry(spec).get("trained")
    if trained:
        click.echo(f"trained     {trained}")


def _entry(spec: ModelSpec) -> dict[str, Any]:
    """Return what a registry says of a model: ours, or the one that `train` wrote beside it."""
    from cypose_dask.models import registry

    if spec.kind == "bundled":
        return registry.bundled_entry(spec.name)
    return registry.entry_beside(Path(spec.path), spec.sha256)
