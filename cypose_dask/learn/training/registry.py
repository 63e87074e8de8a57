"""The text of a ``registry.toml``: one table is put in, what a person wrote there stays."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from cypose_dask.errors import ModelError

__all__ = ["HEADING", "REGISTRY", "read_registry", "with_entry"]

REGISTRY = "registry.toml"
HEADING = (
    "# The bundled models; written by cypose_dask.learn.bundle_model, one card (.md) beside each.\n"
)


def read_registry(path: Path) -> str:
    """Return the text of a registry, or that of one without models where there is no file.

    Raises
    ------
    ModelError
        It is not TOML.
    """
    if not path.exists():
        return HEADING
    text = path.read_text(encoding="utf-8")
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{path} is not TOML ({error}); mend or remove it") from error
    return text


def with_entry(text: str, name: str, entry: dict[str, Any]) -> str:
    """Put one table into the text of a registry; every other line, and all comments, stay.

    Raises
    ------
    ModelError
        The tables are written in a way that cannot be edited line by line.
    """
    wanted = tomllib.loads(text)
    wanted.setdefault("default", name)
    wanted.setdefault("models", {})[name] = json.loads(json.dumps(entry))
    top, *tables = _sections(text)
    if "default" not in (_parsed(top) or {}):
        top = f"{top.rstrip()}\ndefault = {_written(name)}\n".lstrip() + "\n" * bool(tables)
    mine = [i for i, table in enumerate(tables) if _is_table_of(table, name)]
    if mine:
        tables[mine[0]] = _replaced(tables[mine[0]], _table(name, entry))
    edited = "".join([top, *tables])
    if not mine:
        edited = f"{edited.rstrip()}\n\n{_table(name, entry)}"
    if _parsed(edited) != wanted:
        raise ModelError(
            f"{REGISTRY}: the tables in it are written in a way that cannot be changed without "
            f"touching others. Make the entry of {name!r} a table [models.{name}], or remove it."
        )
    return edited


def _sections(text: str) -> list[str]:
    """Cut a registry in front of every table; the first part has none."""
    lines = _lines(text)
    cuts = [0, *(number for number, line in enumerate(lines) if _is_header(line))]
    return ["".join(lines[one:end]) for one, end in zip(cuts, [*cuts[1:], None], strict=True)]


def _is_header(line: str) -> bool:
    # A line inside a list can begin with a bracket, too; most end with a comma.
    return line.lstrip().startswith("[") and _parsed(line) is not None


def _is_table_of(section: str, name: str) -> bool:
    return _parsed(_lines(section)[0]) == {"models": {name: {}}}


def _replaced(section: str, table: str) -> str:
    """Put another table in the place of one; its comments, and those of the next one, stay."""
    below = [line for line in _lines(section)[1:] if line.lstrip()[:1] in ("", "#")]
    return "".join([table, *below])


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _lines(text: str) -> list[str]:
    """Cut text as TOML does, which knows fewer ends of lines than Python."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _table(name: str, entry: dict[str, Any]) -> str:
    key = name if re.fullmatch(r"[\w-]+", name, re.ASCII) else _written(name)
    lines = [f"{field} = {_written(value)}\n" for field, value in entry.items()]
    return "".join([f"[models.{key}]\n", *lines])


def _written(value: Any) -> str:
    """Only what a registry holds: strings, numbers and lists of them, all valid JSON too."""
    # TOML has no pairs of surrogates, and wants the one control character that JSON lets through
    # written as a number.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
