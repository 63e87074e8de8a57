"""The result zarr: one store a movie, one group a position, one shard a block.

::

    movie.zarr/
      zarr.json                 attributes: plan, settings, model, versions, fingerprint
      0/labels/cells/0          uint32 (T, Z, Y, X), chunk = 1 frame, shard = 1 block
      0/flows, 0/cellprob       float32, only with debug
      0/status, 0/cells         (T, Z), written by the client alone

OME-NGFF 0.5 has no position axis, so the layout is bioformats2raw's: a group a position.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cypose_dask.errors import ResultError
from cypose_dask.results.atomic import fsync_path, whole_folder

__all__ = ["Layout", "Result", "Status", "create_result", "open_result", "write_block"]

LABELS = "labels/cells/0"
ATTRIBUTES = "cypose_dask"
# Plain zstd is both smaller and faster on labels than any shuffle in front of it.
_ZSTD_LEVEL = 1


class Status(enum.IntEnum):
    """What is known about a frame's labels. Failed and damaged frames hold zeros."""

    PENDING = 0
    DONE = 1
    FAILED = 2
    DAMAGED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Shape of a result.

    Attributes
    ----------
    position_names : tuple of str
    frames, planes, height, width : int
        T, Z, Y and X of the labels, after the choice of frames.
    frames_per_block : int
        T of one block and one shard.
    debug : bool
        Whether flows and cellprob are kept.
    pixel_size_um, z_step_um, interval_s : float or None
        Scale of Y and X, Z and T.
    """

    position_names: tuple[str, ...]
    frames: int
    planes: int
    height: int
    width: int
    frames_per_block: int
    debug: bool = False
    pixel_size_um: float | None = None
    z_step_um: float | None = None
    interval_s: float | None = None


class Result:
    """A result on disk, opened lazily.

    Parameters
    ----------
    path : Path
        The ``.zarr`` folder.

    Raises
    ------
    ResultError
        If there is no result of this package at `path`.
    """

    def __init__(self, path: str | Path) -> None:
        import zarr

        self.path = Path(path)
        try:
            self._root = zarr.open_group(self.path, mode="r")
            self.attributes: dict[str, Any] = dict(self._root.attrs[ATTRIBUTES])
            self._layout = _layout_of(self.attributes)
        except (OSError, LookupError, ValueError, TypeError, AttributeError) as error:
            raise ResultError(
                f"{self.path}: no result of cypose-dask ({type(error).__name__}). Expected a "
                "zarr folder written by `cypose-dask segment` or `cypose_dask.segment`."
            ) from error

    def __repr__(self) -> str:
        layout = self.layout
        size = f"T {layout.frames}, P {self.n_positions}, Z {layout.planes}"
        return f"Result({str(self.path)!r}: {size}, Y {layout.height}, X {layout.width})"

    @property
    def layout(self) -> Layout:
        """The shape that the store was made with."""
        return self._layout

    @property
    def n_positions(self) -> int:
        """Number of positions."""
        return len(self.layout.position_names)

    @property
    def start_frame(self) -> int:
        """The movie's frame that is the first of the result."""
        return int(self.attributes.get("plan", {}).get("start_frame", 0))

    def labels(self, position: int = 0) -> Any:
        """Return the labels of a position: zarr array (T, Z, Y, X), uint32, 0 = background."""
        return self._array(position, LABELS)

    def flows(self, position: int = 0) -> Any:
        """Return the flows (debug only): zarr array (T, Z, 2, Y, X), float32, (dy, dx)."""
        return self._array(position, "flows")

    def cellprob(self, position: int = 0) -> Any:
        """Return the logits (debug only): zarr array (T, Z, Y, X), float32."""
        return self._array(position, "cellprob")

    def status(self, position: int = 0) -> np.ndarray:
        """Return the `Status` of each frame: (T, Z) ndarray of uint8."""
        status = np.asarray(self._array(position, "status")[:])
        if status.max(initial=0) > max(Status):
            raise ResultError(
                f"{self.path}: the status {status.max()} is unknown. The store is damaged, or was "
                "written by a newer version of this package."
            )
        return status

    def cells(self, position: int = 0) -> np.ndarray:
        """Return the number of cells of each frame: (T, Z) ndarray of uint32."""
        return np.asarray(self._array(position, "cells")[:])

    def frames_not_done(self) -> list[tuple[int, int, int, Status]]:
        """Return ``(t, position, z, status)`` of every frame without labels, t as in the movie."""
        return [
            (int(t) + self.start_frame, p, int(z), Status(int(status[t, z])))
            for p in range(self.n_positions)
            for status in (self.status(p),)
            for t, z in zip(*np.nonzero(status != Status.DONE), strict=True)
        ]

    def _array(self, position: int, name: str) -> Any:
        try:
            return self._root[f"{position}/{name}"]
        except KeyError as error:
            raise ResultError(
                f"{self.path}: there is no {name!r} at position {position} (of "
                f"{self.n_positions}). Flows and cellprob are kept only with debug."
            ) from error


