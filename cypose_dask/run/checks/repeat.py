"""The movie of a result, and some of its frames segmented again with the stored settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.engine import Networks, load_networks, segment_frame
from cypose_dask.errors import CyposeError, ModelError
from cypose_dask.models import resolve_model
from cypose_dask.models.builtin import BUILTIN, FORGOTTEN, RESTORATION, is_cached
from cypose_dask.movies import Movie, open_movie
from cypose_dask.results import Result, Status
from cypose_dask.results.pages import read_array
from cypose_dask.run.checks.finding import Finding, frame_name
from cypose_dask.run.plan import Plan, make_plan
from cypose_dask.run.record import said
from cypose_dask.run.state import ResultState
from cypose_dask.settings import RunOptions, Settings

__all__ = ["check_movie"]

# A stored plan that was changed by hand raises these.
_PLAN_ERRORS = (CyposeError, LookupError, TypeError, ValueError, AttributeError)
_INPUT = ("size_bytes", "content_sha256")


def check_movie(
    state: ResultState, given: str | Path | None, choice: tuple[int, int]
) -> Iterator[Finding]:
    """Compare the movie with the stored fingerprint, then segment some of its frames again.

    Parameters
    ----------
    state : ResultState
    given : str, Path or None
        Where the movie is now, if not where it was.
    choice : tuple of int
        How many frames, and the seed of their choice.
    """
    stored = state.result.attributes.get("plan", {})
    try:
        path = str(given or stored["movie"]["path"])
        movie = _open(path, stored["movie"]["reading"])
        before = stored["movie"]["fingerprint"]
        changed = [n for n in _INPUT if getattr(movie.info.fingerprint, n) != before[n]]
    except FileNotFoundError as error:
        yield _left_out(state.result, str(error), "Say where it is now with --movie.", given)
        return
    except _PLAN_ERRORS as error:
        yield _left_out(state.result, said(error), "Check the movie's file.", given or "")
        return
    if changed:
        yield Finding(
            where=path,
            found="other content than the movie had that was segmented",
            expected=f"the movie of {state.result.path}",
            advice="Give the right one with --movie, or segment this one to another place. No "
            "frame was segmented again.",
        )
    elif choice[0]:
        yield from _repeat(state, movie, choice)


def _open(path: str, reading: dict[str, Any]) -> Movie:
    return open_movie(
        path,
        axes=reading["axes"],
        position=reading["position"],
        channels=reading["channels"],
        rgb=reading["rgb"],
        allow_damaged=True,
    )


def _repeat(state: ResultState, movie: Movie, choice: tuple[int, int]) -> Iterator[Finding]:
    try:
        plan = _stored_plan(state.result, movie)
        networks = load_networks(plan.model, plan.device, plan.restoration, settings=plan.settings)
        differing = _other_software(state.result, plan)
    except _PLAN_ERRORS as error:
        advice = "Where the model and the device of the run are, more can be checked."
        yield _left_out(state.result, said(error), advice, None)
        return
    if differing:
        yield Finding(
            where=str(state.result.path),
            found=f"another machine or software than the run's: {differing}",
            expected="the same, for labels that are equal bit by bit",
            advice="Expect some pixels of cell borders to differ.",
            is_fault=False,
        )
    for place in _chosen(state, choice):
        yield from _compare(state, (plan, networks), place)


def _stored_plan(result: Result, movie: Movie) -> Plan:
    """Make the plan of a run again; nothing is measured and nothing downloaded."""
    stored = result.attributes["plan"]
    settings = Settings(**stored["settings"]).replace(model=_model_of(stored["model"]))
    if settings.denoise in RESTORATION and not is_cached(settings.denoise):
        raise ModelError(f"The restoration network {settings.denoise} is not on this machine.")
    options = RunOptions(frames_per_block=result.layout.frames_per_block)
    plan = make_plan(movie, settings, options, measured=settings)
    for name in ("model", "restoration"):
        before, now = stored[name], getattr(plan, name)
        if now and now.sha256 != before["sha256"]:
            raise ModelError(
                f"{now.path} is not the {name} of the run: SHA-256 {now.sha256}, not "
                f"{before['sha256']}"
            )
    return plan


def _model_of(stored: dict[str, Any]) -> str:
    """Return the name or path that means the model of a run today."""
    name, kind = stored["name"], stored["kind"]
    if kind == "built-in" and name in BUILTIN + FORGOTTEN:
        if not is_cached(name):
            raise ModelError(f"The model {name} is not on this machine.")
        return str(name)
    return str(name if kind == "bundled" else resolve_model(stored["path"]).path)


def _other_software(result: Result, plan: Plan) -> str:
    before, now = result.attributes["fingerprint"], plan.fingerprint()
    names = [name for name in now if before.get(name) != now[name]]
    return "; ".join(f"{name} {before.get(name)} before, {now[name]} now" for name in names)


def _chosen(state: ResultState, choice: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Choose done frames at random, and return their (P, T, Z) in order."""
    done = np.argwhere(state.status == Status.DONE)
    number = min(choice[0], len(done))
    rows = np.random.default_rng(choice[1]).choice(len(done), number, replace=False)
    return [tuple(done[row].tolist()) for row in sorted(rows)]


def _compare(
    state: ResultState, how: tuple[Plan, Networks], place: tuple[int, int, int]
) -> Iterator[Finding]:
    (plan, networks), (p, t, z) = how, place
    start = state.result.start_frame
    where = frame_name(t + start, p, z)
    array = state.result.labels(p)
    try:
        stored = read_array(state.result.path, array, (t, z))
        frame = plan.network_input.read_frame(t + start, plan.positions[p], z)
        made = segment_frame(frame, networks, plan.settings).labels
    except _PLAN_ERRORS as error:
        yield Finding(
            where=where,
            found=f"a frame that cannot be segmented now ({said(error)})",
            expected="labels, as in the run",
            advice="Check the movie's file.",
        )
        return
    differing = int(np.count_nonzero(made != stored))
    if differing:
        yield Finding(
            where=where,
            found=f"{differing} of {made.size} pixels that differ when the frame is segmented "
            f"again ({made.max(initial=0)} cells, {stored.max(initial=0)} stored)",
            expected="the same labels, bit by bit on the same machine",
            advice="If you did not edit the labels, and no other machine or software is named "
            "above, the store or the weights are damaged: segment again with --restart.",
        )


def _left_out(result: Result, why: str, advice: str, given: str | Path | None) -> Finding:
    return Finding(
        where=str(result.path),
        found=f"that no frame can be segmented again ({why})",
        expected="the movie and the model of the run",
        advice=advice,
        # A file that is gone makes no result wrong; one that was named should be there.
        is_fault=given is not None,
    )
