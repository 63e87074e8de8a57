"""Text for HTML: files can hold any name."""

from __future__ import annotations

from html import escape

__all__ = ["printable", "text"]

_LONGEST_TEXT = 400


def text(content: object) -> str:
    """Return text for HTML, short and without control characters.

    >>> text("a <b>")
    'a &lt;b&gt;'
    """
    shown = str(content)
    cut = shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]} ..."
    return escape(printable(cut))


def printable(content: str) -> str:
    """Return text with its control characters replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in content)
