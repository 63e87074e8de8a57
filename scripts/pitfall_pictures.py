#!/usr/bin/env python
"""Make the pictures of docs/pitfalls.md: synthetic frames, a bundled model, one change a panel."""

from __future__ import annotations

import sys
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from cypose_dask.engine import segment_frames
from cypose_dask.engine.dynamics.holes import fill_holes_and_remove_small
from cypose_dask.engine.normalize import network_input
from cypose_dask.errors import ModelError
from cypose_dask.learn import synthetic_frame, synthetic_movie
from cypose_dask.likeness import preset
from cypose_dask.models import resolve_model
from cypose_dask.results.preview import captioned, gray, overlay
from cypose_dask.settings import Settings

PLACE = Path(__file__).resolve().parents[1] / "docs" / "pictures"
# Pictures are part of the repository.
MOST_BYTES = 60_000
MOST_PX, COLOURS = 340, 16
MODEL = "cyano-rods"
THREADS_SEED = 11


@dataclass(frozen=True)
class Panel:
    """A frame (Y, X), its labels, what was set, and what was found instead of cells."""

    title: str
    image: np.ndarray
    labels: np.ndarray
    found: str = ""
    words: str = ""
    limits: tuple[float, float] | None = None

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(np.unique(self.labels[self.labels > 0]))

    def drawn(self) -> np.ndarray:
        """Draw outlines, and a caption with the number of cells."""
        cells = f"{self.cells} cell{'' if self.cells == 1 else 's'}"
        shown = np.repeat(gray(self.image, self.limits)[..., np.newaxis], 3, axis=2)
        drawn = Image.fromarray(overlay(shown, self.labels))
        if drawn.width > MOST_PX:
            drawn = drawn.reduce(2)
        return captioned(np.asarray(drawn), f"{self.title}: {self.found or cells}")


def segmented(title: str, frame: np.ndarray, **settings: Any) -> Panel:
    """Segment a frame (C, Y, X) by some settings."""
    chosen = settings.get("channels", (0,))
    channels = frame[list(chosen)] if isinstance(chosen, tuple) else frame
    labels = segment_frames(channels[np.newaxis], MODEL, Settings(**settings)).labels[0]
    shown = frame.mean(axis=0) if chosen == "mean" else channels[0]
    return Panel(title, shown, labels)


@cache
def colony() -> np.ndarray:
    """Film a young colony, brightfield and chlorophyll: (2, Y, X)."""
    return synthetic_movie(n_frames=9, shape=(160, 160), seed=5, start_cells=4).frames[-1]


@cache
def two_channels() -> np.ndarray:
    """Draw cells dark in brightfield and bright in chlorophyll: (2, Y, X)."""
    made = synthetic_frame(3, shape=(160, 160), look="brightfield", kind="colony", chlorophyll=True)
    return made.frame


@cache
def threads() -> np.ndarray:
    """Draw long bent cells: (1, Y, X)."""
    return synthetic_frame(THREADS_SEED, shape=(192, 192), look="phase", kind="threads").frame[None]


def programs() -> list[Panel]:
    """Segment by the same model in three programs, when nothing is said."""
    panels = []
    for name in ("cellpose-api", "cellpose-cli", "cellpose-gui"):
        settings = preset(name, MODEL).settings
        wanted = settings["channels"]
        settings["channels"] = (0, 1) if wanted == "first" else wanted
        del_model = {key: value for key, value in settings.items() if key != "model"}
        panels.append(segmented(name, colony(), **del_model))
    return panels


def channels() -> list[Panel]:
    """Take one channel, the mean of two, and two for a network that was trained on one."""
    return [
        segmented("channels 0", two_channels(), channels=(0,)),
        segmented("mean", two_channels(), channels="mean"),
        segmented("channels 0,1", two_channels(), channels=(0, 1)),
    ]


def diameter() -> list[Panel]:
    """Take a third of the cells' diameter, their own, and four times it."""
    return [
        segmented(title, colony(), diameter=value)
        for title, value in (("7 px", 7.0), ("the model's own", "model"), ("80 px", 80.0))
    ]


