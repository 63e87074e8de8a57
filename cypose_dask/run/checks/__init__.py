"""Read a result again and check it: store, labels, journal, TIFs, movie, and some labels anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cypose_dask.errors import ResultError, SettingsError
from cypose_dask.results import Result, Status, open_result
from cypose_dask.results.naming import journal_of
from cypose_dask.results.ranges import as_ranges
from cypose_dask.run.checks.finding import Finding, block_name
from cypose_dask.run.checks.labels import check_labels
from cypose_dask.run.checks.repeat import check_movie
from cypose_dask.run.checks.tif import TifCheck, tifs_of
from cypose_dask.run.state import ResultState, state_of

__all__ = ["Finding", "iter_findings", "verify"]


def verify(
    result: Result | str | Path,
    *,
    tif: str | Path | None = None,
    movie: str | Path | None = None,
    frames: int = 3,
    seed: int = 0,
) -> list[Finding]:
    """Read a result and its TIFs again and check them, one frame in memory at a time.

    Parameters
    ----------
    result : Result, str or Path
    tif : str, Path or None
        The exported TIF; with several positions the name without ``_p000``. None takes the ones
        beside the result, if there are any.
    movie : str, Path or None
        Where the movie is now; None looks where it was.
    frames : int
        How many frames, chosen at random, are segmented again and compared; 0 for none.
    seed : int
        Of the choice.

    Returns
    -------
    list of Finding
        Empty when all is well. Findings that are no fault say what could not be checked.

    Raises
    ------
    SettingsError
        If `frames` or `seed` is negative.

    Examples
    --------
    >>> from cypose_dask.run import segment
    >>> verify(segment(movie, tmp_path / "movie.zarr"), frames=1)
    [Finding(where='.../movie.zarr', found='no TIF beside it', ..., is_fault=False, ...)]
    """
    return list(iter_findings(result, tif=tif, movie=movie, frames=frames, seed=seed))


def iter_findings(
    result: Result | str | Path,
    *,
    tif: str | Path | None = None,
    movie: str | Path | None = None,
    frames: int = 3,
    seed: int = 0,
) -> Iterator[Finding]:
    """Yield what `verify` returns, as it is found."""
    if frames < 0 or seed < 0:
        raise SettingsError(f"frames is {frames} and seed {seed}; neither may be below 0.")
    try:
        state = state_of(result if isinstance(result, Result) else open_result(result))
        arrays = [state.result.labels(p) for p in range(state.result.n_positions)]
    except ResultError as error:
        yield _unreadable(result, error)
        return
    yield from _check_journal(state)
    yield from _check_files(state)
    paths, notes = tifs_of(state.result, tif)
    yield from notes
    for position, array in enumerate(arrays):
        with TifCheck.of(state, position, paths) as check:
            yield from check.findings
            yield from check_labels(state, (position, array), check.compare)
    yield from check_movie(state, movie, (frames, seed))


def _unreadable(result: Result | str | Path, error: ResultError) -> Finding:
    path = result.path if isinstance(result, Result) else result
    return Finding(
        where=str(path),
        found=f"a store that cannot be checked ({error})",
        expected="arrays and a journal as `cypose-dask segment` wrote them",
        advice="Restore it from a copy, or segment again with --restart.",
    )


def _check_journal(state: ResultState) -> Iterator[Finding]:
    """Compare what the zarr and the journal say of each frame, and the journal's blocks."""
    if state.owner:
        yield Finding(
            where=str(state.result.path),
            found=f"that {state.owner} writes it now",
            expected="a result that nobody changes",
            advice="Verify again when that run has ended.",
            is_fault=False,
        )
    done, told = state.stored == Status.DONE, state.told
    for kinds, words in (
        ((Status.PENDING,), "says nothing of"),
        ((Status.FAILED, Status.DAMAGED), "calls failed or damaged"),
    ):
        yield from _contradicted(state, done & np.isin(told, kinds), words)
    behind = (told != Status.PENDING) & (told != state.stored) & ~done
    if behind.any():
        yield Finding(
            where=str(state.result.path),
            found=f"a zarr whose status is behind the journal for {behind.sum()} frames",
            expected="the same in both, as at the end of a run",
            advice="The run was killed or goes on; the same `cypose-dask segment` ends it.",
            is_fault=False,
        )
    yield from _check_blocks(state)


def _contradicted(state: ResultState, frames: np.ndarray, words: str) -> Iterator[Finding]:
    for position, found in enumerate(frames):
        if found.any():
            times = np.flatnonzero(found.any(axis=1)) + state.result.start_frame
            yield Finding(
                where=f"position {position}",
                found=f"that the zarr calls t={as_ranges(times.tolist())} done, while the journal "
                f"{words} them",
                expected=f"a line in {journal_of(state.result.path)} for every block that is done",
                advice="Restore the journal from a copy; without it these blocks are done again.",
            )


def _check_files(state: ResultState) -> Iterator[Finding]:
    """Look for blocks that are done and have lost a file, which would read as zeros."""
    result, step = state.result, state.result.layout.frames_per_block
    for position, first in np.ndindex(result.n_positions, -(-result.layout.frames // step)):
        frames = state.status[position, first * step : (first + 1) * step]
        lost = result.lost_shards(position, first * step)
        if lost and (frames == Status.DONE).any():
            yield Finding(
                where=block_name(first * step + result.start_frame, len(frames), position),
                found=f"no file of {' and '.join(lost)}",
                expected="one in each array, since the block is done",
                advice="The same `cypose-dask segment` does this block again.",
            )


def _check_blocks(state: ResultState) -> Iterator[Finding]:
    layout = state.result.layout
    step = layout.frames_per_block
    for position, first, length in state.checksums:
        if first % step or length != min(step, layout.frames - first):
            yield Finding(
                where=block_name(first + state.result.start_frame, length, position),
                found="a journal line of a block that the store does not have",
                expected=f"blocks of {step} frames, as the shards are",
                advice="The journal was changed, or belongs to another result; restore it.",
            )
