"""``cypose-dask status``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cypose_dask.run.state import ResultState

__all__ = ["command"]

_COUNTED = ("done", "pending", "failed", "damaged")


@click.command("status")
@click.argument(
    "results",
    nargs=-1,
    required=True,
    metavar="RESULT...",
    type=click.Path(exists=True, path_type=Path),
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON list instead, with all frames."
)
def command(results: tuple[Path, ...], as_json: bool) -> int:
    """Show how far results (.zarr folders, or folders of them) are, and which frames failed.

    Exit code 0 when every frame has labels, 1 when not.
    """
    from cypose_dask.cli.options import quiet_libraries
    from cypose_dask.run.state import find_results

    quiet_libraries()
    facts, whole = [], True
    for path in find_results(results):
        found, is_whole = _look(path, as_json)
        facts.append(found)
        whole = whole and is_whole
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    return 0 if whole else 1


def _look(path: Path, as_json: bool) -> tuple[dict[str, Any], bool]:
    """Look at one result; one that cannot be read does not hide the others."""
    from cypose_dask.cli.outcomes import printable
    from cypose_dask.errors import ResultError
    from cypose_dask.results import open_result
    from cypose_dask.run.state import state_of

    try:
        state = state_of(open_result(path))
    except ResultError as error:
        if not as_json:
            click.echo(f"result    {printable(path)}")
            click.echo(f"unknown   {printable(error)}", err=True)
        return {"result": str(path), "whole": False, "error": str(error)}, False
    facts = facts_of(state)
    if as_json:
        facts["frames_not_done"] = [frame.to_dict() for frame in state.missing()]
    else:
        _print(state, facts)
    return facts, state.whole


def _print(state: ResultState, facts: dict[str, Any]) -> None:
    from cypose_dask.cli.outcomes import LISTED_FRAMES, echo_missing, printable

    writes = f"{facts['run']} writes it now" if facts["run"] else "none goes on"
    click.echo(f"result    {printable(facts['result'])}")
    click.echo(f"movie     {printable(facts['movie'])}")
    click.echo(f"model     {printable(facts['model'])}, SHA-256 {printable(facts['model_sha256'])}")
    click.echo(f"run       {printable(writes)}")
    for number, position in enumerate(facts["positions"]):
        counts = ", ".join(f"{position[name]} {name}" for name in _COUNTED)
        cells, name = position["cells"], printable(position["name"])
        click.echo(f"position  {number} ({name}): {counts}; {cells} cells")
    first, rest = state.missing(LISTED_FRAMES), "--json lists all of them"
    echo_missing(first, state.n_missing, rest=rest, advice=_advice(state))


def _advice(state: ResultState) -> str:
    if state.owner:
        return "the run that goes on may still finish them"
    export = f"`cypose-dask export {state.result.path} --allow-incomplete` leaves them blank"
    return f"`cypose-dask segment` tries failed frames again, damaged ones not; {export}"


def facts_of(state: ResultState) -> dict[str, Any]:
    """Return what is known of a result as JSON values."""
    plan = state.result.attributes.get("plan")
    return {
        "result": str(state.result.path),
        "movie": _text(plan, "movie", "path"),
        "model": _text(plan, "model", "name"),
        "model_sha256": _text(plan, "model", "sha256"),
        "run": str(state.owner) if state.owner else None,
        "whole": state.whole,
        "positions": [asdict(position) for position in state.positions()],
    }


def _text(plan: Any, *path: str) -> str:
    """Return a text deep inside a plan that anybody may have written."""
    for name in path:
        plan = plan.get(name) if isinstance(plan, dict) else None
    return plan if isinstance(plan, str) else "unknown"
