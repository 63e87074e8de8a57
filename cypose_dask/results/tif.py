"""Export a result as labelled TIFs that Fiji, napari, MATLAB and scikit-image read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.errors import IncompleteResultError, ResultError
from cypose_dask.results.atomic import whole_file
from cypose_dask.results.naming import with_position
from cypose_dask.results.store import Layout, Result, open_result

__all__ = ["export_debug_tifs", "export_tif"]

# ImageJ reads 8 and 16 bit integers and 32 bit floats, never uint32.
LARGEST_IMAGEJ_LABEL = np.iinfo(np.uint16).max
# Frames that are read again and compared before the file gets its name.
_CHECKED_FRAMES = 3


def export_tif(
    result: Result | str | Path, path: str | Path, *, allow_incomplete: bool = False
) -> list[Path]:
    """Write the labels as TIF, one file a position, streaming one block at a time.

    Parameters
    ----------
    result : Result, str or Path
    path : str or Path
        ``x.tif``. A movie of several positions gives ``x_p000.tif``, ``x_p001.tif``.
    allow_incomplete : bool
        Write frames that were not segmented as blank pages instead of refusing.

    Returns
    -------
    list of Path
        The files: ImageJ hyperstacks of uint16 with zlib while every label is below 65,536, else
        OME-BigTIFFs of uint32. Axes are (T, Y, X) or (T, Z, Y, X), singletons left out.

    Raises
    ------
    IncompleteResultError
        If frames are pending, failed or damaged and `allow_incomplete` is False.
    """
    result = result if isinstance(result, Result) else open_result(result)
    if not allow_incomplete:
        _refuse_incomplete(result)
    paths = with_position(Path(path), result.n_positions)
    for position, target in enumerate(paths):
        largest = int(result.cells(position).max(initial=0))
        dtype = np.uint16 if largest <= LARGEST_IMAGEJ_LABEL else np.uint32
        _write(target, _Pages(result.labels(position), result.layout, np.dtype(dtype)))
    return paths


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
        As in `export_tif`.

    Returns
    -------
    list of Path
        Flows: float32, (dy, dx) as two channels a frame, dimensionless, 5 x the unit flow.
        Probabilities: float32, the sigmoid of cellprob, 0 to 1. One of each a position.

    Raises
    ------
    ResultError
        If the run did not keep flows.
    """
    result = result if isinstance(result, Result) else open_result(result)
    if not allow_incomplete:
        _refuse_incomplete(result)
    written = []
    for position, target in enumerate(with_position(Path(path), result.n_positions)):
        flow, prob = (target.with_name(f"{target.name}.{kind}.tif") for kind in ("flow", "prob"))
        _write(flow, _Pages(result.flows(position), result.layout, np.dtype(np.float32)))
        probs = _Pages(result.cellprob(position), result.layout, np.dtype(np.float32), _sigmoid)
        _write(prob, probs)
        written += [flow, prob]
    return written


