"""Lengths in micrometres and durations in seconds, from the units that files use."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["micrometres", "seconds", "square_pixel"]

# Source: OME-XML 2016-06 UnitsLength, ImageJ's Calibration and NGFF's UDUNITS names.
MICROMETRES = {
    "um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0,
    "micrometre": 1.0, "\\u00b5m": 1.0, "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3,
    "millimeter": 1e3, "cm": 1e4, "centimeter": 1e4, "m": 1e6, "meter": 1e6, "inch": 25_400.0,
    "å": 1e-4, "angstrom": 1e-4, "pm": 1e-6, "picometer": 1e-6,
}  # fmt: skip
SECONDS = {
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3,
    "millisecond": 1e-3, "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hr": 3600.0,
    "hour": 3600.0, "hours": 3600.0, "d": 86_400.0, "day": 86_400.0, "us": 1e-6, "µs": 1e-6,
    "microsecond": 1e-6, "ns": 1e-9, "nanosecond": 1e-9,
}  # fmt: skip


def micrometres(value: Any, unit: str | None) -> float | None:
    """Convert a length to micrometres; None if it is absent, zero or of an unknown unit."""
    return _converted(value, MICROMETRES.get((unit or "").strip().lower()))


def seconds(value: Any, unit: str | None) -> float | None:
    """Convert a duration to seconds; None if it is absent, zero or of an unknown unit."""
    return _converted(value, SECONDS.get((unit or "").strip().lower()))


def _converted(value: Any, factor: float | None) -> float | None:
    number = float(value) if value not in (None, "") else 0.0
    if factor is None or not math.isfinite(number) or number <= 0:
        return None
    return number * factor


def square_pixel(x: float | None, y: float | None) -> float | None:
    """Return the pixel size if it is known and the same along X and Y."""
    if x is None or y is None or not math.isclose(x, y, rel_tol=1e-3):
        return None
    return x
