"""The sections of the page, each from the whole content to HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

import numpy as np

from cypose_dask.results.report.card import as_html
from cypose_dask.results.report.charts import charts
from cypose_dask.results.report.content import Content, Fact, Shot
from cypose_dask.results.report.curves import COLORS, Curve, TimeAxis, draw
from cypose_dask.results.report.escaping import text
from cypose_dask.results.report.flags import JUMP_RULE, KINDS, Flag, Look, looks
from cypose_dask.results.report.pictures import data_uri
from cypose_dask.results.report.sizes import SIZE_RULE
from cypose_dask.results.store import Status

__all__ = [
    "background",
    "contact_sheet",
    "curves",
    "header",
    "looks_section",
    "numbers_table",
    "scrubber",
]


def header(content: Content) -> str:
    """Say what was segmented, and how far."""
    numbers, layout = content.numbers, content.layout
    flagged = len({flag.place for flag in content.flags})
    counts = [("frames", f"{numbers.status.size:,}")]
    counts += [(s.name.lower(), f"{n:,}") for s in Status if (n := numbers.count(s)) or s == 1]
    counts += [("cells in all frames", f"{int(numbers.cells[numbers.done].sum()):,}")]
    counts += [("positions", f"{len(layout.position_names):,}")]
    counts += [("flagged frames", f"{flagged:,}")]
    badges = "".join(f"<div><dt>{name}</dt><dd>{n}</dd></div>" for name, n in counts)
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in content.notes)
    links = "".join(
        f'<a href="#{name}">{title}</a>'
        for name, title in (
            ("look", "Frames to look at"),
            ("scrub", "Scrubber"),
            ("curves", "Curves"),
            ("sheet", "Contact sheet"),
            ("numbers", "Numbers"),
            ("how", "How it was made"),
        )
    )
    return (
        f'<header><p class="kind">Segmentation report</p><h1>{text(content.title)}</h1>'
        f'<dl class="counts">{badges}</dl>{notes}<nav aria-label="Sections">{links}</nav></header>'
    )


def looks_section(content: Content) -> str:
    """List every flagged frame, the worst first."""
    found = looks(content.flags)
    shot_of = {shot.place: i for i, shot in enumerate(content.shots)}
    rows = "".join(_look_row(look, content, shot_of) for look in found)
    table = (
        f'<table class="looks"><thead><tr><th scope="col">picture</th><th scope="col">frames</th>'
        f'<th scope="col">why</th></tr></thead><tbody>{rows}</tbody></table>'
    )
    rules = (
        f"<details><summary>How frames are flagged</summary><p>{escape(JUMP_RULE)}</p>"
        f"<p>{escape(SIZE_RULE)} Only pictured frames are looked at for sizes and borders.</p>"
        "</details>"
    )
    return _section("look", "Frames to look at", (table if found else _nothing_odd()) + rules)


def _nothing_odd() -> str:
    return "<p>Nothing is odd about any frame.</p>"


def _look_row(look: Look, content: Content, shot_of: dict[tuple[int, int, int], int]) -> str:
    times = range(look.first, look.last + 1)
    places = ((t, look.position, look.plane) for t in times)
    shot = next((shot_of[place] for place in places if place in shot_of), None)
    name = content.when(look.first)
    if look.last > look.first:
        name = f"frames {look.first + content.start_frame}\u2013{look.last + content.start_frame}"
    where = content.where(look.position, look.plane)
    reasons = "".join(
        f'<li><span class="flag {_css(flag)}">{flag.kind}</span> {text(flag.reason)}</li>'
        for flag in look.flags
    )
    picture = "" if shot is None else f'<a class="thumb" href="#frame={shot}">{text(name)}</a>'
    return (
        f"<tr><td>{picture}</td><td>{text(name)}<br><small>{text(where)}</small></td>"
        f"<td><ul>{reasons}</ul></td></tr>"
    )


def _css(flag: Flag) -> str:
    return "bad" if flag.rank <= KINDS.index("NaN") else "odd"


def scrubber(content: Content) -> str:
    """Show one frame at a time; the script fills it with the pictures of the contact sheet."""
    names = content.layout.position_names
    pictured = sorted({shot.place[1] for shot in content.shots})
    options = "".join(f'<option value="{p}">{text(names[p])}</option>' for p in pictured)
    hidden = " hidden" if len(pictured) < 2 else ""
    body = (
        f'<div class="controls"><label{hidden}>position <select id="position">{options}</select>'
        "</label>"
        '<button type="button" id="back" aria-label="frame before">\u25c0</button>'
        '<label class="wide"><span class="hide">frame</span>'
        '<input type="range" id="range" min="0" max="0" value="0" step="1"></label>'
        '<button type="button" id="on" aria-label="next frame">\u25b6</button>'
        '<button type="button" id="outlines" aria-pressed="true">outlines</button></div>'
        '<figure class="stage"><div class="stack" id="stage"></div>'
        '<figcaption id="caption" aria-live="polite"></figcaption></figure>'
        '<p class="keys"><kbd>\u2190</kbd> <kbd>\u2192</kbd> frames, <kbd>Home</kbd> '
        "<kbd>End</kbd> first and last, <kbd>P</kbd> next position, <kbd>O</kbd> outlines</p>"
        "<noscript><p>The scrubber needs JavaScript; all pictures are in the contact sheet."
        "</p></noscript>"
    )
    return _section("scrub", "Scrubber", body, aside=_how_many(content))


def _how_many(content: Content) -> str:
    shown, total = len(content.shots), content.numbers.status.size
    return f"{shown:,} of {total:,} frames are pictured."


def curves(content: Content) -> str:
    """Draw what was measured over time."""
    frames, start = content.layout.frames, content.start_frame
    axis = TimeAxis(start, start + frames - 1, content.layout.interval_s)
    marked = sorted({flag.place[0] + start for flag in content.flags})
    body = "".join(_chart(curve, axis, marked) for curve in charts(content))
    aside = "Triangles mark flagged frames; a click shows the nearest picture in the scrubber."
    return _section(
        "curves", "Curves", f'{_legend(content)}<div class="charts">{body}</div>', aside=aside
    )


def _legend(content: Content) -> str:
    names = content.layout.position_names
    if len(names) == 1:
        return ""
    items = "".join(f'<li class="{_line(i)}">{text(name)}</li>' for i, name in enumerate(names))
    return f'<ul class="legend" aria-label="Positions">{items}</ul>'


def _line(number: int) -> str:
    return f"s{number % COLORS}" + (" dashed" if number // COLORS % 2 else "")


def _chart(curve: Curve, axis: TimeAxis, marked: list[int]) -> str:
    drawing = draw(curve, axis, marked) if curve.is_known else '<p class="none">not recorded</p>'
    unit = f" <small>{escape(curve.unit)}</small>" if curve.unit else ""
    return (
        f'<figure class="chart"><figcaption>{escape(curve.title)}{unit}'
        f"<span>{escape(curve.note)}</span></figcaption>{drawing}</figure>"
    )


def contact_sheet(content: Content) -> str:
    """Show every pictured frame, position by position."""
    flags: dict[tuple[int, int, int], list[Flag]] = {}
    for flag in content.flags:
        flags.setdefault(flag.place, []).append(flag)
    parts: list[str] = []
    for p in sorted({shot.place[1] for shot in content.shots}):
        shots = [(i, s) for i, s in enumerate(content.shots) if s.place[1] == p]
        figures = "".join(_figure(i, s, content, flags.get(s.place, [])) for i, s in shots)
        several = len(content.layout.position_names) > 1
        title = f"<h3>position {text(content.layout.position_names[p])}</h3>" if several else ""
        parts.append(f'{title}<div class="sheet">{figures}</div>')
    aside = (
        "Each picture is stretched by its own percentiles, 0.5 to 99.5."
        if content.has_frames
        else "Cells are filled with colours, because the movie is not here."
    )
    return _section("sheet", "Contact sheet", "".join(parts), aside=aside)


def _figure(number: int, shot: Shot, content: Content, flags: list[Flag]) -> str:
    t, position, plane = shot.place
    when, where = content.when(t), content.where(position, plane)
    found = _found(shot, content)
    caption = " \u00b7 ".join(part for part in (when, where, found, shot.unreadable) if part)
    kinds = ", ".join(flag.kind for flag in flags)
    badge = f' <span class="flag {_css(flags[0])}">{kinds}</span>' if flags else ""
    picture = shot.picture
    size = f'width="{picture.width}" height="{picture.height}"'
    return (
        f'<figure class="shot" id="shot-{number}" data-position="{position}" '
        f'data-t="{t + content.start_frame}" data-caption="{text(caption)}" '
        f'data-flags="{text("; ".join(f"{f.kind}: {f.reason}" for f in flags))}">'
        f'<a class="stack" href="#frame={number}"><img class="frame" {size} '
        f'src="{data_uri(picture.frame, "webp")}" alt="{text(caption)}">'
        f'<img class="lines" {size} src="{data_uri(picture.outlines, "png")}" alt=""></a>'
        f"<figcaption>{text(when)}{badge}<br><small>{text(found)}</small></figcaption></figure>"
    )


def _found(shot: Shot, content: Content) -> str:
    t, p, z = shot.place
    status = Status(int(content.numbers.status[p, t, z]))
    if status != Status.DONE:
        return f"no labels: {status.name.lower()}"
    cells = int(content.numbers.cells[p, t, z])
    cut = f", {shot.sizes.n_at_border} at the border" if shot.sizes.n_at_border else ""
    return f"{cells} cell{'' if cells == 1 else 's'}{cut}"


def numbers_table(content: Content) -> str:
    """Write the numbers of the pictured frames as a table."""
    names = ("frame", "position", "cells", "covered", "median area px", "at the border",
             "mean cellprob", "flow error", "focus")  # fmt: skip
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(_number_row(shot, content) for shot in content.shots)
    body = (
        f"<details><summary>Numbers of the pictured frames</summary><div class='scroll'><table>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )
    return _section("numbers", "Numbers", body)


def _number_row(shot: Shot, content: Content) -> str:
    (t, p, z), numbers = shot.place, content.numbers
    at = (p, t, z)
    done = bool(numbers.done[at])
    plane = f", plane {z}" if content.layout.planes > 1 else ""
    values = (
        _digits(float(numbers.cells[at]) if done else math.nan),
        _digits(float(numbers.covered_area[at])),
        _digits(shot.sizes.median_area),
        _digits(float(shot.sizes.n_at_border) if done else math.nan),
        *(
            _digits(float(getattr(numbers, n)[at]))
            for n in ("mean_cellprob", "flow_error", "focus")
        ),
    )
    cells = "".join(f"<td>{value}</td>" for value in values)
    where = text(content.layout.position_names[p] + plane)
    return f'<tr><th scope="row">{t + content.start_frame}</th><td>{where}</td>{cells}</tr>'


def _digits(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "\u2013"


def background(content: Content) -> str:
    """Say how the result was made: settings, model, versions and times."""
    tables = "".join(_facts(title, facts) for title, facts in content.facts.items() if facts)
    card = (
        f'<details class="card"><summary>Model card</summary>{as_html(content.card)}</details>'
        if content.card
        else ""
    )
    return _section("how", "How it was made", f'<div class="facts">{tables}</div>{card}')


def _facts(title: str, facts: Iterable[Fact]) -> str:
    rows = "".join(f'<tr><th scope="row">{text(a)}</th><td>{text(b)}</td></tr>' for a, b in facts)
    return f"<section><h3>{text(title)}</h3><table><tbody>{rows}</tbody></table></section>"


def _section(name: str, title: str, body: str, *, aside: str = "") -> str:
    note = f'<p class="aside">{escape(aside)}</p>' if aside else ""
    return (
        f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{title}</h2>'
        f"{note}{body}</section>"
    )
