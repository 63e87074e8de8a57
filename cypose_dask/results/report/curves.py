"""Curves over time as inline SVG: one series a position."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cypose_dask.results.report.escaping import text

__all__ = ["COLORS", "Curve", "Series", "TimeAxis", "draw"]

_WIDTH, _HEIGHT = 640, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 10, 34
COLORS = 8
# Points of all series of one curve; more could not be told apart, and the page has to stay small.
_MOST_POINTS = 4000
_LEAST_BUCKETS = 20
_TICKS_X, _TICKS_Y = 8, 4


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one position, (n,), at frames of the movie, (n,); NaN where unknown."""

    name: str
    times: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One measure of all positions.

    Attributes
    ----------
    title, unit : str
    series : tuple of Series
    dotted : bool
        Whether only some frames were measured, which are drawn as dots.
    note : str
        Where the numbers come from.
    """

    title: str
    unit: str
    series: tuple[Series, ...]
    dotted: bool
    note: str

    @property
    def is_known(self) -> bool:
        """Whether any value is known."""
        return any(np.isfinite(one.values).any() for one in self.series)


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """First and last frame of the movie that are shown, and seconds between frames."""

    first: int
    last: int
    interval_s: float | None

    def place(self, t: np.ndarray | float) -> np.ndarray:
        """Return where frames are drawn, px."""
        share = (np.asarray(t, np.float64) - self.first) / max(self.last - self.first, 1)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def draw(curve: Curve, axis: TimeAxis, marked: Sequence[int] = ()) -> str:
    """Draw a curve as SVG, with marks under some frames of the movie."""
    low, high, ticks = _value_range(curve)
    body = [
        *_value_ticks(ticks, (low, high)),
        *_time_ticks(axis),
        *_marks(axis, marked),
        '<line class="cursor" x1="0" x2="0" y1="10" y2="156" visibility="hidden"/>',
        *(_series(one, i, curve, axis, (low, high)) for i, one in enumerate(curve.series)),
    ]
    label = text(f"{curve.title}. {_summary(curve)}")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}" '
        f'data-first="{axis.first}" data-last="{axis.last}" data-left="{_LEFT}" '
        f'data-right="{_WIDTH - _RIGHT}">{"".join(body)}</svg>'
    )


def _summary(curve: Curve) -> str:
    """Say in words what a curve shows, for those who do not see it."""
    spans = []
    for one in curve.series:
        known = one.values[np.isfinite(one.values)]
        if len(known):
            first, last, low, high = (_number(v) for v in (known[0], known[-1], *_span(known)))
            spans.append(f"{one.name}: from {first} to {last}, between {low} and {high}")
    return "; ".join(spans[:12]) + (f" {curve.unit}." if spans else "Unknown.")


def _span(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _value_range(curve: Curve) -> tuple[float, float, list[float]]:
    known = np.concatenate([one.values[np.isfinite(one.values)] for one in curve.series])
    low, high = _span(known)
    if low >= 0 and low < 0.6 * high:
        low = 0.0
    ticks = _nice_ticks(low, high if high > low else low + max(abs(low), 1.0), _TICKS_Y)
    return min(low, ticks[0]), max(high, ticks[-1]), ticks


def _nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers that cover a range, 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, last + 1)]


def _value_ticks(ticks: list[float], span: tuple[float, float]) -> Iterator[str]:
    for tick in ticks:
        y = float(_height(np.array(tick), span))
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>'


def _time_ticks(axis: TimeAxis) -> Iterator[str]:
    span = axis.last - axis.first
    ticks = _nice_ticks(axis.first, axis.last, _TICKS_X) if span else [float(axis.first)]
    whole = (int(t) for t in ticks if t == int(t) and axis.first <= t <= axis.last)
    for t in whole:
        x, y = float(axis.place(t)), _HEIGHT - _BOTTOM
        yield f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 4}"/>'
        anchor = "end" if x > _WIDTH - 30 else "middle"
        hours = _hours(t, axis)
        yield f'<text x="{x:.1f}" y="{y + 16}" text-anchor="{anchor}">{t}</text>'
        yield f'<text class="time" x="{x:.1f}" y="{y + 29}" text-anchor="{anchor}">{hours}</text>'


def _hours(t: int, axis: TimeAxis) -> str:
    if not axis.interval_s:
        return ""
    seconds, end = t * axis.interval_s, axis.last * axis.interval_s
    for unit, length in (("h", 3600), ("min", 60)):
        if end >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def _marks(axis: TimeAxis, marked: Sequence[int]) -> Iterator[str]:
    y = _HEIGHT - _BOTTOM
    for x in sorted({round(float(axis.place(t))) for t in marked}):
        yield f'<path class="mark" d="M{x} {y - 7}l4 7h-8z"/>'


def _series(
    one: Series, number: int, curve: Curve, axis: TimeAxis, span: tuple[float, float]
) -> str:
    x, y = axis.place(one.times), _height(one.values, span)
    color = f"s{number % COLORS}" + (" dashed" if number // COLORS % 2 else "")
    if curve.dotted:
        known = np.isfinite(y)
        points = zip(x[known], y[known], strict=True)
        dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.2"/>' for a, b in points)
        line = _path(x[known], y[known])
        return f'<g class="{color} dots">{line}{dots}</g>'
    buckets = max(_LEAST_BUCKETS, _MOST_POINTS // (2 * len(curve.series)))
    kept = _thinned(x, y, buckets)
    dense = " dense" if len(kept[0]) < len(x) else ""
    return f'<g class="{color}{dense}">{_path(*kept)}</g>'


def _height(values: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    low, high = span
    return _HEIGHT - _BOTTOM - (values - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def _thinned(x: np.ndarray, y: np.ndarray, buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep the lowest and highest point of each bucket, so that no single frame is lost."""
    if len(x) <= 2 * buckets:
        return x, y
    kept: set[int] = set()
    for part in np.array_split(np.arange(len(x)), buckets):
        known = part[np.isfinite(y[part])]
        unknown = part[~np.isfinite(y[part])]
        ends = (known[np.argmin(y[known])], known[np.argmax(y[known])]) if len(known) else ()
        kept.update(int(i) for i in (*ends, *unknown[:1]))
    order = np.array(sorted(kept))
    return x[order], y[order]


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """Draw a line that ends and begins again where a value is unknown; lone points are dots."""
    parts: list[str] = []
    for run in _runs(np.isfinite(y)):
        points = " ".join(f"{a:.1f} {b:.1f}" for a, b in zip(x[run], y[run], strict=True))
        # A line of no length with round ends is a dot.
        parts.append(f"M{points}" + ("h0" if len(run) == 1 else ""))
    return f'<path d="{"".join(parts)}"/>' if parts else ""


def _runs(known: np.ndarray) -> Iterable[np.ndarray]:
    places = np.flatnonzero(known)
    if not len(places):
        return []
    return np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)


def _number(value: float) -> str:
    """Write a number with three digits, and large ones whole.

    >>> _number(0.1 + 0.2), _number(12345.0), _number(0.0)
    ('0.3', '12345', '0')
    """
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
