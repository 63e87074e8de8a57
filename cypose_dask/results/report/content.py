"""What a report says, before it is a page."""

from __future__ import annotations

from dataclasses import dataclass, field

from cypose_dask.results.layout import Layout
from cypose_dask.results.report.flags import Flag
from cypose_dask.results.report.numbers import FrameNumbers, Place
from cypose_dask.results.report.pictures import Picture
from cypose_dask.results.report.sizes import CellSizes

__all__ = ["Content", "Fact", "Facts", "Shot"]

# A name and what is said of it, and a table of them.
Fact = tuple[str, str]
Facts = tuple[Fact, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """One frame that is pictured, at T of the result, P and Z.

    Attributes
    ----------
    place : (int, int, int)
    picture : Picture
    sizes : CellSizes
        Of the labels; of no cells where the frame has no labels.
    unreadable : str
        Why the movie's frame is not in the picture; empty if it is, or if no frame is.
    """

    place: Place
    picture: Picture
    sizes: CellSizes
    unreadable: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What a report says.

    Attributes
    ----------
    title : str
        Of the page.
    layout : Layout
    start_frame : int
        The movie's frame that is the first of the result.
    numbers : FrameNumbers
    flags : tuple of Flag
        Of all frames.
    shots : tuple of Shot
        By position and time.
    has_frames : bool
        Whether pictures show the movie, not the labels alone.
    notes : tuple of str
        What a reader has to know first.
    facts : dict
        Tables by their headings.
    card : str
        The model's card, Markdown; empty if there is none.
    """

    title: str
    layout: Layout
    start_frame: int
    numbers: FrameNumbers
    flags: tuple[Flag, ...]
    shots: tuple[Shot, ...]
    has_frames: bool
    notes: tuple[str, ...] = ()
    facts: dict[str, Facts] = field(default_factory=dict)
    card: str = ""

    def when(self, t: int) -> str:
        """Return a frame's number in the movie and, where it is known, its time."""
        frame = f"frame {t + self.start_frame}"
        interval = self.layout.interval_s
        return f"{frame}, {as_time((t + self.start_frame) * interval)}" if interval else frame

    def where(self, position: int, plane: int) -> str:
        """Return the name of a position, and the plane where there are several."""
        name = self.layout.position_names[position]
        several = [f"position {name}"] if len(self.layout.position_names) > 1 else []
        return ", ".join([*several, *([f"plane {plane}"] if self.layout.planes > 1 else [])])


def as_time(seconds: float) -> str:
    """Write a time of a movie: s below two minutes, min below two hours, else h.

    >>> as_time(90), as_time(600), as_time(9000)
    ('90 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.4g} h"
