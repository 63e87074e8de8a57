"""The boundary at which what goes wrong with one frame stays with that frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["attempt"]

P = ParamSpec("P")
T = TypeVar("T")


def attempt(function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T | Exception:
    """Call a function about one frame, and return its error instead of raising it."""
    try:
        return function(*args, **options)
    except Exception as error:  # noqa: BLE001 (whatever it is, the other frames go on)
        return error
