"""Which pages of an exported TIF are blank because nobody knows their labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.errors import ResultError
from cypose_dask.results.atomic import write_json
from cypose_dask.results.naming import run_json_of, with_position
from cypose_dask.results.ranges import as_ranges
from cypose_dask.results.store import Result, Status

__all__ = ["BlankPages", "blank_pages", "keep_blank_pages"]


@dataclass(frozen=True, slots=True)
class BlankPages:
    """Pages of one TIF that are blank for one reason; numbered from 0, in file order."""

    tif: Path
    status: Status
    pages: tuple[int, ...]

    def __str__(self) -> str:
        one = len(self.pages) == 1
        return (
            f"page{'' if one else 's'} {as_ranges(self.pages)} of {self.tif.name} "
            f"{'is' if one else 'are'} blank: {self.status.name.lower()} (pages count from 0)"
        )


def blank_pages(result: Result, path: Path) -> list[BlankPages]:
    """Return the blank pages of the TIFs that `export_tif` writes to `path`."""
    found = []
    for position, tif in enumerate(with_position(path, result.n_positions)):
        status = result.status(position).ravel()
        for kind in (Status.PENDING, Status.FAILED, Status.DAMAGED):
            pages = np.flatnonzero(status == kind)
            if len(pages):
                found.append(BlankPages(tif, kind, tuple(pages.tolist())))
    return found


def keep_blank_pages(result: Result, tifs: list[Path], blank: list[BlankPages]) -> None:
    """Write into the result's ``x_run.json``, if there is one, which pages of `tifs` are blank.

    Raises
    ------
    ResultError
        If that file is damaged. It is left as it is then.
    """
    path = run_json_of(result.path)
    if not path.exists():
        return
    record = _read(path)
    kept = {name: pages for name, pages in _kept(record).items() if name not in map(str, tifs)}
    for found in blank:
        reasons = kept.setdefault(str(found.tif), {})
        reasons[found.status.name.lower()] = as_ranges(found.pages)
    write_json(path, {**record, "blank_pages": kept})


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        _kept(record)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ResultError(
            f"{path} is no record of a run ({error}), so the blank pages cannot be kept in it. "
            "Restore it, or move it away."
        ) from error
    return dict(record)


def _kept(record: dict[str, Any]) -> dict[str, Any]:
    return dict(record.get("blank_pages", {}))
