"""The page: one HTML file that loads nothing, and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from cypose_dask.results.naming import SOFTWARE
from cypose_dask.results.report.content import Content
from cypose_dask.results.report.escaping import text
from cypose_dask.results.report.sections import (
    background,
    contact_sheet,
    curves,
    header,
    looks_section,
    numbers_table,
    scrubber,
)

__all__ = ["render"]


def render(content: Content) -> bytes:
    """Write a report as one HTML file, UTF-8, without any address outside of itself."""
    style, script = _own("page.css"), _own("page.js")
    body = "\n".join(
        section(content)
        for section in (
            header,
            looks_section,
            scrubber,
            curves,
            contact_sheet,
            numbers_table,
            background,
        )
    )
    # Whatever a name in a movie may smuggle in, a browser runs and loads nothing but these.
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="generator" content="{SOFTWARE}">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{text(content.title)}: segmentation report</title>\n"
        f"<style>{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    ).encode("utf-8", "replace")


def _own(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
