"""Export a result as labelled TIFs that Fiji, napari, MATLAB and scikit-image read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from cypose_dask.errors import IncompleteResultError, ResultError, SettingsError
from cypose_dask.results.atomic import whole_file
from cypose_dask.results.naming import SOFTWARE, with_position
from cypose_dask.results.pages import (
    FlowPages,
    LabelPages,
    MovieLabelPages,
    Pages,
    ProbabilityPages,
    TrackLabelPages,
)
from cypose_dask.results.store import Layout, Result, Status, open_result
from cypose_dask.results.tracks import read_tracks

__all__ = [
    "Ids",
    "export_debug_tifs",
    "export_tif",
    "imagej_scale",
    "label_pages",
    "require_complete",
    "require_files",
    "require_ids",
    "resolution",
]

Ids = Literal["frame", "movie", "track"]

# Offsets in a TIFF that ImageJ opens have 32 bits; the rest is room for tags.
_LARGEST_CLASSIC_BYTES = 2**32 - 2**25
_TAG_BYTES_A_PAGE = 512
# Deflate packs uint16 labels tighter than zstd packs the uint32 of the store; this is caution.
_DEFLATE_PER_STORED = 3
# Frames that are read again and compared before the file gets its name.
_CHECKED_FRAMES = 3
_LISTED_FRAMES = 5


def export_tif(
    result: Result | str | Path,
    path: str | Path,
    *,
    ids: Ids = "frame",
    allow_incomplete: bool = False,
) -> list[Path]:
    """Write the labels as TIF, one file a position, streaming one block at a time.

    Parameters
    ----------
    result : Result, str or Path
    path : str or Path
        ``x.tif``. A movie of several positions gives ``x_p000.tif``, ``x_p001.tif``.
    ids : "frame", "movie" or "track"
        ``"frame"`` numbers the cells of each frame from 1. ``"movie"`` gives every cell of every
        frame a number of its own, over all positions, in the order of the pages. ``"track"`` gives
        a cell the number of its track in all frames, each position from 1 (`cypose_dask.link`).
    allow_incomplete : bool
        Write frames that were not segmented as blank pages instead of refusing.

    Returns
    -------
    list of Path
        The files: ImageJ hyperstacks of uint16 with zlib while every label is below 65,536, else
        OME-BigTIFFs of uint32. Axes are (T, Y, X) or (T, Z, Y, X), singletons left out. Labels
        that would not fit into the 4 GB of an ImageJ file become an OME-BigTIFF of uint16.

    Raises
    ------
    IncompleteResultError
        If frames are pending, failed or damaged and `allow_incomplete` is False.
    ResultError
        If the result contradicts itself or cannot be read, the file cannot be written, more than
        4,294,967,295 cells are to be numbered, or there are no tracks. No file is left then.
    SettingsError
        If `ids` is another word.
    """
    require_ids(ids)
    result = require_complete(result, allow_incomplete)
    paths = with_position(Path(path), result.n_positions)
    for position, pages in enumerate(label_pages(result, ids)):
        require_files(result, position, pages)
        _write(paths[position], pages)
    return paths


def require_ids(ids: str) -> None:
    """Raise SettingsError unless `ids` is one of `Ids`."""
    if ids not in get_args(Ids):
        raise SettingsError(f'Found ids={ids!r}; expected "frame", "movie" or "track".')


def label_pages(result: Result, ids: Ids) -> Iterator[LabelPages]:
    """Yield the labels of every position, numbered by `ids` as in `export_tif`."""
    if ids == "movie":
        yield from MovieLabelPages.of_all(result)
        return
    if ids == "track":
        for position, cells in enumerate(read_tracks(result)):
            yield TrackLabelPages.of_tracks(result, position, cells)
        return
    for position in range(result.n_positions):
        yield LabelPages.of(result, position)


def export_debug_tifs(
    result: Result | str | Path, path: str | Path, *, allow_incomplete: bool = False
) -> list[Path]:
    """Write ``<path>.flow.tif`` and ``<path>.prob.tif`` of a run with debug.

    Parameters
    ----------
    result : Result, str or Path
    path : str or Path
        Name in front of the suffixes, which are CyPose's.
    allow_incomplete : bool
        As in `export_tif`; flows and probabilities of blank pages are 0.

    Returns
    -------
    list of Path
        Flows: float32, (dy, dx) as two channels a frame, dimensionless, 5 x the unit flow.
        Probabilities: float32, the sigmoid of cellprob, 0 to 1. One of each a position.

    Raises
    ------
    ResultError
        If the run did not keep flows, or as in `export_tif`.
    """
    result = require_complete(result, allow_incomplete)
    written = []
    for position, target in enumerate(with_position(Path(path), result.n_positions)):
        for kind, pages_of in (("flow", FlowPages), ("prob", ProbabilityPages)):
            named = target.with_name(f"{target.name}.{kind}.tif")
            pages = pages_of.of(result, position)
            require_files(result, position, pages)
            _write(named, pages)
            written.append(named)
    return written


def require_complete(result: Result | str | Path, allow_incomplete: bool) -> Result:
    """Open a result; raise IncompleteResultError if frames lack labels and that is not allowed."""
    result = result if isinstance(result, Result) else open_result(result)
    number, some = (0, []) if allow_incomplete else result.some_not_done(_LISTED_FRAMES)
    if number:
        first = ", ".join(f"t={t} p={p} z={z} ({s.name.lower()})" for t, p, z, s in some)
        more = f" and {number - len(some)} more" if number > len(some) else ""
        raise IncompleteResultError(
            f"{result.path}: {number} frames have no labels: {first}{more}. Run `cypose-dask "
            "segment` again to finish them, or export with --allow-incomplete to leave them blank."
        )
    return result


def require_files(result: Result, position: int, pages: Pages) -> None:
    """Raise ResultError if a block that is done has lost its file, which would read as zeros."""
    name, step = pages.array.path.partition("/")[2], result.layout.frames_per_block
    for first in range(0, len(pages.status), step):
        done = (pages.status[first : first + step] == Status.DONE).any()
        if done and name in result.lost_shards(position, first):
            raise ResultError(
                f"{result.path}: {pages.array.path} has no file for the block of t="
                f"{first + result.start_frame}, which is done. Segment again: that block alone is "
                "done anew."
            )


def _write(path: Path, pages: Pages) -> None:
    try:
        with whole_file(path) as partial:
            _write_pages(partial, pages)
            _check(partial, pages)
    except OSError as error:
        raise ResultError(
            f"{path}: could not be written ({error.strerror or error}). Nothing was kept; the zarr "
            "is whole. Make room or choose another place, then export again."
        ) from error


def _write_pages(path: Path, pages: Pages) -> None:
    import tifffile

    # ImageJ reads 8 and 16 bit integers and 32 bit floats, never uint32.
    imagej = pages.dtype == np.uint16 and _fits_classic(pages)
    kind = {"imagej": True} if imagej else {"ome": True, "bigtiff": True}
    with tifffile.TiffWriter(path, **kind) as tif:
        tif.write(
            iter(pages),
            shape=pages.shape,
            dtype=pages.dtype,
            compression="zlib",
            photometric="minisblack",
            software=SOFTWARE,
            metadata={"axes": pages.axes, **(imagej_scale if imagej else _ome)(pages.layout)},
            **resolution(pages.layout.pixel_size_um, per_cm=not imagej),
        )


def _fits_classic(pages: Pages) -> bool:
    tags = len(pages) * _TAG_BYTES_A_PAGE
    raw = int(np.prod(pages.shape, dtype=int)) * pages.dtype.itemsize
    if raw + tags <= _LARGEST_CLASSIC_BYTES:
        return True
    stored = int(pages.array.nbytes_stored())
    return stored * _DEFLATE_PER_STORED + tags <= _LARGEST_CLASSIC_BYTES


def imagej_scale(layout: Layout) -> dict[str, Any]:
    """Return the scale as ImageJ's metadata: unit, seconds between frames, um between planes."""
    unit = "um" if layout.pixel_size_um else None
    known = {"unit": unit, "finterval": layout.interval_s, "spacing": layout.z_step_um}
    return {key: value for key, value in known.items() if value}


