#!/usr/bin/env python
"""Make docs/pictures/napari.png, or the PNG that is named: napari with a result and our widget.

Needs napari 0.9, Qt (``pip install pyqt6``) and a screen with OpenGL, or ``xvfb-run -a``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import cypose_dask as cd

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "docs" / "pictures" / "napari.png"
WINDOW_PX, WIDGET_PX = (1180, 720), 290
COLOURS = 128
# The frame that is shown, and the most that the picture adds to the repository.
FRAME, MOST_BYTES = 6, 150_000


def main() -> None:
    """Segment the demo movie, show the result, and take a picture of the window."""
    with tempfile.TemporaryDirectory() as folder:
        result = demo_result(Path(folder))
        picture = pictured(result)
    save(picture, Path(sys.argv[1]) if len(sys.argv) > 1 else PLACE)


def demo_result(folder: Path) -> Path:
    """Segment the movie of the demo."""
    script = ROOT / "scripts" / "make_demo_movie.py"
    subprocess.run([sys.executable, script, folder], check=True)
    movie = cd.open_movie(folder / "movie.nd2")
    return cd.segment(movie, folder / "movie.zarr").path


def pictured(result: Path) -> np.ndarray:
    """Open a result in napari with the widget beside it, and return the window (Y, X, 4)."""
    import napari

    viewer = napari.Viewer(show=True)
    viewer.window.resize(*WINDOW_PX)
    viewer.open(str(result), plugin="cypose-dask")
    arrange(viewer)
    dock, _ = viewer.window.add_plugin_dock_widget("cypose-dask", "Segment the current frame")
    dock.setMaximumWidth(WIDGET_PX)
    settle()
    viewer.reset_view()
    settle()
    picture = viewer.window.screenshot(canvas_only=False, flash=False)
    viewer.close()
    return np.asarray(picture)


def arrange(viewer: Any) -> None:
    """Show outlines on one frame, and what a scale of um is good for: a scale bar."""
    image, *others, cells = viewer.layers
    for other in others:
        other.visible = False
    cells.contour = 1
    cells.opacity = 1.0
    viewer.dims.set_point(0, FRAME * image.scale[0])
    viewer.canvas.overlays.scale_bar.visible = True


def settle() -> None:
    """Let Qt draw."""
    from qtpy.QtWidgets import QApplication

    until = time.monotonic() + 2
    while time.monotonic() < until:
        QApplication.processEvents()


def save(picture: np.ndarray, place: Path) -> None:
    """Write the picture with few colours, and refuse a large one."""
    image = Image.fromarray(picture).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(place, optimize=True)
    if place.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{place} has {place.stat().st_size} bytes; at most {MOST_BYTES}.")
    print(f"picture   {place}")


if __name__ == "__main__":
    main()
