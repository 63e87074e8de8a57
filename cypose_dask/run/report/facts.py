"""How a result was made, as tables of words: movie, settings, model, versions and times."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cypose_dask.errors import ModelError
from cypose_dask.models.registry import bundled_entry, bundled_names, read_tables, registry_folder
from cypose_dask.results import Result
from cypose_dask.results.naming import run_json_of
from cypose_dask.run.report.recorded import Recorded

__all__ = ["card_of", "facts_of", "title_of"]

_MOVIE = ("path", "format", "sizes", "dtype", "channel_names", "pixel_size_um", "z_step_um",
          "interval_s", "notes")  # fmt: skip
_MODEL = ("name", "kind", "sha256", "network_inputs", "diam_mean", "diameter", "backbone")
_LARGEST_CARD = 200_000


def title_of(result: Result) -> str:
    """Return the name of the movie's file, else of the result; of a sequence its folder's, too."""
    path = _table(result, "movie").get("path")
    if not isinstance(path, str) or not path:
        return result.path.name
    parts = Path(path).parts[-2:] if "*" in Path(path).name else Path(path).parts[-1:]
    return "/".join(parts)


def facts_of(result: Result, recorded: Recorded) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return tables by their headings."""
    return {
        "Movie": tuple(_chosen(_table(result, "movie"), _MOVIE)),
        "Settings": tuple(_settings(result)),
        "Model": tuple(_chosen(_table(result, "model"), _MODEL)),
        "Restoration": tuple(_chosen(_table(result, "restoration"), _MODEL)),
        "Run": tuple(_run(result, recorded)),
        "Time a stage": tuple(_stages(recorded)),
        "Versions": tuple((n, _words(v)) for n, v in _table(result, "versions").items()),
    }


def _table(result: Result, name: str) -> dict[str, Any]:
    """Return a table of the stored plan, which anybody may have written."""
    plan = result.attributes.get("plan")
    found = plan.get(name) if isinstance(plan, dict) else None
    return found if isinstance(found, dict) else {}


def _chosen(table: dict[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name in names:
        if table.get(name) not in (None, [], ""):
            yield name.replace("_", " "), _words(table[name])


def _settings(result: Result) -> Iterator[tuple[str, str]]:
    """Yield the resolved settings, and what was asked for where that is another word."""
    requested = _table(result, "requested")
    for name, value in _table(result, "settings").items():
        asked = requested.get(name)
        how = f" (asked for: {_words(asked)})" if asked not in (None, value) else ""
        yield name.replace("_", " "), f"{_words(value)}{how}"


def _run(result: Result, recorded: Recorded) -> Iterator[tuple[str, str]]:
    plan = result.attributes.get("plan")
    device = plan.get("device") if isinstance(plan, dict) else None
    yield "result", str(result.path)
    if device:
        yield "device", _words(device)
    if math.isfinite(recorded.begun):
        yield "begun", _date(recorded.begun)
        yield "last block ended", _date(recorded.ended)
    if recorded.n_workers:
        yield "workers", str(recorded.n_workers)
    if command := _command(result):
        yield "command", command


def _date(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return "unknown"


def _command(result: Result) -> str:
    try:
        words = json.loads(run_json_of(result.path).read_text())["command"]
        return " ".join([Path(words[0]).name, *words[1:]])
    except (OSError, ValueError, LookupError, TypeError):  # an unfinished run has none
        return ""


def _stages(recorded: Recorded) -> Iterator[tuple[str, str]]:
    """Yield what each stage took of all workers' time."""
    total = sum(recorded.stages.values())
    frames = max(int(recorded.numbers.done.sum()), 1)
    for name, seconds in recorded.stages.items():
        share = seconds / total if total else 0.0
        yield name, f"{seconds:.1f} s, {1000 * seconds / frames:.3g} ms a frame, {share:.0%}"


def _words(value: Any) -> str:
    """Write a JSON value for a person."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(inside)}" for name, inside in value.items())
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def card_of(result: Result) -> str:
    """Return the card of a result's model, Markdown; empty unless it is of the same weights."""
    model = _table(result, "model")
    name, path, sha256 = (model.get(key) for key in ("name", "path", "sha256"))
    if not all(isinstance(text, str) and text for text in (name, path, sha256)):
        return ""
    if name in ("default", *bundled_names()) and model.get("kind") == "bundled":
        card = registry_folder() / f"{Path(str(path)).name}.md"
        entries = [bundled_entry(n) for n in bundled_names()]
    else:
        card = Path(f"{path}.md")
        entries = _entries_beside(card.with_name("registry.toml"))
    is_same = any(entry.get("sha256") == sha256 for entry in entries)
    return _text(card) if is_same else ""


def _entries_beside(registry: Path) -> list[dict[str, Any]]:
    try:
        return list(read_tables(registry).values())
    except ModelError:  # a registry that is damaged stands for no card
        return []


def _text(card: Path) -> str:
    try:
        return card.read_text(encoding="utf-8", errors="replace")[:_LARGEST_CARD]
    except OSError:
        return ""
