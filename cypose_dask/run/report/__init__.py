"""The report of a result: what its journal, store and movie say, gathered into one HTML file."""

from __future__ import annotations

from pathlib import Path

from cypose_dask.errors import SettingsError
from cypose_dask.movies import Movie
from cypose_dask.results import Result, open_result
from cypose_dask.results.atomic import whole_file
from cypose_dask.results.naming import beside
from cypose_dask.results.preview import read_view
from cypose_dask.results.report import (
    Content,
    FrameNumbers,
    Shot,
    flags_of_numbers,
    flags_of_sizes,
    make_picture,
    measure_cells,
    render,
)
from cypose_dask.results.report.numbers import Place
from cypose_dask.results.source import movie_if_found
from cypose_dask.run.report.choice import chosen_places
from cypose_dask.run.report.facts import card_of, facts_of, title_of
from cypose_dask.run.report.recorded import Recorded, recorded_numbers
from cypose_dask.run.state import ResultState, state_of

__all__ = ["MOST_FRAMES", "report_name", "write_report"]

MOST_FRAMES = 600
# Of all pictures together, as text in the page.
_PICTURE_BYTES = 7_500_000
_BASE64 = 4 / 3


def write_report(
    result: Result | str | Path,
    path: str | Path | None = None,
    *,
    movie: str | Path | None = None,
    frames: int = 60,
    picture_px: int = 720,
) -> Path:
    """Write a result's report: one HTML file that needs no network and no other file.

    It depends on the result alone, but for its times: not on blocks, nor on interruptions.

    Parameters
    ----------
    result : Result, str or Path
        It may be unfinished.
    path : str, Path or None
        The HTML file; None is ``movie_report.html`` beside the result.
    movie : str, Path or None
        Where the movie is now; None looks where it was, and shows labels alone if it is gone.
    frames : int
        How many frames are pictured, spread evenly over time and positions. Flagged ones, at most
        24, come on top.
    picture_px : int
        Longest side of a picture, px. Pictures get coarser where the file would get too large.

    Returns
    -------
    Path

    Raises
    ------
    SettingsError
        If `frames` or `picture_px` is out of range.
    ResultError
        If the result is damaged.
    MovieNotFoundError
        If `movie` is named and is not the one that was segmented, or cannot be opened.

    Examples
    --------
    >>> from cypose_dask.run import segment
    >>> write_report(segment(movie, tmp_path / "movie.zarr"), frames=4).name
    'movie_report.html'
    """
    _check(frames, picture_px)
    state = state_of(result if isinstance(result, Result) else open_result(result))
    target = Path(path) if path else report_name(state.result.path)
    source, note = movie_if_found(state.result, movie)
    recorded = recorded_numbers(state)
    found = flags_of_numbers(recorded.numbers)
    places = chosen_places(recorded.numbers, found, frames)
    shots = _shots(state, source, places, side_px=picture_px)
    measured = {s.place: s.sizes for s in shots if _is_done(recorded.numbers, s.place)}
    content = Content(
        title=title_of(state.result),
        layout=state.result.layout,
        start_frame=state.result.start_frame,
        numbers=recorded.numbers,
        flags=(*found, *flags_of_sizes(measured)),
        shots=tuple(shots),
        has_frames=source is not None,
        notes=tuple([note] * bool(note) + _notes(state, recorded)),
        facts=facts_of(state.result, recorded),
        card=card_of(state.result),
    )
    with whole_file(target) as partial:
        partial.write_bytes(render(content))
    return target


def report_name(store: Path) -> Path:
    """Return the path of a result's report: ``movie.zarr`` -> ``movie_report.html``."""
    return beside(store, "_report.html")


def _check(frames: int, picture_px: int) -> None:
    if not 1 <= frames <= MOST_FRAMES:
        raise SettingsError(f"frames is {frames}; choose 1 to {MOST_FRAMES}.")
    if not 64 <= picture_px <= 4096:
        raise SettingsError(f"picture_px is {picture_px}; choose 64 to 4096.")


def _shots(
    state: ResultState, movie: Movie | None, places: list[Place], *, side_px: int
) -> list[Shot]:
    """Picture frames, one in memory at a time."""
    most_bytes = int(_PICTURE_BYTES / _BASE64 / max(len(places), 1))
    return [_shot(state, movie, place, sizes=(side_px, most_bytes)) for place in places]


def _shot(state: ResultState, movie: Movie | None, place: Place, *, sizes: tuple[int, int]) -> Shot:
    t, p, z = place
    known = int(state.status[p, t, z]), int(state.cells[p, t, z])
    view = read_view(state.result, movie, place, known=known)
    picture = make_picture(view.image, view.labels, side_px=sizes[0], most_bytes=sizes[1])
    return Shot(
        place=place,
        picture=picture,
        sizes=measure_cells(view.labels),
        unreadable=view.unreadable,
    )


def _is_done(numbers: FrameNumbers, place: Place) -> bool:
    t, p, z = place
    return bool(numbers.done[p, t, z])


def _notes(state: ResultState, recorded: Recorded) -> list[str]:
    notes = []
    if state.owner:
        notes.append(f"{state.owner} writes this result now; the report shows what is there.")
    if not state.whole:
        missing = int((~recorded.numbers.done).sum())
        notes.append(f"{missing:,} of {state.status.size:,} frames have no labels.")
    if recorded.n_unknown:
        notes.append(
            f"The journal says nothing of {recorded.n_unknown:,} frames with labels. Their count "
            "is the result's; what is measured on labels, is on the pictured frames."
        )
    return notes
