"""zarr arrays and OME-Zarr (versions 0.1 to 0.5, zarr formats 2 and 3).

A group of images in the bioformats2raw layout is a movie of several positions: NGFF itself has
no P. A chunk that was never written reads as the fill value, by the definition of zarr; here
alone a missing frame cannot be told from an empty one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from cypose_dask.errors import MovieError
from cypose_dask.movies import files, handles
from cypose_dask.movies.axes import full_sizes, settle_axes
from cypose_dask.movies.fingerprint import Fingerprint, sample_positions
from cypose_dask.movies.source import Description, Stamp
from cypose_dask.movies.units import micrometres, seconds, square_pixel
from cypose_dask.movies.zarr_checks import require_chunks, require_frames, require_harmless

__all__ = ["ZarrLayout", "describe_zarr"]

ROOT_FILES = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
# zarr and numcodecs raise these on damaged metadata or chunks.
ZARR_ERRORS = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, OSError,
    EOFError, AssertionError,
)  # fmt: skip
PIXEL_KINDS = "biuf"
# NGFF 0.1 and 0.2 have no axes entry; the order was fixed.
EARLY_AXES = "TCZYX"
SAMPLED_CHUNKS = 8
SAMPLED_BYTES = 64 * 1024


@dataclass(frozen=True)
class ZarrImage:
    """One image of a store: its array, its axes, and the metadata entry it was found by."""

    path: str
    array: Any
    axes: str | None
    multiscale: Mapping[str, Any]
    attributes: Mapping[str, Any]


class ZarrHandle:
    """The open images of a zarr store, one for each position."""

    def __init__(self, path: str) -> None:
        import zarr

        self.path = path
        try:
            self.images = _find_images(path, zarr.open(path, mode="r"))
        except ZARR_ERRORS as error:
            if isinstance(error, MovieError):
                raise
            raise MovieError(
                f"{path}: not a readable zarr ({type(error).__name__}: {error}); expected an "
                "array or an OME-Zarr image. It may be incomplete: copy it again."
            ) from error

    def close(self) -> None:
        """Nothing stays open: zarr opens its files chunk by chunk."""


def lease_zarr(path: str, stamp: Stamp) -> AbstractContextManager[ZarrHandle]:
    """Borrow this process's handle of a file, opening it at the first call."""
    return handles.lease((ZarrHandle, path, stamp), lambda: ZarrHandle(path))


@dataclass(frozen=True, slots=True)
class ZarrLayout:
    """Axes of the images of a store, a letter each; `stacked` if there is one a position."""

    letters: str
    stacked: bool = False

    def lease(self, path: str, stamp: Stamp) -> AbstractContextManager[ZarrHandle]:
        """Borrow this process's handle of the file; it is opened at the first call."""
        return lease_zarr(path, stamp)

    def check(self, path: str, stamp: Stamp) -> None:
        """Raise MovieError if the store's metadata is no longer what was opened."""
        files.check_file(str(_root_file(path)), stamp)

    def read(
        self, handle: ZarrHandle, at: tuple[int, int, int], channels: Sequence[int]
    ) -> npt.NDArray[Any]:
        """Read one frame as (C, Y, X)."""
        image = handle.images[at[1] if self.stacked else 0]
        with files.reading_errors(handle.path, at, *ZARR_ERRORS):
            return np.stack([self._plane(image.array, at, c) for c in channels])

    def _plane(self, array: Any, at: tuple[int, int, int], channel: int) -> npt.NDArray[Any]:
        where: dict[str, int | slice] = dict(zip("TPZC", (*at, channel), strict=True))
        where |= {"Y": slice(None), "X": slice(None)}
        plane = np.asarray(array[tuple(where.get(letter, 0) for letter in self.letters)])
        return plane if self.letters.index("Y") < self.letters.index("X") else plane.T


def describe_zarr(path: str, *, axes: str | None, allow_damaged: bool) -> Description:
    """Find out what a zarr directory holds.

    Raises
    ------
    MovieError
        If it is no array or image, its images differ, its axes cannot be named, or it has no
        frames or no chunks (the latter unless `allow_damaged`).
    """
    stamp = files.stamp_of_file(str(_root_file(path)))
    with lease_zarr(path, stamp) as handle:
        return _described(handle, stamp, axes, allow_damaged)


