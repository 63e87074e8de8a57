"""The little Markdown of model cards as HTML: headings, paragraphs, lists, tables, code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from itertools import groupby

from cypose_dask.results.report.escaping import printable

__all__ = ["as_html"]

_MOST_CHARACTERS = 40_000
_RULE = re.compile(r"^\|[\s:|-]+\|$")
_CODE = re.compile(r"`([^`]+)`")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")


def as_html(markdown: str) -> str:
    r"""Write a card as HTML. Links and pictures stay text, so that a page loads nothing.

    >>> as_html("# A card\n\nof `weights`")
    '<h4>A card</h4><p>of <code>weights</code></p>'
    """
    lines = [printable(line) for line in markdown[:_MOST_CHARACTERS].splitlines()]
    return "".join(_block(kind, list(block)) for kind, block in groupby(lines, _kind))


def _kind(line: str) -> str:
    if line.startswith("#"):
        return f"heading {line}"  # two headings, one after the other, are two blocks
    if line.startswith("|"):
        return "table"
    if line.startswith(("- ", "* ", "  ")) and line.strip():
        return "list"
    return "paragraph" if line.strip() else "blank"


def _block(kind: str, lines: list[str]) -> str:
    if kind.startswith("heading"):
        return "".join(f"<h4>{_inline(line.lstrip('#').strip())}</h4>" for line in lines)
    if kind == "table":
        return f"<table>{''.join(_rows(lines))}</table>"
    if kind == "list":
        items = re.split(r"(?m)^[-*] ", "\n".join(lines))
        return f"<ul>{''.join(f'<li>{_inline(i)}</li>' for i in items if i.strip())}</ul>"
    return f"<p>{_inline(' '.join(lines))}</p>" if kind == "paragraph" else ""


def _rows(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if not _RULE.match(line.strip()):
            cells = line.strip().strip("|").split("|")
            yield f"<tr>{''.join(f'<td>{_inline(cell.strip())}</td>' for cell in cells)}</tr>"


def _inline(text: str) -> str:
    return _BOLD.sub(r"<strong>\1</strong>", _CODE.sub(r"<code>\1</code>", escape(text)))
