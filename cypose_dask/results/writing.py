"""Make a result's store and write into it: blocks by workers, the status by the client."""

from __future__ import annotations

import functools
import hashlib
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from cypose_dask.errors import ResultError
from cypose_dask.results.atomic import fsync_path, whole_folder
from cypose_dask.results.layout import Layout
from cypose_dask.results.ngff import label_metadata
from cypose_dask.results.store import ATTRIBUTES, COUNTS, LABELS, declared, file_of

__all__ = [
    "checksum",
    "create_labels",
    "create_result",
    "fsync_shard",
    "require_inside",
    "require_whole_shard",
    "write_block",
    "write_status",
]

# Plain zstd is both smaller and faster on labels than any shuffle in front of it.
_ZSTD_LEVEL = 1
_AXES = {2: ("t", "z"), 4: ("t", "z", "y", "x"), 5: ("t", "z", "c", "y", "x")}
# Of a block's labels; starts with its first bytes, if any, and can be given more.
checksum = functools.partial(hashlib.blake2b, digest_size=16)


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
        own = {"layout": layout.to_dict(), "token": secrets.token_hex(8)}
        kept = {ATTRIBUTES: {**attributes, **own}}
        ome = {"ome": {"version": "0.5", "bioformats2raw.layout": 3}}
        root = zarr.create_group(partial, zarr_format=3, attributes={**kept, **ome})
        for position in range(len(layout.position_names)):
            _create_position(root, position, layout)


def write_block(
    path: Path, place: tuple[int, int], arrays: dict[str, np.ndarray], token: str | None = None
) -> str:
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
    token : str or None
        Of the store that the block was computed for; None writes to any.

    Returns
    -------
    str
        Hexadecimal BLAKE2b-128 of the labels' bytes.

    Raises
    ------
    ResultError
        If an array is not exactly one shard of this store, or there is another store by now.
        Nothing is written then.
    """
    import zarr

    position, first = place
    root = zarr.open_group(path, mode="r+")
    targets = [(_find(root, position, name), values) for name, values in arrays.items()]
    if token not in (None, root.attrs[ATTRIBUTES].get("token")):
        raise ResultError(
            f"{path} was made anew while a block of the earlier result was computed. The block was "
            "not written."
        )
    for array, values in targets:
        require_whole_shard(array, first, values)
        require_inside(path, array, first)
    for array, values in targets:
        array[first : first + len(values)] = values
        fsync_shard(array, path, first)
    return checksum(arrays["labels"].tobytes()).hexdigest()


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


def require_inside(path: Path, array: Any, first: int = 0) -> None:
    """Raise ResultError if links lead the file that holds frame `first` out of the store."""
    index = first // (array.shards or array.chunks)[0]
    file = file_of(path / array.path, index, array.ndim)
    if not file.resolve().is_relative_to(path.resolve()):
        raise ResultError(
            f"{file} is a link out of the store, to {file.resolve()}. Nothing was written; remove "
            "the link."
        )


def _find(root: Any, position: int, name: str) -> Any:
    key = f"{position}/{LABELS if name == 'labels' else name}"
    if key not in root:
        raise ResultError(f"{root.store_path}: there is no array {key!r} to write to.")
    # A file for zeros too: one that is lost would else look like a frame without cells.
    return root[key].with_config({"write_empty_chunks": True})


def write_status(path: Path, position: int, status: np.ndarray, cells: np.ndarray) -> None:
    """Write the status and cell count of every frame of a position; for the client alone."""
    import zarr

    root = zarr.open_group(path, mode="r+")
    for name, values in (("status", status), ("cells", cells)):
        array = root[f"{position}/{name}"]
        require_inside(path, array)
        array[:] = values


def _create_position(root: Any, position: int, layout: Layout) -> None:
    group = root.create_group(str(position))
    create_labels(group, layout)
    for name in (*layout.arrays(), *COUNTS):
        if name != LABELS:
            _create_array(group, name, layout)


def create_labels(group: Any, layout: Layout, image_label: dict[str, Any] | None = None) -> None:
    """Make the labels of one position, all zero, in its group.

    Parameters
    ----------
    group : zarr.Group
        Of the position.
    layout : Layout
    image_label : dict or None
        What OME-NGFF keeps under ``image-label``, such as the source of the labels.
    """
    ome = {**label_metadata(layout), "image-label": image_label or {}}
    group.create_group("labels", attributes={"ome": {"version": "0.5", "labels": ["cells"]}})
    group.create_group("labels/cells", attributes={"ome": ome})
    _create_array(group, LABELS, layout)


def _create_array(group: Any, name: str, layout: Layout) -> None:
    from zarr.codecs import ZstdCodec

    shape, dtype, chunks, shards, fill_value = declared(layout, name)
    group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        shards=shards,
        dtype=dtype,
        fill_value=fill_value,
        compressors=ZstdCodec(level=_ZSTD_LEVEL),
        dimension_names=_AXES[len(shape)],
    )


def fsync_shard(array: Any, path: Path, first: int) -> None:
    """Bring the shard that holds frame `first` of an array to the disk, its folders included."""
    # zarr renames its files into place but does not sync them.
    root = path / array.path
    shard = root / "c" / str(first // array.shards[0])
    files = [file for file in shard.rglob("*") if file.is_file()] if shard.is_dir() else []
    folders = {folder for file in files for folder in file.parents if folder.is_relative_to(root)}
    for place in (*files, *folders):
        fsync_path(place)
