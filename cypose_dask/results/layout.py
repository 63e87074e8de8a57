"""The shape of a result, and what it may be: a store can come from anywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cypose_dask.errors import ResultError
from cypose_dask.movies.files import MAX_FRAME_PIXELS

__all__ = ["Layout"]

# A year of one frame every three seconds. Status and cells of all frames are held in memory.
_MOST_FRAMES = 10_000_000
# Of one block; its shard has an index of 16 bytes for each, which is read for every frame.
_MOST_FRAMES_A_BLOCK = 2**20
_COUNTS = ("frames", "planes", "height", "width", "frames_per_block")
_SCALES = ("pixel_size_um", "z_step_um", "interval_s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Shape of a result.

    Attributes
    ----------
    position_names : tuple of str
    frames, planes, height, width : int
        T, Z, Y and X of the labels, after the choice of frames.
    frames_per_block : int
        T of one block and one shard.
    debug : bool
        Whether flows and cellprob are kept.
    pixel_size_um, z_step_um, interval_s : float or None
        Scale of Y and X, Z and T.

    Raises
    ------
    ResultError
        If a number is of the wrong kind, or larger than any result has.
    """

    position_names: tuple[str, ...]
    frames: int
    planes: int
    height: int
    width: int
    frames_per_block: int
    debug: bool = False
    pixel_size_um: float | None = None
    z_step_um: float | None = None
    interval_s: float | None = None

    def __post_init__(self) -> None:
        names = self.position_names
        if not names or not all(isinstance(name, str) for name in names):
            raise ResultError("The layout has no names of positions. The store is damaged.")
        for name in _COUNTS:
            if not _is_whole(getattr(self, name)):
                raise _wrong(name, getattr(self, name), "a whole number above 0")
        for name in _SCALES:
            if not _is_scale(getattr(self, name)):
                raise _wrong(name, getattr(self, name), "a number of at least 0")
        self._check_sizes()

    def _check_sizes(self) -> None:
        sizes = {
            "frames x planes x positions": self.frames * self.planes * len(self.position_names),
            "height x width": self.height * self.width,
            "frames_per_block x planes": self.frames_per_block * self.planes,
        }
        limits = (_MOST_FRAMES, MAX_FRAME_PIXELS, _MOST_FRAMES_A_BLOCK)
        for (name, size), limit in zip(sizes.items(), limits, strict=True):
            if size > limit:
                raise _wrong(name, size, f"at most {limit}")

    def arrays(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return the shape of each sharded array of a position without T, and its type."""
        frame = (self.planes, self.height, self.width)
        flows = (self.planes, 2, self.height, self.width)
        debug = {"flows": (flows, "float32"), "cellprob": (frame, "float32")}
        return {"labels/cells/0": (frame, "uint32"), **(debug if self.debug else {})}

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        fields = {name: getattr(self, name) for name in type(self).__slots__}
        return {**fields, "position_names": list(self.position_names)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Layout:
        """Make a layout from what `to_dict` returned."""
        return cls(**{**fields, "position_names": tuple(fields["position_names"])})


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_scale(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and 0 <= value < math.inf)


def _wrong(name: str, found: Any, expected: str) -> ResultError:
    return ResultError(
        f"The layout of the result has {name} = {str(found)[:40]}; expected {expected}. The store "
        "was changed or damaged."
    )
