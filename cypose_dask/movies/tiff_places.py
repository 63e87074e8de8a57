"""Which bytes of a TIFF belong to which page.

A TIFF has no checksums, but its parts do not overlap: a damaged offset nearly always points into
another page, into a directory, or beyond the end of the file. And its parts fill it: what
belongs to nothing may be pages that a damaged directory no longer reaches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cypose_dask.movies.tiff_directories import (
    chain_of,
    directory_bytes,
    directory_end,
    first_strip,
    place_tags,
)

__all__ = ["Places", "places_of", "spans_of"]

# First byte, and the byte after the last.
Span = tuple[int, int]
# Series and page.
Owner = tuple[int, int]

# Tags whose values lie outside of their directory; private tags may claim any bytes.
TAGS_WITH_VALUES = (270, 273, 279, 282, 283, 305, 306, 324, 325, 50839)


@dataclass(frozen=True)
class Places:
    """Which pages cannot be where the file says, and what belongs to no page.

    Attributes
    ----------
    contested
        (series, page) of every page whose bytes another page, or a directory, claims too.
    unclaimed_bytes
        Bytes in gaps of the file that are large enough for a page.
    """

    contested: frozenset[Owner]
    unclaimed_bytes: int


def spans_of(page: Any) -> list[Span]:
    """Return the bytes that are read to decode a page, in order; none if its tags contradict."""
    if page is None:
        return []
    keyframe = page.keyframe
    offsets, counts = page.dataoffsets, page.databytecounts
    if keyframe.is_contiguous:
        # tifffile then reads from the first offset on, whatever the byte counts say.
        offsets, counts = offsets[:1], (keyframe.nbytes,)
    elif not len(offsets) == len(counts) == math.prod(keyframe.chunked):
        return []
    if not all(isinstance(n, (int, np.integer)) and n > 0 for n in (*offsets, *counts)):
        return []
    return list(_joined(sorted((int(o), int(o + n)) for o, n in zip(offsets, counts, strict=True))))


def _starts_of(page: Any) -> list[Span]:
    """Return the first byte of each part of a page whose lengths are not known."""
    return [(int(o), int(o) + 1) for o in page.dataoffsets if isinstance(o, (int, np.integer))]


def _joined(spans: Iterable[Span]) -> Iterator[Span]:
    """Join spans that follow on each other without a gap."""
    before: Span | None = None
    for span in spans:
        if before is not None and before[1] == span[0]:
            before = before[0], span[1]
            continue
        if before is not None:
            yield before
        before = span
    if before is not None:
        yield before


@dataclass
class _Claims:
    """Spans of one or several files, laid end to end, each with the number of its owner."""

    spans: list[Span] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    owners: list[Owner] = field(default_factory=list)
    bases: dict[int, int] = field(default_factory=dict)
    directories: list[Span] = field(default_factory=list)
    total_bytes: int = 0

    def add(self, owner: Owner | None, filehandle: Any, spans: Iterable[Span]) -> None:
        """Put what a page claims, or (None) what a directory does."""
        number = -1
        if owner is not None:
            number = len(self.owners)
            self.owners.append(owner)
        base, size = self._base(filehandle), int(filehandle.size)
        for start, stop in spans:
            if start < size:
                self.spans.append((base + start, base + min(stop, size)))
                self.numbers.append(number)

    def add_directory(self, keyframe: Any, filehandle: Any, offset: int) -> None:
        """Put a directory, and about as many bytes after it as its values may take."""
        end = directory_end(filehandle, offset, keyframe.parent.tiff)
        self.add(None, filehandle, [(offset, end)])
        begin = self._base(filehandle) + offset
        about = begin + directory_bytes(keyframe)
        self.directories.append((begin, min(about, self.total_bytes)))

    def _base(self, filehandle: Any) -> int:
        """Return where a file begins in the row of all files; its header is claimed at once."""
        if id(filehandle) not in self.bases:
            self.bases[id(filehandle)] = self.total_bytes
            self.total_bytes += int(filehandle.size)
            self.add(None, filehandle, [(0, 8)])
        return self.bases[id(filehandle)]


def places_of(series: list[Any], others: Iterable[Any], chain: list[int]) -> Places:
    """Find pages with contested bytes, and gaps that could hold a page.

    Parameters
    ----------
    series
        The `TiffPageSeries` that are read.
    others
        Series of the same files that are not read, such as thumbnails.
    chain
        Offsets of the directories of the file that was opened, first to last.
    """
    claims, others = _Claims(), list(others)
    with _all_open([*series, *others]):
        least = min((_claim_series(claims, of, i, chain) for i, of in enumerate(series)), default=0)
        for of in others:
            _claim_series(claims, of, None, chain)
    spans = np.array(claims.spans, np.int64).reshape(-1, 2)
    numbers = np.array(claims.numbers, np.int64)
    order = np.argsort(spans[:, 0], kind="stable")
    clashing = _clashing(spans[order], numbers[order])
    gaps = _gaps([*claims.spans, *claims.directories], claims.total_bytes)
    return Places(
        frozenset(claims.owners[i] for i in clashing), sum(gap for gap in gaps if gap >= least > 0)
    )


def _claim_series(claims: _Claims, of: Any, number: int | None, chain: list[int]) -> int:
    """Put what a series claims; return the bytes of its smallest page."""
    keyframe, least = of.keyframe, int(of.keyframe.nbytes)
    if of.dataoffset is not None:
        pages = math.prod(of.shape) // max(1, math.prod(keyframe.shape))
        span = (int(of.dataoffset), int(of.dataoffset + pages * keyframe.nbytes))
        owner = None if number is None else (number, 0)
        filehandle = keyframe.parent.filehandle
        # Read without its other directories, which are then not known to tifffile.
        directories = chain if keyframe.offset in chain[:1] else chain_of(keyframe)
        claims.add(owner, filehandle, [span])
        _claim_values(claims, keyframe)
        for offset in directories:
            claims.add_directory(keyframe, filehandle, offset)
        if len(directories) == pages > 1:
            # The second directory says where the second page is: the first must agree with it.
            second = first_strip(keyframe, directories[1])
            if second not in (None, span[0] + keyframe.nbytes):
                claims.add(None, filehandle, [span])
        return least
    for i, page in enumerate(_pages(of)):
        if page is None:
            continue
        spans, filehandle = spans_of(page), page.parent.filehandle
        claims.add(None if number is None else (number, i), filehandle, spans or _starts_of(page))
        _claim_values(claims, page)
        if page.offset > 0:
            claims.add_directory(keyframe, filehandle, page.offset)
        if len(page.dataoffsets) > 1:
            tags = place_tags(page, page.offset)
            claims.add(None, filehandle, ((at, at + n) for _, at, n in tags))
        least = min(least, sum(stop - start for start, stop in spans) or least)
    return least


@contextmanager
def _all_open(series: list[Any]) -> Iterator[None]:
    """Open the other files of a set, which tifffile closes when it has read their directories."""
    shut = {
        page.parent.filehandle
        for of in series
        if of.is_multifile
        for page in _pages(of)
        if page is not None and page.parent.filehandle.closed
    }
    try:
        for filehandle in shut:
            filehandle.open()
        yield
    finally:
        for filehandle in shut:
            filehandle.close()


def _pages(of: Any) -> Iterator[Any]:
    """Yield the pages of a series that are there; a truncated file ends before its last one."""
    with suppress(IndexError):
        yield from of


def _claim_values(claims: _Claims, page: Any) -> None:
    """Put the values of a page's tags, if they have been read."""
    for code in TAGS_WITH_VALUES:
        tag = getattr(page, "tags", {}).get(code)
        if tag is not None and tag.valuebytecount > page.parent.tiff.offsetsize:
            span = (tag.valueoffset, tag.valueoffset + tag.valuebytecount)
            claims.add(None, page.parent.filehandle, [span])


def _clashing(spans: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]) -> set[int]:
    """Return the owners of spans, sorted by their start, that overlap one of another owner."""
    if len(spans) < 2:
        return set()
    reach = np.maximum.accumulate(spans[:, 1])
    holder = np.maximum.accumulate(np.where(spans[:, 1] == reach, np.arange(len(spans)), 0))
    late = np.flatnonzero(spans[1:, 0] < reach[:-1]) + 1
    pairs = zip(numbers[late].tolist(), numbers[holder[late - 1]].tolist(), strict=True)
    # Directories and values of tags may share bytes with each other.
    return {n for pair in pairs for n in pair if n >= 0}


def _gaps(spans: list[Span], total_bytes: int) -> Iterator[int]:
    """Yield the size of every gap between spans."""
    reach = 0
    for start, stop in sorted([*spans, (total_bytes, total_bytes)]):
        if start > reach:
            yield start - reach
        reach = max(reach, stop)
