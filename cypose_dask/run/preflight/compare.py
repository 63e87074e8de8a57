"""What of the workers' facts would fail a run, or is worth knowing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from cypose_dask.run.checks.finding import Finding
from cypose_dask.run.memory import GB
from cypose_dask.run.preflight.asking import Answer
from cypose_dask.run.preflight.facts import Facts, Trial, versions_here
from cypose_dask.run.preflight.needs import Needs
from cypose_dask.run.record import said

__all__ = ["findings_of"]

# What a worker raises that lacks this package or has another one; Dask returns some as mere text.
_OTHER_CODE = ("ModuleNotFoundError", "ImportError", "AttributeError")
# Of workers with the same finding, this many are named.
_NAMED = 3
_EVERYWHERE = "on a disk that every worker has under the same path"
# What was expected of each kind of trial, and what to do when it fails.
_HELP = {
    "device": (
        "a GPU that runs this PyTorch build",
        "Install a build for the card and the driver there, or leave out that worker.",
    ),
    "runtime": (
        "a runtime that computes",
        "Install cypose-dask[cpu] there again, or give --runtime torch.",
    ),
    "input": (
        "the movie as this machine has it",
        f"Put it {_EVERYWHERE}; copies must keep the time of modification, as rsync -t does.",
    ),
    "weights": ("the weights as this machine has them", f"Put them {_EVERYWHERE}."),
    "output": (
        "the folder of this machine, which takes files",
        f"Write {_EVERYWHERE}, and where its user may write, with -o.",
    ),
    "cache": (
        "a folder that takes files",
        "Set CYPOSE_CACHE there to one; without it every process converts the network again.",
    ),
}


def findings_of(answers: Sequence[Answer], needs: Needs) -> list[Finding]:
    """Compare what processes answered with what is needed, and with this process.

    Parameters
    ----------
    answers : sequence of Answer
    needs : Needs

    Returns
    -------
    list of Finding
        Faults first. Processes of which the same was found share a finding.
    """
    here = versions_here()
    found = [finding for answer in answers for finding in _of_one(answer, needs, here)]
    return sorted(_shared(found), key=lambda finding: not finding.is_fault)


def _of_one(answer: Answer, needs: Needs, here: dict[str, str]) -> Iterator[Finding]:
    facts = answer.facts
    if isinstance(facts, Exception):
        yield _without_facts(answer.where, facts, needs)
        return
    yield from _of_versions(answer.where, facts, needs.versions, here)
    yield from (_failed(answer.where, trial) for trial in facts.trials if trial.error)
    yield from _of_device(answer.where, facts, needs.device)
    if needs.block_bytes > facts.memory_bytes:
        yield Finding(
            where=answer.where,
            found=f"{facts.memory_bytes / GB:.3g} GB of memory",
            expected=f"at least the {needs.block_bytes / GB:.3g} GB that a block takes",
            advice="Give --frames-per-block 1 or a larger diameter, or leave out that worker.",
            is_of_movie=True,
        )


def _without_facts(where: str, error: Exception, needs: Needs) -> Finding:
    if any(name in said(error) for name in _OTHER_CODE):
        return Finding(
            where=where,
            found=f"no cypose-dask that understands this one ({error})",
            expected=f"cypose-dask {versions_here()['cypose-dask']} as here",
            advice="Install the same version there.",
        )
    return Finding(
        where=where,
        found=said(error),
        expected=f"an answer within {needs.patience_s:.0f} s",
        advice="Look at its log and its disks; restart that worker, or leave it out.",
    )


def _of_versions(
    where: str, facts: Facts, needed: dict[str, str], here: dict[str, str]
) -> Iterator[Finding]:
    wrong = {n: v for n, v in needed.items() if facts.versions.get(n, "unknown") != v}
    others = {n: v for n, v in here.items() if n not in needed and facts.versions.get(n) != v}
    for expected, is_fault in ((wrong, True), (others, False)):
        if expected:
            found = {name: facts.versions.get(name, "unknown") for name in expected}
            yield Finding(
                where=where,
                found=_listed(found),
                expected=f"{_listed(expected)} as here",
                advice="Install the same versions there"
                + (", since they can change labels." if is_fault else ", to be safe."),
                is_fault=is_fault,
            )


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _failed(where: str, trial: Trial) -> Finding:
    expected, advice = _HELP[trial.kind]
    return Finding(
        where=where,
        found=str(trial.error).rstrip("."),
        expected=expected,
        advice=advice,
        is_fault=trial.kind != "cache",
        is_of_movie=trial.kind == "input",
    )


def _of_device(where: str, facts: Facts, needed: str) -> Iterator[Finding]:
    for trial in facts.of_kind("device"):
        if needed and trial.seen and trial.seen != needed:
            yield Finding(
                where=where,
                found=f"that it computes on {trial.seen}",
                expected=f"{needed}, for which the plan was made",
                advice="Give the run workers of one kind.",
            )


def _shared(findings: Iterable[Finding]) -> list[Finding]:
    """Merge findings that differ only in where they were made."""
    places: dict[Finding, list[str]] = {}
    for finding in findings:
        places.setdefault(replace(finding, where=""), []).append(finding.where)
    return [replace(finding, where=_named(where)) for finding, where in places.items()]


def _named(places: list[str]) -> str:
    rest = len(places) - _NAMED
    return ", ".join(places[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
