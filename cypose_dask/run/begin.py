"""Begin a result, or continue one: the plan, and what is on the disk already."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cypose_dask.errors import ResultError, ResultMismatchError, RunError
from cypose_dask.movies import Movie
from cypose_dask.results import create_result, is_own_output, open_result
from cypose_dask.results.atomic import partial_name
from cypose_dask.results.naming import journal_of
from cypose_dask.run.plan import Plan, make_plan
from cypose_dask.run.preflight import Needs, preflight
from cypose_dask.settings import RunOptions, Settings

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["begin_result", "is_continued", "plan_result"]

logger = logging.getLogger(__name__)


def begin_result(
    path: Path, movie: Movie, settings: Settings, *, options: RunOptions, client: Client
) -> Plan:
    """Plan and make a new result, or plan the rest of one, which keeps its shape and numbers.

    For the holder of the result's lock.

    Raises
    ------
    ResultMismatchError
        If the store was made by another plan; the message names the fields.
    SettingsError, MovieError, ModelError, DeviceError
        If the plan cannot be made, or a worker does not see the movie.
    RunError
        If workers lack something, or the disk does not take the new result.
    """
    continued = is_continued(path, options)
    plan = plan_result(path, movie, settings, options=options, client=client)
    preflight(client, Needs.of(plan, path.parent))
    if not continued:
        _delete(path)  # only now: a plan that cannot be made costs no result
        _create(path, plan)
    return plan


def is_continued(path: Path, options: RunOptions) -> bool:
    """Tell whether a run into `path` would continue a result."""
    return path.exists() and not options.restart


def plan_result(
    path: Path, movie: Movie, settings: Settings, *, options: RunOptions, client: Client
) -> Plan:
    """Plan a new result, or the rest of one, and change nothing.

    Raises
    ------
    ResultMismatchError
        If the store was made by another plan; the message names the fields.
    SettingsError, MovieError, ModelError, DeviceError
        If the plan cannot be made.
    """
    if not is_continued(path, options):
        return make_plan(movie, settings, options, client=client)
    earlier = open_result(path).attributes
    measured = _measured_before(earlier, settings)
    stored = replace(options, frames_per_block=earlier["layout"]["frames_per_block"])
    plan = make_plan(movie, settings, stored, client=client, measured=measured)
    _refuse_other_plan(path, earlier, plan)
    return plan


def _create(path: Path, plan: Plan) -> None:
    attributes = {"plan": plan.to_dict(), "fingerprint": plan.fingerprint()}
    try:
        create_result(path, plan.layout(), attributes)
    except OSError as error:
        raise RunError(
            f"{path} could not be made ({error}). Make room or choose another place with -o."
        ) from error


def _measured_before(earlier: dict[str, Any], settings: Settings) -> Settings | None:
    """Return the resolved settings of an earlier run of the same request."""
    if earlier["plan"]["requested"] != settings.to_dict():
        return None
    fields = earlier["plan"]["settings"]
    kept = {name: fields[name] for name in ("diameter", "niter", "normalize")}
    if isinstance(kept["normalize"], list):
        kept["normalize"] = tuple(kept["normalize"])
    return settings.replace(**kept)


def _refuse_other_plan(path: Path, earlier: dict[str, Any], plan: Plan) -> None:
    before, now = earlier["fingerprint"], plan.fingerprint()
    names = [
        n for n in (*before, *(n for n in now if n not in before)) if before.get(n) != now.get(n)
    ]
    if names:
        changes = "; ".join(f"{n}: {before.get(n)} before, {now.get(n)} now" for n in names)
        raise ResultMismatchError(
            f"{path} was made by another plan ({changes}). Mixing both would be wrong. Use the "
            "earlier settings, write to another place, or start over with --restart."
        )
    if earlier["plan"]["movie"]["fingerprint"]["mtime_ns"] != plan.movie.info.fingerprint.mtime_ns:
        logger.warning(
            "%s has another modification time than when %s was begun; its content is the same.",
            plan.movie.info.path,
            path,
        )


def _is_ours(path: Path) -> bool:
    """Tell whether a folder is a result, or what is left of one."""
    if is_own_output(path):
        return path.is_dir()
    try:
        json.loads((path / "zarr.json").read_text())
    except (OSError, ValueError):
        return journal_of(path).exists() and (path / "0" / "labels" / "cells").is_dir()
    return False


def _delete(path: Path) -> None:
    """Delete a result; killed in the middle, nothing is left that looks like one."""
    # A journal without its store belongs to a result that was deleted.
    if path.exists():
        if not _is_ours(path):
            raise ResultError(
                f"{path} is no result of cypose-dask, so it is not deleted. Move it away, or write "
                "to another place."
            )
        aside = partial_name(path)
        path.rename(aside)
        shutil.rmtree(aside)
    journal_of(path).unlink(missing_ok=True)