def _described(
    handle: ZarrHandle, stamp: Stamp, axes: str | None, allow_damaged: bool
) -> Description:
    image = _common_image(handle)
    stored, shape = _stored_axes(handle, image), tuple(int(n) for n in image.array.shape)
    settled = settle_axes(stored, shape, axes)
    sizes = settled.sizes(shape)
    stacked = len(handle.images) > 1
    if "S" in sizes or (stacked and "P" in sizes):
        raise MovieError(
            f"{handle.path}: found the axes {settled.letters!r} in each of {len(handle.images)} "
            "images; expected T, Z, C, Y, X. Give axes= (--axes)."
        )
    sizes = full_sizes(sizes | ({"P": len(handle.images)} if stacked else {}))
    files.require_sane_frame(handle.path, (sizes[a] for a in "CYX"))
    require_frames(handle.path, sizes)
    require_harmless(handle.path, image.array, settled.letters)
    for each in handle.images if not allow_damaged else ():
        require_chunks(handle.path, each.array)
    return Description(
        format="zarr",
        path=handle.path,
        layout=ZarrLayout(settled.letters, stacked),
        stamp=stamp,
        fingerprint=_fingerprint(handle, stamp),
        sizes=sizes,
        dtype=np.dtype(image.array.dtype).newbyteorder("="),
        position_names=_position_names(handle) if stacked else (),
        notes=settled.notes + _chunk_notes(image.array, settled.letters),
        **_metadata(image, settled.letters),
    )


def _root_file(path: str) -> Path:
    """Return the metadata file that stands for the whole store when changes are looked for."""
    for name in ROOT_FILES:
        if (Path(path) / name).is_file():
            return Path(path) / name
    raise MovieError(f"{path}: found no {', '.join(ROOT_FILES)}; expected a zarr directory.")


# ---- which arrays are images ---------------------------------------------------------------


def _find_images(path: str, root: Any) -> list[ZarrImage]:
    if not hasattr(root, "members"):
        return [_plain_array(root)]
    ome = _ome_attributes(root)
    if "multiscales" in ome:
        return [_multiscale_image(root, "")]
    if "bioformats2raw.layout" in ome:
        return [_multiscale_image(root[name], name) for name in _series_names(root)]
    children = sorted(name for name, _ in root.members())
    raise MovieError(
        f"{path}: found a zarr group without an image (its members: "
        f"{', '.join(children[:8]) or 'none'}); expected OME-Zarr multiscales, a bioformats2raw "
        "layout or an array. Give the path of the image or array inside, such as "
        f"'{path}/{children[0] if children else '0'}'."
    )


def _ome_attributes(group: Any) -> Mapping[str, Any]:
    """Return OME metadata: below the key ``ome`` since 0.5, at the top before."""
    attributes = group.attrs.asdict()
    return cast("Mapping[str, Any]", attributes.get("ome", attributes))


