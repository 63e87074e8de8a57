"""What a reader made of a file, in a form that travels between processes."""

from __future__ import annotations

import dataclasses
import traceback
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["LOST", "Seen", "look"]

# opened: the movie and its frames. refused: a MovieError at opening. raised: any other error.
# crashed, hung, memory: what the child process did.
Outcome = Literal["opened", "refused", "raised", "crashed", "hung", "memory"]
# What of a movie's description may be lost when its metadata is damaged, and what is left then.
LOST: dict[str, Any] = {"pixel_size_um": None, "z_step_um": None, "interval_s": None}


@dataclass(frozen=True)
class Seen:
    """What became of one file.

    Attributes
    ----------
    outcome
        See `Outcome`.
    words
        The message or the traceback of an error.
    info
        Fields of `MovieInfo` that do not name the file.
    frames
        Frame (C, Y, X), or the message of its DamagedFrameError, for each (t, p, z).
    """

    outcome: Outcome
    words: str = ""
    info: dict[str, Any] = field(default_factory=dict)
    frames: dict[tuple[int, int, int], npt.NDArray[Any] | str] = field(default_factory=dict)


def look(path: str, *, allow_damaged: bool = False) -> Seen:
    """Open a movie and read all of its frames."""
    from cypose_dask.errors import MovieError
    from cypose_dask.movies import open_movie

    rgb = None
    try:
        try:
            movie = open_movie(path, rgb=rgb, allow_damaged=allow_damaged)
        except MovieError as error:
            return Seen("memory" if _wanted_memory(error) else "refused", str(error))
        times, positions, planes = list(movie.info.sizes.values())[:3]
        frames = {at: _frame(movie, at) for at in np.ndindex(times, positions, planes)}
        return Seen("opened", info=_described(movie.info), frames=frames)  # type: ignore[arg-type]
    except MemoryWantedError as error:
        return Seen("memory", str(error))
    except MemoryError:
        return Seen("memory", traceback.format_exc())
    except BaseException:  # noqa: BLE001 - any other error is what the fuzzer is after
        return Seen("raised", traceback.format_exc())


class MemoryWantedError(Exception):
    """A reader turned a MemoryError into one of ours."""


def _frame(movie: Any, at: tuple[int, ...]) -> npt.NDArray[Any] | str:
    from cypose_dask.errors import MovieError

    try:
        return movie.read_frame(*at)  # type: ignore[no-any-return]
    except MovieError as error:
        if _wanted_memory(error):
            raise MemoryWantedError(str(error)) from error
        return str(error)


def _wanted_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _described(info: Any) -> dict[str, Any]:
    own = ("path", "fingerprint", "reading")
    fields = (f.name for f in dataclasses.fields(info) if f.name not in own)
    return {name: getattr(info, name) for name in fields}
