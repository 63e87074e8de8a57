"""What the OME-XML of a TIFF may ask of a reader.

The XML names files and counts planes, and tifffile believes it: it opens any file
that is named and makes a list as long as what is counted. So the XML is examined before.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

from cypose_dask.errors import MovieError
from cypose_dask.movies import files

__all__ = ["require_harmless"]


def require_harmless(path: str, xml: str) -> None:
    """Examine the OME-XML of a file before it is believed.

    Raises
    ------
    MovieError
        If it defines entities, names a file outside of the movie's folder or one that is no
        regular file, or counts far more planes than its files can hold.
    """
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise MovieError(
            f"{path}: its OME-XML defines a document type or entities; expected neither. They "
            "can make a small file fill the memory. Save the movie again with another program."
        )
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return  # tifffile reports it, and the file is refused as damaged
    members = [_member(path, name) for name in _foreign_names(root)]
    size = sum(file.stat().st_size for file in (Path(path), *members) if file.is_file())
    for counted in (_declared(root), _mapped(root), _modulo(root)):
        files.require_plausible_count(path, sum(counted), size)


def _foreign_names(root: ElementTree.Element) -> set[str]:
    """Return the names of files that are not this file itself."""
    own = root.get("UUID")
    uuids = [e for e in root.iter() if _tag(e) == "UUID"]
    return {e.get("FileName", "") for e in uuids if own is None or e.text != own}


def _member(path: str, name: str) -> Path:
    """Return the path of a part of the movie, which must lie in the movie's folder."""
    parts = PureWindowsPath(name)  # knows both kinds of slashes
    member = Path(path).parent / name
    if parts.anchor or ".." in parts.parts or (member.exists() and not member.is_file()):
        raise MovieError(
            f"{path}: its OME-XML names {name!r} as a part of the movie; expected a regular file "
            "in the same folder. Files elsewhere are not read. Copy the whole set into one "
            "folder and save it there, or save the movie as one file."
        )
    return member


def _declared(root: ElementTree.Element) -> Iterator[float]:
    """Yield how many planes each image declares."""
    for pixels in (e for e in root.iter() if _tag(e) == "Pixels"):
        sizes = [_number(pixels.get(f"Size{axis}", "1")) for axis in "TZC"]
        yield sizes[0] * sizes[1] * sizes[2]


def _mapped(root: ElementTree.Element) -> Iterator[float]:
    """Yield how many planes each entry says to lie in a file."""
    for data in (e for e in root.iter() if _tag(e) == "TiffData"):
        yield max(_number(data.get(name, "0")) for name in ("PlaneCount", "NumPlanes"))


def _modulo(root: ElementTree.Element) -> Iterator[float]:
    """Yield how many steps each axis within an axis has."""
    for along in (e for e in root.iter() if _tag(e).startswith("ModuloAlong")):
        start, end, step = (_number(along.get(a, "1")) for a in ("Start", "End", "Step"))
        yield abs((end - start) / (step or 1))


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _number(text: str) -> float:
    """Return a number; text that is none, or not finite, is refused by tifffile later."""
    try:
        return float(text)
    except ValueError:
        return 0.0
