"""``cypose-dask doctor``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cypose_dask.cli.options import (
    cluster_options,
    open_options,
    position_option,
    quiet_libraries,
    take_cluster,
)

if TYPE_CHECKING:
    from cypose_dask.run import Finding
    from cypose_dask.run.preflight import Answer, Facts, Trial

__all__ = ["command"]

_NAMES_A_CLUSTER = ("cluster", "workers", "gpus", "scheduler", "scheduler_file")


@click.command("doctor")
@click.argument("sources", nargs=-1, metavar="[MOVIE]...")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Where labels would go, as in segment."
)
@click.option("--model", default="default", show_default=True, help="Whose weights are needed.")
@click.option("--gpu", is_flag=True, help="Demand a GPU that runs a kernel.")
@open_options
@cluster_options
def command(sources: tuple[str, ...], output: Path | None, **given: Any) -> int:
    """Examine this machine, or every worker of a cluster, before it is trusted with days of work.

    Prints versions and memory, and whether device, cache, weights, movies and the folder of outputs
    can be used. Exit code 0 when nothing was found that would fail a run, 1 otherwise.
    """
    quiet_libraries()
    from cypose_dask.errors import RunError
    from cypose_dask.run import Gpus, connect, find_movies
    from cypose_dask.run.preflight.doctor import Patient, examine
    from cypose_dask.settings import Settings

    on_cluster, cluster = _is_cluster_named(), take_cluster(given)
    cluster["gpu"] = given.pop("gpu") or isinstance(cluster["kind"], Gpus)
    patient = Patient(
        sources=find_movies(sources) if sources else [],
        output=output,
        settings=Settings(model=given.pop("model"), gpu=cluster["gpu"]),
        open_options={**given, "position": position_option(given["position"])},
    )
    try:
        with connect(**cluster) if on_cluster else nullcontext() as client:
            answers, findings = examine(client, patient)
    except RunError as error:  # no scheduler, no worker, no GPU: what was to be found out
        click.echo(f"fault     {error}", err=True)
        return 1
    return _report(answers, findings)


def _is_cluster_named() -> bool:
    """Tell whether the command line, the environment or a profile names a cluster."""
    source = click.get_current_context().get_parameter_source
    return any(source(name) is not ParameterSource.DEFAULT for name in _NAMES_A_CLUSTER)


def _report(answers: Sequence[Answer], findings: Sequence[Finding]) -> int:
    from cypose_dask.cli.outcomes import printable

    for lines in _grouped(answers):
        click.echo("\n".join(printable(line) for line in lines))
    for finding in findings:
        kind = "fault" if finding.is_fault else "note"
        click.echo(f"{kind:<10}{printable(finding)}", err=finding.is_fault)
    faults = sum(finding.is_fault for finding in findings)
    summary = f"{faults} fault{'s' if faults != 1 else ''} found" if faults else "no fault found"
    who = [f"{len(answers)} worker{'s' if len(answers) != 1 else ''}", "this machine"]
    click.echo(f"examined  {who[_is_this_machine(answers)]}: {summary}")
    return 1 if faults else 0


def _is_this_machine(answers: Sequence[Answer]) -> bool:
    return [answer.where for answer in answers] == ["this machine"]


def _grouped(answers: Sequence[Answer]) -> Iterator[list[str]]:
    """Yield lines about processes; those of which the same is known share them."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for answer in answers:
        if not isinstance(answer.facts, Exception):
            who = f"{'process':<10}{answer.where} ({answer.facts.host}, pid {answer.facts.pid})"
            groups.setdefault(tuple(_lines(answer.facts, answer.threads)), []).append(who)
    for lines, heads in groups.items():
        yield [*heads, *lines]


def _lines(facts: Facts, threads: int) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    cores = f"{facts.cores} core{'s' if facts.cores > 1 else ''}"
    blocks = f"{threads} block{'s' if threads > 1 else ''} at once"
    yield f"versions  {versions}"
    yield f"machine   {cores} for this process, {blocks}, {facts.memory_bytes / 1e9:.3g} GB"
    for trial in facts.trials:
        yield f"{trial.kind:<10}{_tried(trial)}"


def _tried(trial: Trial) -> str:
    seen = "failed" if trial.error else trial.seen
    return f"{trial.what} ({seen})" if trial.what else seen
