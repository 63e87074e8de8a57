"""The two sides of a `diff`: by what settings a result, or a ``_seg.npy``, was made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.errors import ModelError, MovieError, ResultError
from cypose_dask.likeness import Ran, seg_file_likeness
from cypose_dask.likeness.seg_file import read_seg_file
from cypose_dask.models import ModelSpec, resolve_model
from cypose_dask.movies import Movie, open_movie
from cypose_dask.results import Result, Status, open_result
from cypose_dask.settings import Settings

__all__ = ["Side", "read_side"]

Key = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of two results that are compared.

    Attributes
    ----------
    path : Path
    settings : Settings
        As resolved, but with ``"model"`` for a diameter, and None for steps, that follow the model.
    model : ModelSpec or None
        None if the file does not say which.
    result : Result or None
    image : Path or None
        The image of a ``_seg.npy``.
    lone_channel : bool
        Whether that image has one channel, so that nothing is known about a movie's.
    unknown : dict of str to str
        Settings that cannot be known or done, and why.
    notes : tuple of str
    """

    path: Path
    settings: Settings
    model: ModelSpec | None
    result: Result | None = None
    image: Path | None = None
    lone_channel: bool = False
    unknown: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def stored(self, place: Key) -> np.ndarray | None:
        """Return the labels (Y, X) that it holds of a frame of the movie, if they are finished."""
        if self.result is None:
            return None
        t, p, z = place
        at = t - self.result.start_frame
        if self.result.status(p)[at, z] != Status.DONE:
            return None
        return np.asarray(self.result.labels(p)[at, z])

    def places(self, n: int) -> list[Key]:
        """Return frames of the result, spread evenly over time, going round the positions."""
        if self.result is None:
            return [(0, 0, 0)]  # an image alone
        layout, first = self.result.layout, self.result.start_frame
        times = np.linspace(0, layout.frames - 1, min(n, layout.frames)).round().astype(int)
        return [
            (first + int(t), i % self.result.n_positions, layout.planes // 2)
            for i, t in enumerate(times)
        ]


def read_side(path: str | Path, find_movie: Callable[[Result], Movie]) -> tuple[Side, Movie | None]:
    """Read by what settings a result or a ``_seg.npy`` was made, and open its pixels.

    Parameters
    ----------
    path : str or Path
    find_movie : callable
        Opens the movie of a result.

    Returns
    -------
    Side
    Movie or None
        None if a ``_seg.npy`` has lost its image.

    Raises
    ------
    MovieNotFoundError, MovieError, SettingsError
        As `seg_file_likeness`, for a file.
    ResultError
        If a result does not say how it was made.
    ModelError
        If its model is gone, or another one than it was.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        side = _of_seg_file(path)
        return side, None if side.image is None else open_movie(side.image)
    result = open_result(path)
    return _of_result(result), find_movie(result)


def _of_result(result: Result) -> Side:
    try:
        ran = Ran.of(result.attributes.get("plan", {}))
    except ResultError as error:
        raise ResultError(f"{result.path}: {error}") from error
    words: dict[str, Any] = {"niter": None} if not ran.requested.niter else {}
    if ran.requested.diameter == "model":
        words["diameter"] = "model"
    return Side(
        path=result.path,
        settings=ran.settings.replace(**words),
        model=_same_model(ran),
        result=result,
    )


def _same_model(ran: Ran) -> ModelSpec:
    """Find the model of a result: where it was, or by its name; never another one."""
    about = ran.model
    wishes = [about["name"]] if about["kind"] == "built-in" else [about["path"], about["name"]]
    tried = []
    for wish in wishes:
        try:
            spec = resolve_model(wish)
        except ModelError as error:
            tried.append(str(error))
            continue
        if spec.sha256 == about["sha256"]:
            return spec
        tried.append(f"{wish} has other weights now.")
    raise ModelError(
        f"The model {about['name']!r} (sha256 {about['sha256'][:12]}) of a result is gone: "
        f"{' '.join(tried)} Put its file back."
    )


def _of_seg_file(path: Path) -> Side:
    likeness = seg_file_likeness(path)
    known = {**likeness.settings, **({} if "model" in likeness.settings else {"model": "default"})}
    known.setdefault("diameter", "model")
    unknown = dict(likeness.refused)
    model = None
    if "model" not in unknown:
        try:
            model = resolve_model(known["model"])
        except ModelError as error:
            unknown["model"] = str(error)
    image = _image_of(path)
    return Side(
        path=path,
        settings=Settings(**known),
        model=model,
        image=image,
        lone_channel=image is not None and open_movie(image).info.sizes["C"] == 1,
        unknown=unknown,
        notes=likeness.notes,
    )


def _image_of(path: Path) -> Path | None:
    """Find the image of a ``_seg.npy``: beside it, or where the file says that it is."""
    named = str(read_seg_file(path).get("filename", ""))
    last = named.replace("\\", "/").rsplit("/", 1)[-1]
    for candidate in (path.with_name(last), Path(named)):
        if last and candidate.is_file() and _opens(candidate):
            return candidate
    return None


def _opens(image: Path) -> bool:
    try:
        open_movie(image)
    except MovieError:
        return False
    return True
