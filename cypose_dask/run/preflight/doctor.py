"""Examine a machine, or the workers of a cluster, for what a run of `segment` would need there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cypose_dask.engine.runtimes import choose_runtime, packages_of
from cypose_dask.errors import CyposeError, SettingsError
from cypose_dask.models import resolve_model
from cypose_dask.movies import Movie, open_movie
from cypose_dask.results.naming import tif_name
from cypose_dask.run.checks.finding import Finding
from cypose_dask.run.directory import names_of
from cypose_dask.run.finding import Source
from cypose_dask.run.memory import block_bytes
from cypose_dask.run.plan import make_plan
from cypose_dask.run.preflight import Answer, Needs, survey, versions_here
from cypose_dask.run.preflight.compare import findings_of
from cypose_dask.settings import Settings

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Patient", "examine"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Patient:
    """What is examined besides machines: movies, the place of outputs, and a model's weights.

    Attributes
    ----------
    sources : sequence of Source
        From `find_movies`.
    output : Path or None
        As for `segment_files`.
    settings : Settings
    open_options : dict
        Of `open_movie`.
    """

    sources: Sequence[Source] = ()
    output: Path | None = None
    settings: Settings = field(default_factory=Settings)
    open_options: dict[str, Any] = field(default_factory=dict)


def examine(client: Client | None, patient: Patient) -> tuple[list[Answer], list[Finding]]:
    """Look at every worker, or at this process if there is no client.

    Returns
    -------
    answers : list of Answer
        One a process.
    findings : list of Finding
        Faults first.

    Raises
    ------
    RunError
        If the scheduler is lost.
    ModelError
        If there is no such model here.
    SettingsError
        If outputs would collide.
    """
    opened = [_opened(source.path, patient.open_options) for source in patient.sources]
    movies = [movie for movie in opened if isinstance(movie, Movie)]
    bad = [finding for finding in opened if isinstance(finding, Finding)]
    needs = _needs(patient, movies)
    answers, findings = survey(client, needs)
    if not any(finding.is_fault for finding in findings):  # else a plan may never come back
        planned = [_block_bytes(movie, patient.settings, client) for movie in movies]
        largest = max((n for n in planned if isinstance(n, int)), default=0)
        findings = findings_of(answers, replace(needs, block_bytes=largest))
        bad += [finding for finding in planned if isinstance(finding, Finding)]
    return answers, sorted([*bad, *findings], key=lambda finding: not finding.is_fault)


def _opened(source: str, options: dict[str, Any]) -> Movie | Finding:
    try:
        return open_movie(source, **options)
    except CyposeError as error:
        return _refused(source, error)


def _block_bytes(movie: Movie, settings: Settings, client: Client | None) -> int | Finding:
    """Return what a block of a movie takes, or why it would be refused."""
    try:
        return block_bytes(make_plan(movie, settings, client=client))
    except CyposeError as error:
        return _refused(movie.info.path, error)


def _refused(source: str, error: CyposeError) -> Finding:
    return Finding(
        where=source,
        found=f"that it would be refused: {str(error).rstrip('.')}",
        expected="a movie that can be segmented without further options",
        advice="Try `cypose-dask segment --dry-run` with yours.",
        is_fault=not isinstance(error, SettingsError),  # options may say what is missing
    )


def _needs(patient: Patient, movies: Sequence[Movie]) -> Needs:
    model, gpu, here = resolve_model(patient.settings.model), patient.settings.gpu, versions_here()
    runtime = "torch" if gpu else choose_runtime(model)
    names = ("cypose-dask", "label", "cellpose", *packages_of(runtime))
    return Needs(
        versions={name: here[name] for name in names},
        gpu=gpu,
        runtime=runtime,
        movies=tuple(movie.source for movie in movies),
        models=(model,),
        folders=_folders(patient),
    )


def _folders(patient: Patient) -> tuple[Path, ...]:
    """Return the folders of outputs, or the nearest ones above, in which they would be made."""
    output = patient.output
    if patient.sources:
        folders = [names.tif.parent for names in names_of(patient.sources, output)]
    elif output is not None:
        folders = [output.parent if tif_name(output) == output else output]
    else:
        folders = []
    return tuple(dict.fromkeys(_nearest(folder.resolve()) for folder in folders))


def _nearest(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
