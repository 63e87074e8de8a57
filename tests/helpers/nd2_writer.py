"""Write small, real ND2 files (version 3.0 of the format) from arrays, for tests.

Every loop, hole and cut that a microscope can leave is an argument. Files open in `nd2` and
in NIS-Elements' own layout: chunks on pages of 4096 bytes, the map of chunks at the end.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

__all__ = ["Nd2Options", "write_nd2"]

MAGIC = 0x0ABECEDA
PAGE = 4096
# Readers assume that pixels begin 16 + 4072 + 8 bytes after the start of their chunk.
PIXEL_NAME_BYTES = 4072
LOOP_TYPES = {"T": 1, "P": 2, "Z": 4, "U": 7}
PHASES_TYPE = 8

FrameMaker = Callable[[int], npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Nd2Options:
    """How an ND2 file is written.

    Attributes
    ----------
    channels
        Names of the channels; ``Ch0``, ``Ch1``, ... without.
    pixel_size_um, z_step_um, period_ms
        Calibration; a period of 0 is "as fast as possible".
    mean_period_ms
        What the microscope measured between two time points.
    phases
        Write T as NIS's "ND acquisition" does, as a loop of one phase.
    compressed
        Lossless (zlib) instead of raw.
    row_padding
        Bytes more a row than its pixels need.
    skip_frames
        Sequence indices that are left out: holes.
    misplace_frames
        Sequence indices whose entry in the map of chunks points behind the end of the file.
    swap_frames
        Whether the map of chunks names the first two frames the wrong way round.
    truncate_to
        Cut the file at this byte.
    fluorescent_probe
        Whether channels have the entry without which nd2's metadata parser fails.
    """

    channels: Sequence[str] = ()
    pixel_size_um: float = 0.1625
    z_step_um: float = 1.0
    period_ms: float = 1.8e6
    mean_period_ms: float = 0.0
    phases: bool = False
    compressed: bool = False
    row_padding: int = 0
    skip_frames: Collection[int] = ()
    misplace_frames: Collection[int] = ()
    swap_frames: bool = False
    truncate_to: int | None = None
    fluorescent_probe: bool = True


def write_nd2(
    path: str | Path,
    pixels: npt.NDArray[Any] | tuple[int, ...],
    axes: str = "TPCYX",
    *,
    frames: FrameMaker | None = None,
    **options: Any,
) -> str:
    """Write an ND2 file.

    Parameters
    ----------
    path
        Where to.
    pixels
        The movie, uint8, uint16 or float32; only its shape if `frames` makes the pixels.
    axes
        Letters of T, P, Z (U for a custom loop) in any order, then C if there are channels,
        then YX, then S for 3 RGB samples.
    frames
        Makes the frame (Y, X, C) of a sequence index, for files larger than memory.
    **options
        Fields of `Nd2Options`.
    """
    shape = pixels if isinstance(pixels, tuple) else pixels.shape
    plan = _Plan.of(shape, axes, Nd2Options(**options))
    dtype = np.dtype(np.uint16) if isinstance(pixels, tuple) else pixels.dtype
    maker = frames or _frames_of(np.asarray(pixels), plan)
    with Path(path).open("wb") as file:
        _Writer(file, plan, dtype).write(maker)
        if plan.options.truncate_to is not None:
            file.truncate(plan.options.truncate_to)
    return str(path)


@dataclass(frozen=True)
class _Plan:
    """Loops (letter, count) from outermost to innermost, and the form of a frame."""

    loops: tuple[tuple[str, int], ...]
    height: int
    width: int
    channels: int
    samples: int
    options: Nd2Options

    @classmethod
    def of(cls, shape: Sequence[int], axes: str, options: Nd2Options) -> _Plan:
        sizes = list(zip(axes, shape, strict=True))
        loops = tuple((a, n) for a, n in sizes if a in LOOP_TYPES)
        last = dict(sizes)
        assert axes[len(loops) :].lstrip("C").rstrip("S") == "YX", axes
        samples = last.get("S", 1)
        return cls(loops, last["Y"], last["X"], last.get("C", 1), samples, options)

    @property
    def frames(self) -> int:
        return math.prod(count for _, count in self.loops)

    @property
    def components(self) -> int:
        return self.channels * self.samples

    def time_index(self, sequence_index: int) -> int:
        for letter, count in reversed(self.loops):
            if letter == "T":
                return sequence_index % count
            sequence_index //= count
        return sequence_index


def _frames_of(pixels: npt.NDArray[Any], plan: _Plan) -> FrameMaker:
    """Frames as they are stored: channels and samples side by side in each pixel."""
    flat = pixels.reshape(plan.frames, plan.channels, plan.height, plan.width, plan.samples)

    def frame(i: int) -> npt.NDArray[Any]:
        return np.moveaxis(flat[i], 0, 2).reshape(plan.height, plan.width, plan.components)

    return frame


@dataclass
class _Writer:
    """Writes chunks one after the other and remembers where they are."""

    file: BinaryIO
    plan: _Plan
    dtype: np.dtype[Any]
    chunks: list[tuple[bytes, int, int]] = field(default_factory=list)

    def write(self, maker: FrameMaker) -> None:
        signature = b"ND2 FILE SIGNATURE CHUNK NAME01!" + b"Ver3.0".ljust(64, b"\0")
        self.file.write(struct.pack("<IIQ", MAGIC, 32, 64) + signature)
        experiment = _experiment(self.plan)
        if experiment:
            self._chunk(b"ImageMetadataLV!", _lite("SLxExperiment", experiment))
        self._chunk(b"ImageMetadataSeqLV|0!", _lites(_picture_metadata(self.plan)))
        self._pixels(maker)
        self._chunk(b"ImageTextInfoLV!", _lites({"SLxImageTextInfo": {"TextInfoItem_5": "test"}}))
        self._chunk(b"ImageAttributesLV!", _lites(_attributes(self.plan, self.dtype)))
        self._map()

    def _chunk(self, name: bytes, data: bytes, name_bytes: int = 0) -> None:
        self.file.write(b"\0" * (-self.file.tell() % PAGE))
        name_bytes = name_bytes or -(16 + len(name)) % PAGE + len(name)
        self.chunks.append((name, self.file.tell(), len(data)))
        self.file.write(struct.pack("<IIQ", MAGIC, name_bytes, len(data)))
        self.file.write(name.ljust(name_bytes, b"\0") + data)

    def _pixels(self, maker: FrameMaker) -> None:
        for i in range(self.plan.frames):
            if i in self.plan.options.skip_frames:
                continue
            stamp = struct.pack("<d", self.plan.time_index(i) * self.plan.options.period_ms)
            data = stamp + self._encoded(maker(i))
            self._chunk(f"ImageDataSeq|{i}!".encode(), data, PIXEL_NAME_BYTES)

    def _encoded(self, frame: npt.NDArray[Any]) -> bytes:
        rows = np.ascontiguousarray(frame, self.dtype).reshape(self.plan.height, -1)
        padding = b"\0" * self.plan.options.row_padding
        data = b"".join(row.tobytes() + padding for row in rows)
        return zlib.compress(data) if self.plan.options.compressed else data

    def _map(self) -> None:
        self.file.write(b"\0" * (-self.file.tell() % PAGE))
        where = self.file.tell()
        entries = b"".join(n + struct.pack("<QQ", at, size) for n, at, size in self._entries())
        data = entries + b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", where)
        name = b"ND2 FILEMAP SIGNATURE NAME 0001!".ljust(PAGE - 16, b"\0")
        self.file.write(struct.pack("<IIQ", MAGIC, len(name), len(data)) + name + data)

    def _entries(self) -> list[tuple[bytes, int, int]]:
        entries = list(self.chunks)
        names = [name for name, _, _ in entries]
        for i in self.plan.options.misplace_frames:
            at = names.index(f"ImageDataSeq|{i}!".encode())
            entries[at] = (entries[at][0], self.file.tell() + 2**30, entries[at][2])
        if self.plan.options.swap_frames:
            a, b = (names.index(f"ImageDataSeq|{i}!".encode()) for i in (0, 1))
            entries[a], entries[b] = (names[a], *entries[b][1:]), (names[b], *entries[a][1:])
        return entries


# ---- metadata ------------------------------------------------------------------------------


def _experiment(plan: _Plan) -> dict[str, Any] | None:
    """Nest the loops, outermost first."""
    inner: dict[str, Any] | None = None
    for letter, count in reversed(plan.loops):
        phases = letter == "T" and plan.options.phases
        loop: dict[str, Any] = {
            "eType": PHASES_TYPE if phases else LOOP_TYPES[letter],
            "uLoopPars": _loop_parameters(letter, count, plan.options),
            "uiNextLevelCount": int(inner is not None),
        }
        if letter == "P":
            loop["pItemValid"] = b"\1" * count
        if inner is not None:
            loop["ppNextLevelEx"] = [inner]
        inner = loop
    return inner


def _loop_parameters(letter: str, count: int, options: Nd2Options) -> dict[str, Any]:
    if letter == "T":
        period = _period(count, options)
        phases = {"uiPeriodCount": 1, "uiCount": count, "pPeriod": [period], "pPeriodValid": b"\1"}
        return phases if options.phases else period
    if letter == "P":
        return {"uiCount": count, "bUseZ": False, "bRelativeXY": False, "Points": _points(count)}
    if letter == "Z":
        height, home = options.z_step_um * (count - 1), options.z_step_um * (count // 2)
        return {
            "uiCount": count, "dZLow": 0.0, "dZHigh": height, "dZStep": options.z_step_um,
            "dZHome": home, "iType": 2, "bZInverted": False, "wsZDevice": "Ti ZDrive",
        }  # fmt: skip
    return {"uiCount": count}


def _period(count: int, options: Nd2Options) -> dict[str, Any]:
    return {
        "uiCount": count, "dStart": 0.0, "dPeriod": float(options.period_ms),
        "dDuration": float(options.period_ms) * (count - 1), "bDurationPref": False,
        "dMaxPeriodDiff": 0.0, "dMinPeriodDiff": 0.0, "dAvgPeriodDiff": options.mean_period_ms,
    }  # fmt: skip


def _points(count: int) -> list[dict[str, Any]]:
    return [
        {
            "dPosX": 400.0 * i, "dPosY": 0.0, "dPosZ": 0.0, "dPFSOffset": -1.0,
            "dPosName": f"P{i + 1}",
        }
        for i in range(count)
    ]  # fmt: skip


def _picture_metadata(plan: _Plan) -> dict[str, Any]:
    planes = {f"a{i}": _plane(name, plan) for i, name in enumerate(_channel_names(plan))}
    pixel = float(plan.options.pixel_size_um)
    return {
        "SLxPictureMetadata": {
            "dTimeMSec": 0.0, "dTimeAbsolute": 2460000.5, "dXPos": 0.0, "dYPos": 0.0, "dZPos": 0.0,
            "dAngle": 0.0, "bCalibrated": pixel > 0, "dCalibration": pixel, "dObjectiveMag": 40.0,
            "dObjectiveNA": 0.95, "dZoom": 1.0, "wsObjectiveName": "synthetic",
            "sPicturePlanes": {
                "uiCount": plan.channels, "uiCompCount": plan.components, "sPlaneNew": planes,
                "uiSampleCount": 0, "sSampleSetting": {},
            },
        }
    }  # fmt: skip


def _channel_names(plan: _Plan) -> Sequence[str]:
    return plan.options.channels or [f"Ch{i}" for i in range(plan.channels)]


def _plane(name: str, plan: _Plan) -> dict[str, Any]:
    plane = {
        "uiCompCount": plan.samples, "uiSampleIndex": 0, "uiModalityMask": 1, "uiColor": 0xFFFFFF,
        "sDescription": name, "dAcqTime": 0.0,
    }  # fmt: skip
    if plan.options.fluorescent_probe:
        spectrum = {"uiCount": 0, "pPoint": {}, "bPoints": False}
        plane["pFluorescentProbe"] = {
            "m_sName": "", "m_uiColor": 0xFFFFFF, "m_ExcitationSpectrum": spectrum,
            "m_EmissionSpectrum": spectrum,
        }  # fmt: skip
    return plane


def _attributes(plan: _Plan, dtype: np.dtype[Any]) -> dict[str, Any]:
    bits = dtype.itemsize * 8
    row = plan.width * plan.components * dtype.itemsize + plan.options.row_padding
    compression = {"eCompression": 0, "dCompressionParam": 1.0} if plan.options.compressed else {
        "eCompression": 2, "dCompressionParam": 0.0,
    }  # fmt: skip
    return {
        "SLxImageAttributes": {
            "uiWidth": plan.width, "uiWidthBytes": row, "uiHeight": plan.height,
            "uiComp": plan.components, "uiBpcInMemory": bits, "uiBpcSignificant": bits,
            "uiSequenceCount": plan.frames, "uiTileWidth": plan.width,
            "uiTileHeight": plan.height, "ePixelType": 2 if dtype.kind == "f" else 1,
            "uiVirtualComponents": plan.components, **compression,
        }
    }  # fmt: skip


# ---- "CLX lite", the encoding of metadata: type, name length, UTF-16 name, value ------------


def _lites(items: Mapping[str, Any]) -> bytes:
    return b"".join(_lite(name, value) for name, value in items.items())


def _lite(name: str, value: Any) -> bytes:
    text = (name + "\0").encode("utf-16-le")
    kind, data = _scalar(value) if not isinstance(value, (Mapping, list)) else (11, b"")
    head = struct.pack("<BB", kind, len(text) // 2) + text
    return head + (data if kind != 11 else _group(value, len(head) + 12))


def _scalar(value: Any) -> tuple[int, bytes]:
    if isinstance(value, bool):
        return 1, struct.pack("<B", value)
    if isinstance(value, int):
        return (3, struct.pack("<I", value)) if value >= 0 else (2, struct.pack("<i", value))
    if isinstance(value, float):
        return 6, struct.pack("<d", value)
    if isinstance(value, str):
        return 8, (value + "\0").encode("utf-16-le")
    return 9, struct.pack("<Q", len(value)) + value


def _group(value: Mapping[str, Any] | list[Any], head_bytes: int) -> bytes:
    """Count, length up to the end of the children, the children, then an offset for each."""
    items = value.items() if isinstance(value, Mapping) else [("", child) for child in value]
    body, offsets = b"", []
    for name, child in items:
        offsets.append(head_bytes + len(body))
        body += _lite(name, child)
    table = b"".join(struct.pack("<Q", offset) for offset in offsets)
    return struct.pack("<IQ", len(offsets), head_bytes + len(body)) + body + table
