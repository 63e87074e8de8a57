"""One open TIFF: its series, where each page lies, and the zarr view that reads it.

Everything that depends on how `tifffile` works inside is in this file. Its log is evidence:
it reports a truncated or contradictory file with a log line and goes on with what is left,
often a single 2-D image or frames of zeros.
"""

from __future__ import annotations

import logging
import math
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from cypose_dask.errors import DamagedFrameError, MovieError
from cypose_dask.movies.files import check_file, stamp_of_file
from cypose_dask.movies.ome_xml import require_harmless
from cypose_dask.movies.source import Signature, Stamp
from cypose_dask.movies.tiff_directories import chain_of
from cypose_dask.movies.tiff_places import places_of, spans_of

__all__ = ["OPEN_ERRORS", "READ_ERRORS", "TiffHandle", "captured_log"]

# TiffFileError is a ValueError. A damaged header can make tifffile raise any of these.
OPEN_ERRORS = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error, OSError,
    RuntimeError, AssertionError, MemoryError,
)  # fmt: skip
# Codecs of imagecodecs raise subclasses of RuntimeError.
READ_ERRORS = (*OPEN_ERRORS, EOFError, ImportError)
# Words of tifffile's warnings after which pixels are missing or axes were dropped.
DAMAGE_WORDS = (
    "zeroed", "missing", "corrupt", "incomplete", "out of range", "failed", "expected", "subset",
    "no pages", "series raised", "series cannot", "invalid tiffdata", "metadata invalid",
    "invalid offset", "does not match", "do not match",
)  # fmt: skip
# More than zlib (1032:1) can do, with room for the denser codecs on blank images.
MAX_EXPANSION = 20_000
ALWAYS_FINE_BYTES = 2**28


