"""Look at every worker before any work: what would fail a run must not fail it after hours."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cypose_dask.errors import MovieError, RunError
from cypose_dask.results.atomic import fsync_path
from cypose_dask.run.checks.finding import Finding
from cypose_dask.run.preflight.asking import Answer, ask, ask_this_process
from cypose_dask.run.preflight.compare import findings_of
from cypose_dask.run.preflight.facts import Facts, Trial, versions_here
from cypose_dask.run.preflight.needs import Needs

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Answer", "Facts", "Needs", "Trial", "preflight", "survey", "versions_here"]

logger = logging.getLogger(__name__)

_NO_WORKER = Finding(
    where="the cluster",
    found="no worker",
    expected="at least one",
    advice="Start workers with `dask worker`, then try again.",
)


def preflight(client: Client, needs: Needs) -> None:
    """Ask every worker for what a run needs, and refuse to begin where one lacks it.

    What is only worth knowing is logged.

    Parameters
    ----------
    client : distributed.Client
    needs : Needs
        ``Needs.of(plan, folder)``.

    Raises
    ------
    MovieError
        If something would fail the run of this movie alone; all of it is named.
    RunError
        If something would fail every run, or the scheduler is lost.
    """
    _, findings = survey(client, needs)
    for finding in findings:
        if not finding.is_fault:
            logger.warning("%s", finding)
    faults = [finding for finding in findings if finding.is_fault]
    if faults:
        kind = MovieError if all(finding.is_of_movie for finding in faults) else RunError
        raise kind("Workers cannot do this run. " + "\n".join(map(str, faults)))


def survey(client: Client | None, needs: Needs) -> tuple[list[Answer], list[Finding]]:
    """Ask every worker, or this process if there is no client, and compare.

    Returns
    -------
    answers : list of Answer
        One a worker.
    findings : list of Finding
        Faults first.

    Raises
    ------
    RunError
        If the scheduler is lost.
    """
    with ExitStack() as stack:
        written = [stack.enter_context(_token_in(folder)) for folder in needs.folders]
        tokens = [token for token in written if isinstance(token, Path)]
        answers = ask(client, needs, tokens) if client else [ask_this_process(needs, tokens)]
    unwritable = [finding for finding in written if isinstance(finding, Finding)]
    findings = findings_of(answers, needs) if answers else [_NO_WORKER]
    return answers, [*unwritable, *findings]


@contextmanager
def _token_in(folder: Path) -> Iterator[Path | Finding]:
    """Write a file by which workers know the folder again, or say why that cannot be.

    Its name is new every time: file servers may remember for a while that a name was not there.
    """
    token = folder / f"preflight.{secrets.token_hex(8)}.partial"
    try:
        yield _written(token)
    finally:
        with suppress(OSError):
            token.unlink()


def _written(token: Path) -> Path | Finding:
    try:
        token.touch()
        fsync_path(token.parent)
    except OSError as error:
        return Finding(
            where="this machine",
            found=f"that {token.parent} takes no files ({error.strerror or error})",
            expected="a folder for outputs that takes files",
            advice="Give another folder with -o.",
        )
    return token