def _refuse_incomplete(result: Result) -> None:
    missing = result.frames_not_done()
    if missing:
        first = ", ".join(f"t={t} p={p} z={z} ({s.name.lower()})" for t, p, z, s in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise IncompleteResultError(
            f"{result.path}: {len(missing)} frames have no labels: {first}{more}. Run `cypose-dask "
            "segment` again to finish them, or export with --allow-incomplete to leave them blank."
        )


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    # Written with tanh because exp overflows for large negative logits.
    return 0.5 * (1.0 + np.tanh(0.5 * logit))


@dataclass(frozen=True, slots=True)
class _Pages:
    """The pages of one TIF: a zarr array (T, Z, [C,] Y, X) and how to store it."""

    array: Any
    layout: Layout
    dtype: np.dtype
    convert: Callable[[np.ndarray], np.ndarray] = np.asarray

    @property
    def axes(self) -> str:
        letters = "TZCYX" if self.array.ndim == 5 else "TZYX"
        sizes = zip(letters, self.array.shape, strict=True)
        return "".join(a for a, n in sizes if n > 1 or a in "YX")

    @property
    def shape(self) -> tuple[int, ...]:
        letters = "TZCYX" if self.array.ndim == 5 else "TZYX"
        return tuple(n for a, n in zip(letters, self.array.shape, strict=True) if a in self.axes)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (Y, X) pages in file order, reading each shard once."""
        step = self.layout.frames_per_block
        for first in range(0, self.array.shape[0], step):
            block = np.asarray(self.array[first : first + step])
            for page in block.reshape(-1, *block.shape[-2:]):
                yield self._page(page)

    def _page(self, page: np.ndarray) -> np.ndarray:
        page = self.convert(page)
        if self.dtype.kind == "u" and page.max(initial=0) > np.iinfo(self.dtype).max:
            raise ResultError(
                f"A frame holds label {page.max()}, but its status says fewer cells. The result "
                "contradicts itself; run `cypose-dask segment --restart`."
            )
        return page.astype(self.dtype, copy=False)


def _write(path: Path, pages: _Pages) -> None:
    with whole_file(path) as partial:
        _write_pages(partial, pages)
        _check(partial, pages)


def _write_pages(path: Path, pages: _Pages) -> None:
    import tifffile

    # tifffile makes the ImageJ kind only from uint8, uint16 and float32.
    imagej = pages.dtype != np.uint32 and pages.dtype.kind != "f"
    kind = {"imagej": True} if imagej else {"ome": True, "bigtiff": True}
    with tifffile.TiffWriter(path, **kind) as tif:
        tif.write(
            iter(pages),
            shape=pages.shape,
            dtype=pages.dtype,
            compression="zlib",
            photometric="minisblack",
            metadata=_metadata(pages, imagej),
            **_resolution(pages.layout),
        )


def _metadata(pages: _Pages, imagej: bool) -> dict[str, Any]:
    layout = pages.layout
    if imagej:
        scale = {"finterval": layout.interval_s, "spacing": layout.z_step_um}
        unit = {"unit": "um"} if layout.pixel_size_um else {}
        return {"axes": pages.axes, **unit, **{k: v for k, v in scale.items() if v}}
    sizes = {
        "PhysicalSizeX": layout.pixel_size_um,
        "PhysicalSizeY": layout.pixel_size_um,
        "PhysicalSizeZ": layout.z_step_um,
        "TimeIncrement": layout.interval_s,
    }
    known = {k: v for k, v in sizes.items() if v}
    units = {f"{k}Unit": "s" if k == "TimeIncrement" else "µm" for k in known}
    return {"axes": pages.axes, **known, **units}


def _resolution(layout: Layout) -> dict[str, Any]:
    if not layout.pixel_size_um:
        return {}
    per_um = 1.0 / layout.pixel_size_um
    return {"resolution": (per_um, per_um)}


def _check(path: Path, pages: _Pages) -> None:
    """Read the file again before it gets its name: page count, shape and sampled pages."""
    import tifffile

    count = int(np.prod(pages.shape[:-2], dtype=int))
    with tifffile.TiffFile(path) as tif:
        found = (len(tif.pages), tif.series[0].shape)
        if found != (count, pages.shape):
            raise ResultError(
                f"{path}: holds {found[0]} pages of shape {found[1]} after writing; expected "
                f"{count} of {pages.shape}. The disk may be full; nothing was kept."
            )
        for index in sorted({*np.linspace(0, count - 1, _CHECKED_FRAMES).astype(int)}):
            _check_page(tif.pages[int(index)].asarray(), pages, int(index))


def _check_page(written: np.ndarray, pages: _Pages, index: int) -> None:
    where = np.unravel_index(index, pages.array.shape[:-2])
    expected = pages._page(np.asarray(pages.array[where]))
    if not np.array_equal(written, expected):
        raise ResultError(
            f"Page {index} of the TIF differs from the result after writing. The disk may be "
            "faulty; nothing was kept."
        )