def open_result(path: str | Path) -> Result:
    """Open a result for reading; nothing is loaded yet.

    Raises
    ------
    ResultError
        If there is no result of this package at `path`.
    """
    return Result(path)


def create_result(path: Path, layout: Layout, attributes: dict[str, Any]) -> None:
    """Make the whole store, all frames pending, in one rename.

    Parameters
    ----------
    path : Path
        The ``.zarr`` folder; must not exist.
    layout : Layout
    attributes : dict
        JSON values to keep with the result, under ``cypose_dask``.

    Raises
    ------
    ResultError
        If there is anything at `path`.
    """
    import zarr

    with whole_folder(path) as partial:
        kept = {ATTRIBUTES: {**attributes, "layout": _layout_dict(layout)}}
        ome = {"ome": {"version": "0.5", "bioformats2raw.layout": 3}}
        root = zarr.create_group(partial, zarr_format=3, attributes={**kept, **ome})
        for position in range(len(layout.position_names)):
            _create_position(root, position, layout)


def write_block(path: Path, place: tuple[int, int], arrays: dict[str, np.ndarray]) -> str:
    """Write one block's own shards, bring them to the disk, and return a checksum of the labels.

    Parameters
    ----------
    path : Path
        The store.
    place : tuple of int
        Position, and first frame of the block within the result; a multiple of the block length.
    arrays : dict of str to ndarray
        ``labels`` (t, Z, Y, X) uint32; with debug also ``flows`` (t, Z, 2, Y, X) and ``cellprob``
        (t, Z, Y, X), float32.

    Returns
    -------
    str
        Hexadecimal BLAKE2b-128 of the labels' bytes.

    Raises
    ------
    ResultError
        If an array is not exactly one shard of this store. Nothing is written then.
    """
    import zarr

    position, first = place
    root = zarr.open_group(path, mode="r+")
    targets = [(_find(root, position, name), values) for name, values in arrays.items()]
    for array, values in targets:
        require_whole_shard(array, first, values)
    for array, values in targets:
        array[first : first + len(values)] = values
        fsync_shard(array, path, first)
    return hashlib.blake2b(arrays["labels"].tobytes(), digest_size=16).hexdigest()


def require_whole_shard(array: Any, first: int, values: np.ndarray) -> None:
    """Raise ResultError unless `values` fill the shard of frame `first`, and no other, exactly.

    A part of a shard would be read, changed and written back, which loses what another worker
    writes meanwhile; other shapes and types zarr would stretch, cut or wrap in silence.
    """
    step, frames = array.shards[0], array.shape[0]
    expected = ((min(step, frames - first), *array.shape[1:]), array.dtype)
    if not 0 <= first < frames or first % step or (values.shape, values.dtype) != expected:
        raise ResultError(
            f"{array.path}: a block of {values.shape} {values.dtype} at frame {first} is no shard "
            f"of this array of {array.shape} {array.dtype} in shards of {step} frames."
        )


def _find(root: Any, position: int, name: str) -> Any:
    key = f"{position}/{LABELS if name == 'labels' else name}"
    if key not in root:
        raise ResultError(f"{root.store_path}: there is no array {key!r} to write to.")
    return root[key]


def has_shard(path: Path, position: int, index: int) -> bool:
    """Tell whether the labels of block number `index` of a position are on the disk."""
    shard = path / str(position) / LABELS / "c" / str(index) / "0" / "0" / "0"
    # zarr removes the file of a block that became all zero, and leaves its folders.
    return shard.is_file() and shard.stat().st_size > 0