def sparse() -> list[Panel]:
    """Segment a frame without cells, stretched by itself, and as the rest of its movie is."""
    frame = colony()[:1]
    grain = gaussian_filter(np.random.default_rng(1).normal(size=frame.shape[1:]), 2)
    empty = np.median(frame) + 0.01 * np.ptp(frame) * grain / grain.std()
    movie = np.stack([frame, empty.astype(np.uint16)[np.newaxis]])
    panels = []
    for title, how in (("frame", "frame"), ("movie", "movie")):
        made = segment_frames(movie, MODEL, Settings(normalize=how))
        panels.append(Panel(f"--normalize {title}", movie[1, 0], made.labels[1]))
    return panels


def steps() -> list[Panel]:
    """Follow flows in long cells for Cellpose's own number of steps, and for 2,000."""
    return [
        segmented(title, threads(), niter=value, flow_threshold=0.0)
        for title, value in (("automatic", None), ("--niter 2000", 2000))
    ]


def threshold() -> list[Panel]:
    """Segment long cells with the check of flows as in Cellpose, as here, and without."""
    return [
        segmented(f"--flow-threshold {value:g}", threads(), flow_threshold=value, niter=2000)
        for value in (0.4, 0.75, 0.0)
    ]


def restoration() -> list[Panel]:
    """Measure cells in a movie that bleaches, raw and as a restoration begins."""
    first = synthetic_frame(3, shape=(96, 96), look="fluorescence", kind="scatter")
    cells = first.labels > 0
    panels = []
    for how in ("raw", "normalised"):
        shown, brightness = [], []
        for share in (1.0, 0.25):
            frame = np.round(share * first.frame).astype(np.uint16)
            if how == "normalised":
                frame = network_input(frame[np.newaxis], 1, Settings())[..., 0]
            shown.append(frame)
            brightness.append(float(frame[cells].mean()))
        limits = (float(shown[0].min()), float(shown[0].max()))
        panels += [
            Panel(f"{how}, {when}", frame, np.zeros_like(first.labels), f"{value:.4g}", "", limits)
            for when, frame, value in zip(("first", "bleached"), shown, brightness, strict=True)
        ]
    return panels


def bugs() -> list[Panel]:
    """Leave cells 2, 3 and 4, as a check of flows may; 3 is too small, and 2 goes with it."""
    labels = np.zeros((48, 64), np.uint32)
    labels[6:18, 6:28] = 2
    labels[22:25, 34:37] = 3
    labels[30:42, 20:50] = 4
    kept = labels.copy()
    fill_holes_and_remove_small(kept, 15)
    meant = np.where(labels == 3, 0, labels)
    return [
        Panel(title, (labels > 0).astype(float), found)
        for title, found in (("checked", labels), ("Cellpose", kept), ("meant", meant))
    ]


def cellpose4() -> list[Panel]:
    """Draw the words that a file of Cellpose 4 meets here."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cpsam"
        torch.save({"W2": torch.zeros(1)}, path)
        try:
            resolve_model(path)
        except ModelError as error:
            words = str(error).replace(folder + "/", "")
    lines = textwrap.wrap(words, 44)
    sheet = Image.new("L", (336, 24 + 18 * len(lines)), 20)
    ImageDraw.Draw(sheet).text((8, 8), "\n".join(lines), fill=230, font_size=14)
    image = np.asarray(sheet)
    nothing = np.zeros(image.shape, np.uint8)
    return [Panel("--model cpsam", image, nothing, "refused", words, (0, 255))]


PICTURES: dict[str, Callable[[], list[Panel]]] = {
    "programs": programs,
    "channels": channels,
    "diameter": diameter,
    "sparse": sparse,
    "steps": steps,
    "threshold": threshold,
    "restoration": restoration,
    "bugs": bugs,
    "cellpose4": cellpose4,
}


def main(names: list[str]) -> None:
    """Make the pictures that are named, or all."""
    PLACE.mkdir(parents=True, exist_ok=True)
    for name in names or PICTURES:
        panels = PICTURES[name]()
        path = PLACE / f"pitfall_{name}.png"
        sheet = np.concatenate([panel.drawn() for panel in panels], axis=1)
        Image.fromarray(sheet).quantize(COLOURS).save(path, optimize=True)
        print(f"picture   {path} ({path.stat().st_size} bytes)")


if __name__ == "__main__":
    main(sys.argv[1:])