class _Capture(logging.Filter):
    """Takes the warnings and errors that one thread logs, so that they are not printed."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self.thread or record.levelno < logging.WARNING:
            return True
        kept = self.errors if record.levelno >= logging.ERROR else self.warnings
        kept.append(record.getMessage())
        return False


@contextmanager
def captured_log() -> Iterator[_Capture]:
    """Take what tifffile logs in this thread; the names of the warnings and errors are kept."""
    logger = logging.getLogger("tifffile")
    capture, level = _Capture(), logger.level
    logger.addFilter(capture)
    # A program that silenced tifffile would otherwise silence the signs of damage too.
    logger.setLevel(logging.WARNING)
    try:
        yield capture
    finally:
        logger.setLevel(level)
        logger.removeFilter(capture)


class TiffHandle:
    """An open TIFF file, or the open set of files of an OME-TIFF.

    Attributes
    ----------
    series
        Its series of full-size images.
    errors, warnings
        What tifffile logged while it opened the file.
    places
        Which pages cannot be where the file says, and what belongs to no page.
    members
        Size and time of every file of the set; one entry if the file stands alone.
    """

    def __init__(self, path: str) -> None:
        import tifffile

        self.path = path
        self._arrays: dict[int, Any] = {}
        self._lock = threading.Lock()
        with captured_log() as log:
            try:
                self.file = tifffile.TiffFile(path)
            except OPEN_ERRORS as error:
                raise _unreadable(path, error) from error
            try:
                chain = chain_of(self.file.pages.first)
                require_harmless(path, self.file.ome_metadata or "")
                salvaged = _salvaged_imagej(self.file)
                self.series = salvaged or _full_size(list(self.file.series))
                unread = [] if salvaged else self._unread_series()
                self.places = places_of(self.series, unread, chain)
            except MovieError:
                self.file.close()
                raise
            except OPEN_ERRORS as error:
                self.file.close()
                raise _unreadable(path, error) from error
        cut = ("the ImageJ hyperstack is cut off",) if salvaged else ()
        self.errors, self.warnings = (*log.errors, *cut), tuple(log.warnings)
        self.members = _find_members(path, self.series)

    def close(self) -> None:
        """Release the file."""
        self._arrays.clear()
        self.file.close()

    def _unread_series(self) -> list[Any]:
        """Return thumbnails and the smaller levels of pyramids."""
        known = {id(of) for of in self.series}
        levels = (level for of in self.file.series for level in of.levels)
        return [of for of in levels if id(of) not in known]

    @property
    def stands_alone(self) -> bool:
        """Whether the file is whole without any other file."""
        return len(self.members) == 1 and not self.complaints

    @property
    def complaints(self) -> tuple[str, ...]:
        """What tifffile logged that means lost pixels or lost axes."""
        grave = (w for w in self.warnings if any(word in w.lower() for word in DAMAGE_WORDS))
        return (*self.errors, *grave)

    def signature(self) -> Signature:
        """Return axes, sizes and type, which all members of a sequence share."""
        return self.axes(), self.shape(), str(self.series[0].dtype)

    def require_whole(self) -> None:
        """Raise MovieError if the file is truncated or tifffile complained about it."""
        if self.complaints:
            raise MovieError(
                f"{self.path}: truncated or damaged; tifffile reports: {self.complaints[0]}. "
                "Expected a complete file. Copy it again, or pass allow_damaged=True "
                "(--allow-damaged)."
            )
        cut = [i for i in range(self.page_count()) if not self.is_whole(i)]
        if cut:
            raise MovieError(f"{self.path}: {len(cut)} pages are cut off. Copy it again.")

    def axes(self, series: int = 0) -> str:
        """Return the axis letters of a series, singletons left out."""
        return str(self.series[series].get_axes(True))

    def shape(self, series: int = 0) -> tuple[int, ...]:
        """Return the sizes of a series, singletons left out."""
        return tuple(int(n) for n in self.series[series].get_shape(True))

    def page_axes(self, series: int = 0) -> int:
        """Return how many of the last axes are stored together in one page."""
        pixels, count = math.prod(self.series[series].keyframe.shape), 1
        shape = self.shape(series)
        for n, size in enumerate(reversed(shape), start=1):
            count *= size
            if count == pixels:
                # A leading singleton belongs to nobody; the fewest axes are the page.
                return n
        raise MovieError(
            f"{self.path}: pages of {self.series[series].keyframe.shape} pixels do not make up "
            f"{self.axes(series)} with sizes {shape}. The file is damaged."
        )

    def page_count(self, series: int = 0) -> int:
        """Return how many pages the axes of a series ask for."""
        outer = self.shape(series)[: -self.page_axes(series)]
        return math.prod(outer)

    def pages_and_bytes(self) -> tuple[int, int]:
        """Return how many pages all series ask for, and how many bytes the files have."""
        pages = sum(self.page_count(i) for i in range(len(self.series)))
        return pages, sum(stamp.size_bytes for stamp in self.members.values())

    def is_whole(self, page: int, series: int = 0) -> bool:
        """Say whether all bytes of a page lie within the file, and are claimed by it alone."""
        of = self.series[series]
        if of.dataoffset is not None:
            end = of.dataoffset + (page + 1) * of.keyframe.nbytes
            within = end <= of.keyframe.parent.filehandle.size
            return bool(within) and (series, 0) not in self.places.contested
        if (series, page) in self.places.contested:
            return False
        with self._lock:
            try:
                stored = of[page]
            except IndexError:
                return False
        return stored is not None and _lies_within(stored)

    def read(self, series: int, key: tuple[int | slice, ...]) -> npt.NDArray[Any]:
        """Read from the zarr view of a series.

        Raises
        ------
        DamagedFrameError
            If the page is missing: the view would return zeros.
        """
        outer = [int(i) for i in key[: -self.page_axes(series)] if not isinstance(i, slice)]
        shape = self.shape(series)[: len(outer)]
        page = int(np.ravel_multi_index(outer, shape)) if outer else 0
        if not self.is_whole(page, series):
            raise DamagedFrameError(
                f"{self.path}: page {page} of series {series} is missing or cut off, or another "
                "part of the file lies there. Copy the file again."
            )
        if len(self.members) > 1:
            name = _file_of(self.series[series][page])
            check_file(name, self.members[name])
        return np.asarray(self._view(series)[key])

    def _view(self, series: int) -> Any:
        """Return the zarr array over a series, made once."""
        import zarr

        with self._lock:
            if series not in self._arrays:
                of = self.series[series]
                # One chunk a page: by strip, a file of one row a strip would be read row by row.
                store = of.aszarr(level=0, chunkmode="page", squeeze=True, maxworkers=1)
                self._arrays[series] = zarr.open_array(store, mode="r", zarr_format=2)
            return self._arrays[series]

    def require_plausible(self, series: int = 0) -> None:
        """Raise MovieError if a page claims far more pixels than its bytes can hold."""
        frame = self.series[series].keyframe
        size = int(frame.parent.filehandle.size)
        stored = sum(min(stop, size) - min(start, size) for start, stop in spans_of(frame))
        if frame.nbytes > ALWAYS_FINE_BYTES and frame.nbytes > MAX_EXPANSION * stored:
            raise MovieError(
                f"{self.path}: the header claims {frame.nbytes} bytes a page, of which {stored} "
                "are stored. The file is damaged."
            )


def _find_members(path: str, series: list[Any]) -> dict[str, Stamp]:
    """Return the stamp of every file of the set, the one that was opened first."""
    others = {_file_of(page) for of in series if of.is_multifile for page in of if page is not None}
    return {name: stamp_of_file(name) for name in [path, *sorted(others - {path})]}


def _file_of(page: Any) -> str:
    handle = page.parent.filehandle
    return os.path.join(handle.dirname, handle.name)  # noqa: PTH118 - asked once a page


def _salvaged_imagej(file: Any) -> list[Any]:
    """Return the hyperstack of a truncated ImageJ file, which tifffile shows as one image.

    Its frames follow the first page without a gap, so those before the cut can be read.
    """
    import tifffile

    page = file.pages.first
    if not file.is_imagej or file.series[0].kind == "imagej" or not page.is_final:
        return []
    metadata = file.imagej_metadata
    counts = [int(metadata.get(name, 1)) for name in ("frames", "slices", "channels")]
    if metadata.get("order", "czt") != "czt" or page.axes != "YX" or math.prod(counts) < 2:
        return []
    shape = (*counts, *page.shape)
    return [
        tifffile.TiffPageSeries(
            [page], shape, page.dtype, "TZCYX", parent=file, kind="imagej", truncated=True
        )
    ]


def _full_size(series: list[Any]) -> list[Any]:
    """Leave out series of reduced images (thumbnails) unless there is nothing else."""
    full = [of for of in series if not of.keyframe.is_reduced]
    return full or series


def _lies_within(page: Any) -> bool:
    spans = spans_of(page)
    return bool(spans) and spans[-1][1] <= int(page.parent.filehandle.size)


def _unreadable(path: str, error: Exception) -> MovieError:
    return MovieError(
        f"{path}: not a readable TIFF ({type(error).__name__}: {error}); expected a TIFF header "
        "and complete pages. Copy the file again, or check what kind of file it is."
    )
