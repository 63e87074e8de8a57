"""An exported TIF against the labels that it was made from, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.results import Result
from cypose_dask.results.naming import with_position
from cypose_dask.results.pages import LabelPages
from cypose_dask.run.checks.finding import Finding
from cypose_dask.run.state import ResultState

__all__ = ["TifCheck", "tifs_of"]

# tifffile and its codecs raise these on damaged files.
_READ_ERRORS = (
    OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError,
    MemoryError,
)  # fmt: skip


def tifs_of(result: Result, tif: str | Path | None) -> tuple[list[Path], list[Finding]]:
    """Return the TIFs of a result, one a position, and a note if there are none to compare.

    Without `tif` they are those beside the store that a run or an export would have named.
    """
    if tif is not None:
        return with_position(Path(tif), result.n_positions), []
    stem = result.path.name.removesuffix(".zarr")
    for name in (f"{stem}_cp_masks.tif", f"{stem}.tif", f"{stem}.tiff"):
        paths = with_position(result.path.with_name(name), result.n_positions)
        if any(path.exists() for path in paths):
            return paths, []
    none = Finding(
        where=str(result.path),
        found="no TIF beside it",
        expected=f"{stem}_cp_masks.tif or {stem}.tif",
        advice="Give it with --tif, or write one with `cypose-dask export`.",
        is_fault=False,
    )
    return [], [none]


@dataclass(frozen=True, slots=True)
class TifCheck:
    """The TIF of one position, opened for comparison.

    Attributes
    ----------
    path : Path or None
        None where there is no file to compare; `compare` then finds nothing.
    tif : tifffile.TiffFile or None
        None where the file has other pages than the result.
    size : tuple of int
        Y and X of a page.
    findings : tuple of Finding
        Why `tif` is None.
    """

    path: Path | None
    tif: Any
    size: tuple[int, int]
    findings: tuple[Finding, ...] = ()

    @classmethod
    @contextmanager
    def of(cls, state: ResultState, position: int, paths: list[Path]) -> Iterator[TifCheck]:
        """Open the TIF of a position, if there is one to compare, and count its pages."""
        import tifffile

        size = (state.result.layout.height, state.result.layout.width)
        if not paths:
            yield cls(None, None, size)
            return
        path, pages = paths[position], LabelPages.of(state.result, position)
        try:
            tif = tifffile.TiffFile(path)
        except _READ_ERRORS as error:
            closed = _finding(path, f"a file that {_cannot('be opened', error)}", "a TIF")
            yield cls(path, None, size, (closed,))
            return
        with tif:
            found, expected = _counted(tif), _described(len(pages), pages.axes, pages.shape)
            if found == expected:
                yield cls(path, tif, size)
            else:
                yield cls(path, None, size, (_finding(path, found, expected),))

    def compare(self, number: int, labels: np.ndarray) -> Iterator[Finding]:
        """Compare one page with labels (Y, X) of uint32."""
        if self.path is None or self.tif is None:
            return
        try:
            page = self._page(number)
        except _READ_ERRORS as error:
            where = f"page {number}, which {_cannot('be read', error)}"
            yield _finding(self.path, where, "a page of labels")
            return
        differing = int(np.count_nonzero(page != labels))
        if differing:
            found = f"page {number} with {differing} pixels that differ"
            yield _finding(self.path, found, "the labels of the zarr, and 0 in frames without any")

    def _page(self, number: int) -> np.ndarray:
        page = self.tif.pages[number]
        # Before decoding: what a page declares is what decoding it allocates.
        if page.shape != self.size or page.dtype.kind != "u":
            raise ValueError(f"it is {page.shape} {page.dtype}")
        return np.asarray(page.asarray(maxworkers=1))


def _counted(tif: Any) -> str:
    try:
        series = tif.series[0]
        return _described(len(tif.pages), series.axes, series.shape)
    except _READ_ERRORS as error:
        return f"pages that {_cannot('be counted', error)}"


def _described(number: int, axes: str, shape: tuple[int, ...]) -> str:
    return f"{number} pages, {axes} {tuple(shape)}"


def _cannot(what: str, error: BaseException) -> str:
    return f"cannot {what} ({str(error) or type(error).__name__})"


def _finding(path: Path, found: str, expected: str) -> Finding:
    advice = "Write the TIF again with `cypose-dask export`."
    return Finding(where=str(path), found=found, expected=expected, advice=advice)