def write_status(path: Path, position: int, status: np.ndarray, cells: np.ndarray) -> None:
    """Write the status and cell count of every frame of a position; for the client alone."""
    import zarr

    root = zarr.open_group(path, mode="r+")
    root[f"{position}/status"][:] = status
    root[f"{position}/cells"][:] = cells


def _layout_dict(layout: Layout) -> dict[str, Any]:
    fields = {name: getattr(layout, name) for name in Layout.__slots__}
    return {**fields, "position_names": list(layout.position_names)}


def _layout_of(attributes: dict[str, Any]) -> Layout:
    fields = dict(attributes["layout"])
    return Layout(**{**fields, "position_names": tuple(fields["position_names"])})


def _create_position(root: Any, position: int, layout: Layout) -> None:
    group = root.create_group(str(position))
    group.create_group("labels", attributes={"ome": {"version": "0.5", "labels": ["cells"]}})
    group.create_group("labels/cells", attributes={"ome": _label_metadata(layout)})
    frame = (layout.planes, layout.height, layout.width)
    _create_sharded(group, LABELS, (layout, frame, "uint32"))
    if layout.debug:
        _create_sharded(group, "flows", (layout, (frame[0], 2, *frame[1:]), "float32"))
        _create_sharded(group, "cellprob", (layout, frame, "float32"))
    for name, dtype in (("status", "uint8"), ("cells", "uint32")):
        shape = (layout.frames, layout.planes)
        group.create_array(
            name, shape=shape, chunks=shape, dtype=dtype, fill_value=0, dimension_names=("t", "z")
        )


def _create_sharded(group: Any, name: str, what: tuple[Layout, tuple[int, ...], str]) -> None:
    from zarr.codecs import ZstdCodec

    layout, frame, dtype = what
    names = ("t", "z", "y", "x") if len(frame) == 3 else ("t", "z", "c", "y", "x")
    group.create_array(
        name,
        shape=(layout.frames, *frame),
        chunks=(1, 1, *frame[1:]),
        shards=(layout.frames_per_block, *frame),
        dtype=dtype,
        fill_value=0,
        compressors=ZstdCodec(level=_ZSTD_LEVEL),
        dimension_names=names,
    )


def _label_metadata(layout: Layout) -> dict[str, Any]:
    """Return OME-NGFF 0.5 metadata of a label image: (t, z, y, x) with scale where it is known."""
    pixel = layout.pixel_size_um
    scale = [layout.interval_s or 1.0, layout.z_step_um or 1.0, pixel or 1.0, pixel or 1.0]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    return {
        "version": "0.5",
        "image-label": {},
        "multiscales": [
            {"name": "cells", "axes": axis_metadata("tzyx", layout), "datasets": [dataset]}
        ],
    }


class Scaled(Protocol):
    """Anything that knows the scale of its axes."""

    @property
    def pixel_size_um(self) -> float | None:
        """Size of a pixel along Y and X."""

    @property
    def z_step_um(self) -> float | None:
        """Distance of planes."""

    @property
    def interval_s(self) -> float | None:
        """Time between frames."""


def axis_metadata(letters: str, scale: Scaled) -> list[dict[str, str]]:
    """Return OME-NGFF axes for some of ``tczyx``, with a unit where the scale is known."""
    kinds = {"t": "time", "c": "channel"}
    known = {"t": scale.interval_s, "z": scale.z_step_um}
    units = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
    return [
        {"name": a, "type": kinds.get(a, "space")}
        | ({"unit": units[a]} if a in units and known.get(a, scale.pixel_size_um) else {})
        for a in letters
    ]


def fsync_shard(array: Any, path: Path, first: int) -> None:
    """Bring the shard that holds frame `first` of an array to the disk, its folders included."""
    # zarr renames its files into place but does not sync them; an all-zero shard has no file.
    root = path / array.path
    shard = root / "c" / str(first // array.shards[0])
    files = [file for file in shard.rglob("*") if file.is_file()] if shard.is_dir() else []
    folders = {folder for file in files for folder in file.parents if folder.is_relative_to(root)}
    for place in (*files, *folders):
        fsync_path(place)
