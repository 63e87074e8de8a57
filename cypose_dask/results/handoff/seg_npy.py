"""Frames with our labels for Cellpose's GUI: an image each, and its ``_seg.npy``.

A person corrects what lies here, so a folder that exists is never written into.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.errors import CyposeError, ResultError
from cypose_dask.movies import Movie
from cypose_dask.results.atomic import whole_folder, write_json
from cypose_dask.results.handoff.choice import Place, chosen_places, explained, require_labels
from cypose_dask.results.handoff.seg_content import FlowPlanes, seg_content
from cypose_dask.results.pages import LabelPages, read_array
from cypose_dask.results.source import network_movie
from cypose_dask.results.store import Result, open_result
from cypose_dask.results.tif import resolution
from cypose_dask.settings import Settings

__all__ = ["export_seg_npy"]

# As `cypose-dask frames` calls it, and `train` reads it.
_RECORD = "frames.json"
_SOFTWARE = "cypose_dask frames"
# Types that ImageJ's own kind of TIF can hold; others become plain TIFs.
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")


def export_seg_npy(
    result: Result | str | Path,
    folder: str | Path,
    *,
    frames: Iterable[int] | None = None,
    movie: str | Path | None = None,
    allow_incomplete: bool = False,
) -> list[Path]:
    """Write frames and their labels so that Cellpose's GUI opens them for correction.

    Parameters
    ----------
    result : Result, str or Path
    folder : str or Path
        A new folder. It gets ``NAME_p000_t0010.tif``, ``NAME_p000_t0010_seg.npy`` (with ``_z00``
        where there are planes) and ``frames.json``, by which `cypose-dask train` knows from which
        movie each frame came.
    frames : iterable of int or None
        Times, 0-based as in the movie, of which all positions and planes are written; None takes
        all.
    movie : str, Path or None
        Where the movie lies now; None looks where it was, and beside the result.
    allow_incomplete : bool
        Leave out chosen frames that were not segmented instead of refusing.

    Returns
    -------
    list of Path
        The images. They are (Y, X), or (C, Y, X) where the network saw two channels, in the
        movie's dtype; the mean of channels is float32. Flows are in ``_seg.npy`` after a run with
        debug.

    Raises
    ------
    IncompleteResultError
        If chosen frames have no labels and `allow_incomplete` is False.
    MovieNotFoundError
        If the movie is gone.
    MovieError
        If it cannot be read.
    SettingsError
        If a chosen frame is not in the result.
    ResultError
        If the result is damaged, there is something at `folder`, or it cannot be written. Nothing
        is left then.
    """
    result = result if isinstance(result, Result) else open_result(result)
    folder = Path(folder)
    places = require_labels(
        result, chosen_places(result, frames), allow_incomplete=allow_incomplete
    )
    pages = [LabelPages.of(result, p) for p in range(result.n_positions)]
    writer = _Writer(result, pages, _settings_of(result), *network_movie(result, movie))
    with explained(folder), whole_folder(folder) as partial:
        partial.mkdir()
        entries = [writer.write(partial, place) for place in places]
        record = {"software": _SOFTWARE, "calls": [], "frames": entries}
        write_json(partial / _RECORD, record)
    return [folder / entry["file"] for entry in entries]


def _settings_of(result: Result) -> Settings:
    try:
        return Settings(**result.attributes["plan"]["settings"])
    except (LookupError, TypeError, CyposeError) as error:
        raise ResultError(
            f"{result.path} does not say by which settings it was made ({error}). Expected a "
            "result of `cypose-dask segment`."
        ) from error


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes one frame after the other into a folder."""

    result: Result
    pages: list[LabelPages]
    settings: Settings
    movie: Movie
    mean: bool

    def write(self, folder: Path, place: Place) -> dict[str, Any]:
        """Write image and labels of a frame; return its line in the record."""
        entry = self._entry(place)
        image = self._image(place)
        _write_image(folder / entry["file"], image, self.movie.info.pixel_size_um)
        about = {
            "filename": entry["file"],
            "chan_choose": [0, 0] if image.ndim == 2 else [1, 2],
            "model_path": str(self.result.attributes["plan"].get("model", {}).get("path", "")),
        }
        labels, planes = self._labels(place), self._planes(place)
        target = folder / f"{Path(entry['file']).stem}_seg.npy"
        content: Any = seg_content(labels, self.settings, about, planes)
        np.save(target, content, allow_pickle=True)
        return entry

    def _image(self, place: Place) -> np.ndarray:
        frame = self.movie.read_frame(place.t, place.p, place.z)
        if self.mean:
            return frame.mean(axis=0, dtype=np.float32)
        return frame[0] if len(frame) == 1 else frame

    def _labels(self, place: Place) -> np.ndarray:
        t, planes = place.t - self.result.start_frame, self.result.layout.planes
        return self.pages[place.p][t * planes + place.z]

    def _planes(self, place: Place) -> FlowPlanes | None:
        if not self.result.layout.debug:
            return None
        where = (place.t - self.result.start_frame, place.z)
        arrays = (self.result.flows(place.p), self.result.cellprob(place.p))
        return FlowPlanes(*(read_array(self.result.path, array, where) for array in arrays))

    def _entry(self, place: Place) -> dict[str, Any]:
        """Return a line of ``frames.json``, as `cypose-dask frames` writes it."""
        info = self.movie.info
        position = info.reading["position"]
        p = place.p if position is None else position
        stem = self.result.path.stem
        plane = f"_z{place.z:02d}" if self.result.layout.planes > 1 else ""
        return {
            "file": f"{stem}_p{p:03d}_t{place.t:04d}{plane}.tif",
            "call": None,
            "source": info.path,
            "content_sha256": info.fingerprint.content_sha256,
            "stem": stem,
            "movie": 0,
            "t": place.t,
            "p": p,
            "z": place.z,
            "window": None,
            "features": {},
            "channels": ["mean"] if self.mean else list(info.channel_names),
            "pixel_size_um": info.pixel_size_um,
        }


def _write_image(path: Path, image: np.ndarray, pixel_size_um: float | None) -> None:
    import tifffile

    imagej = image.dtype.name in _IMAGEJ_TYPES
    unit = {"unit": "um"} if imagej and pixel_size_um else {}
    tifffile.imwrite(
        path,
        image,
        imagej=imagej,
        photometric="minisblack",
        software=_SOFTWARE,
        metadata={"axes": "CYX"[-image.ndim :], **unit},
        **resolution(pixel_size_um, per_cm=not imagej),
    )