def _ome(layout: Layout) -> dict[str, Any]:
    sizes = {
        "PhysicalSizeX": layout.pixel_size_um,
        "PhysicalSizeY": layout.pixel_size_um,
        "PhysicalSizeZ": layout.z_step_um,
        "TimeIncrement": layout.interval_s,
    }
    known = {k: v for k, v in sizes.items() if v}
    units = {f"{k}Unit": "s" if k == "TimeIncrement" else "µm" for k in known}
    return {**known, **units}


def resolution(pixel_size_um: float | None, *, per_cm: bool) -> dict[str, Any]:
    """Return the resolution tags: ImageJ takes its own unit, all others know cm and inch."""
    if not pixel_size_um:
        return {}
    density = (1e4 if per_cm else 1.0) / pixel_size_um
    unit = {"resolutionunit": "CENTIMETER"} if per_cm else {}
    return {"resolution": (density, density), **unit}


def _check(path: Path, pages: Pages) -> None:
    """Read the file again before it gets its name: page count, shape and sampled pages."""
    import tifffile

    with tifffile.TiffFile(path) as tif:
        found = (len(tif.pages), tif.series[0].shape)
        if found != (len(pages), pages.shape):
            raise ResultError(
                f"{path}: holds {found[0]} pages of shape {found[1]} after writing; expected "
                f"{len(pages)} of {pages.shape}. The disk may be full; nothing was kept."
            )
        for number in _evenly(len(pages)):
            if not np.array_equal(tif.pages[number].asarray(), pages[number], equal_nan=True):
                raise ResultError(
                    f"{path}: page {number} differs from the result after writing. The disk may be "
                    "faulty; nothing was kept."
                )


def _evenly(count: int) -> Iterable[int]:
    return sorted({int(i) for i in np.linspace(0, count - 1, _CHECKED_FRAMES)})
