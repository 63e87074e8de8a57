"""Whether what a reader made of a damaged file is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fuzz.mutate import Change
from fuzz.seen import LOST, Seen

__all__ = ["Verdict", "verdict"]

SIZES = "TPZCYX"
# A note with one of these words says that the file holds more than is read.
SAYS_MORE = ("not read", "belong to no frame", "tifffile reports")
SAYS_LOST = "metadata could not be read"


@dataclass(frozen=True)
class Verdict:
    """An outcome in one word, whether it is allowed, and why."""

    allowed: bool
    kind: str
    why: str = ""


def verdict(intact: Seen, seen: Seen, change: Change, data: bytes = b"") -> Verdict:
    """Judge what was seen of a mutant.

    Allowed are

    - ``same``: description and pixels of the intact file, or less of its names and units with a
      note that says so,
    - ``refused``: a MovieError at opening,
    - ``damaged``: a MovieError for some frames, the others as in the intact file,
    - ``declared``: another movie, if the mutation changed what the file says about itself, and
      no pixel was made up, and no frame is left out without a note.

    Parameters
    ----------
    intact, seen
        The file before and after the mutation.
    change
        What the mutation touched.
    data
        The mutant, in which pixels that are not those of the intact file must be found; they
        are not looked for when the change is in how pixels are encoded.
    """
    if seen.outcome == "refused":
        return Verdict(True, "refused")
    if seen.outcome != "opened":
        return Verdict(False, seen.outcome, seen.words)
    trouble = _different_frames(intact, seen)
    broken = any(isinstance(frame, str) for frame in seen.frames.values())
    if not trouble:
        trouble = _different_info(intact, seen)
        if not trouble:
            return Verdict(True, "damaged" if broken else "same")
    if not change.declares:
        return Verdict(False, "silent", f"nothing that declares it was changed, but {trouble}")
    for check in (_left_out(intact, seen), _made_up(intact, seen, change, data)):
        if check:
            return Verdict(False, "silent", f"{trouble}; {check}")
    return Verdict(True, "declared", trouble)


def _different_frames(intact: Seen, seen: Seen) -> str:
    """Say in which frame the movies differ; a frame that raised is not different."""
    if set(intact.frames) != set(seen.frames):
        return f"{len(seen.frames)} frames instead of {len(intact.frames)}"
    for at, frame in seen.frames.items():
        whole = intact.frames[at]
        if not isinstance(frame, str) and not _equal(frame, whole):
            return f"frame {at} has other pixels"
    return ""


def _equal(frame: npt.NDArray[Any], whole: npt.NDArray[Any] | str) -> bool:
    same_form = not isinstance(whole, str) and frame.shape == whole.shape
    return same_form and frame.dtype == whole.dtype and frame.tobytes() == whole.tobytes()  # type: ignore[union-attr]


def _different_info(intact: Seen, seen: Seen) -> str:
    """Say which field of the description differs; lost ones do not, if a note says so."""
    lost_allowed = any(SAYS_LOST in note for note in seen.info["notes"])
    for name, value in intact.info.items():
        now = seen.info[name]
        if name in ("notes", "damaged") or now == value:
            continue
        numbered = tuple(str(i) for i in range(len(value))) if isinstance(value, tuple) else None
        if lost_allowed and now == LOST.get(name, numbered):
            continue
        return f"{name} is {now!r} instead of {value!r}"
    return ""


def _left_out(intact: Seen, seen: Seen) -> str:
    """Say that fewer pixels are shown than the file holds, unless a note does."""
    before, now = (_pixels(one) for one in (intact, seen))
    fewer_frames = len(seen.frames) < len(intact.frames) and now < before
    if fewer_frames and not any(w in note for note in seen.info["notes"] for w in SAYS_MORE):
        return f"{before - now} of {before} pixels are left out and no note says so"
    return ""


def _pixels(seen: Seen) -> int:
    return math.prod(seen.info["sizes"][letter] for letter in SIZES)


def _made_up(intact: Seen, seen: Seen, change: Change, data: bytes) -> str:
    """Say which row of pixels is neither in the mutant's bytes nor in the intact movie."""
    if change.encodes:
        return ""
    known = data + b"".join(_stored(f) for f in intact.frames.values() if not isinstance(f, str))
    for at, frame in seen.frames.items():
        if isinstance(frame, str):
            continue
        for row in _rows(frame):
            if row.tobytes() not in known and row.byteswap().tobytes() not in known:
                return f"frame {at} has a row that is nowhere in the file"
    return ""


def _stored(frame: npt.NDArray[Any]) -> bytes:
    """Return the bytes of a frame, channel after channel and side by side."""
    return frame.tobytes() + np.moveaxis(frame, 0, -1).tobytes()


def _rows(frame: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    yield from frame.reshape(-1, frame.shape[-1])