def _plain_array(array: Any) -> ZarrImage:
    """Take axes that a plain array states itself: dimension names, or xarray's attribute."""
    attributes = array.attrs.asdict()
    names = getattr(array.metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS")
    return ZarrImage("", array, _letters(names) if names else None, {}, {})


def _multiscale_image(group: Any, path: str) -> ZarrImage:
    ome = _ome_attributes(group)
    multiscale = ome["multiscales"][0]
    array = group[multiscale["datasets"][0]["path"]]
    entries = multiscale.get("axes")
    axes = _letters(_axis_names(entries)) if entries else EARLY_AXES[-array.ndim :]
    return ZarrImage(path, array, axes, multiscale, ome)


def _axis_names(entries: Sequence[Any]) -> list[str]:
    return [entry["name"] if isinstance(entry, Mapping) else str(entry) for entry in entries]


def _letters(names: Sequence[str | None]) -> str:
    """One letter an axis; ``U`` for a name that is not one of our words."""
    words = {
        "t": "T", "time": "T", "p": "P", "position": "P", "z": "Z", "c": "C", "channel": "C",
        "y": "Y", "x": "X", "s": "S",
    }  # fmt: skip
    return "".join(words.get((name or "").lower(), "U") for name in names)


def _series_names(root: Any) -> list[str]:
    """Return the images in order: as OME/ lists them, else 0, 1, 2, ... without a gap."""
    if "OME" in root:
        listed = _ome_attributes(root["OME"]).get("series")
        if listed:
            return [str(name) for name in listed]
    names: list[str] = []
    for i in count():
        if str(i) not in root:
            return names
        names.append(str(i))
    return names


def _common_image(handle: ZarrHandle) -> ZarrImage:
    """Return the first image after checking that all are alike."""
    kinds = {(im.axes, tuple(im.array.shape), str(im.array.dtype)) for im in handle.images}
    if len(kinds) != 1:
        listed = "; ".join(str(kind) for kind in sorted(kinds, key=str)[:3]) or "none"
        raise MovieError(
            f"{handle.path}: found images of different kinds ({listed}); expected one or more "
            "of the same axes, sizes and type. Open one of them by its own path."
        )
    dtype = handle.images[0].array.dtype
    if dtype.kind not in PIXEL_KINDS:
        raise MovieError(f"{handle.path}: found pixels of type {dtype}; expected real numbers.")
    return handle.images[0]


def _stored_axes(handle: ZarrHandle, image: ZarrImage) -> str:
    if image.axes is not None and len(image.axes) != image.array.ndim:
        raise MovieError(
            f"{handle.path}: the metadata names {len(image.axes)} axes ({image.axes}), the array "
            f"has {image.array.ndim} with sizes {image.array.shape}. The store is damaged."
        )
    # Foreign to every rule: an array that does not say what its axes are must be asked about.
    return image.axes or "U" * image.array.ndim


# ---- names, units, fingerprint -------------------------------------------------------------


def _position_names(handle: ZarrHandle) -> tuple[str, ...]:
    names = [str(image.multiscale.get("name") or image.path) for image in handle.images]
    unique = len(set(names)) == len(names)
    return tuple(names if unique else (image.path for image in handle.images))


def _metadata(image: ZarrImage, letters: str) -> dict[str, Any]:
    """Return units and names under the names of `Description`; absent ones left out."""
    try:
        scale = _scale(image, letters)
        units = _units(image, letters)
        found = {
            "pixel_size_um": square_pixel(
                micrometres(scale.get("X"), units.get("X")),
                micrometres(scale.get("Y"), units.get("Y")),
            ),
            "z_step_um": micrometres(scale.get("Z"), units.get("Z")),
            "interval_s": seconds(scale.get("T"), units.get("T")),
            "channel_names": _channel_names(image),
        }
    except ZARR_ERRORS:
        return {}  # metadata is best effort
    return {key: value for key, value in found.items() if value}


def _scale(image: ZarrImage, letters: str) -> dict[str, float]:
    """Size of a step along each axis: that of the dataset times that of the image."""
    if not image.multiscale:
        return {}
    scale = dict.fromkeys(letters, 1.0)
    for entry in (image.multiscale["datasets"][0], image.multiscale):
        for transform in entry.get("coordinateTransformations", ()):
            if transform["type"] == "scale":
                for letter, factor in zip(letters, transform["scale"], strict=True):
                    scale[letter] *= float(factor)
    return scale


def _units(image: ZarrImage, letters: str) -> dict[str, str]:
    entries = image.multiscale.get("axes", ())
    return {
        letter: str(entry.get("unit", ""))
        for letter, entry in zip(letters, entries, strict=False)
        if isinstance(entry, Mapping)
    }


def _channel_names(image: ZarrImage) -> tuple[str, ...]:
    channels = image.attributes.get("omero", {}).get("channels", ())
    return tuple(str(c.get("label") or i) for i, c in enumerate(channels))


def _chunk_notes(array: Any, letters: str) -> tuple[str, ...]:
    frames = [n for letter, n in zip(letters, array.chunks, strict=True) if letter in "TPZ"]
    together = int(np.prod(frames)) if frames else 1
    if together == 1:
        return ()
    return (
        f"Chunks of the zarr hold {together} frames each: every frame read decodes all of them.",
    )


def _fingerprint(handle: ZarrHandle, stamp: Stamp) -> Fingerprint:
    """Hash the metadata and samples of the chunks as they are stored."""
    digest = hashlib.sha256()
    nbytes = 0
    chosen = set(sample_positions(len(handle.images), SAMPLED_CHUNKS))
    for i, image in enumerate(handle.images):
        nbytes += int(image.array.nbytes)
        digest.update(f"{image.path} {image.axes} {image.array.shape} {image.array.dtype}".encode())
        if i in chosen:
            for data in _chunk_samples(handle.path, image):
                digest.update(data)
    return Fingerprint(nbytes, digest.hexdigest(), stamp.mtime_ns)


def _chunk_samples(root: str, image: ZarrImage) -> list[bytes]:
    """Return the first bytes of evenly spaced chunk (or shard) files; absent ones are empty."""
    array = image.array
    stored = getattr(array, "shards", None) or array.chunks
    grid = [-(-n // chunk) for n, chunk in zip(array.shape, stored, strict=True)]
    samples = []
    for i in sample_positions(int(np.prod(grid)), SAMPLED_CHUNKS):
        at = tuple(int(k) for k in np.unravel_index(i, grid))
        file = Path(root) / array.path / array.metadata.encode_chunk_key(at)
        samples.append(_head(file))
    return samples


def _head(file: Path) -> bytes:
    if not file.is_file():
        return b"absent"
    with file.open("rb") as opened:
        return opened.read(SAMPLED_BYTES)
