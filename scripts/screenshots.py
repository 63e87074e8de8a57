#!/usr/bin/env python
"""Make the screenshots of the documentation: docs/pictures/report.png and napari.png.

    python scripts/screenshots.py report [FILE.png]    needs Chromium
    xvfb-run -a python scripts/screenshots.py napari [FILE.png]

The latter needs napari 0.9, Qt (``pip install pyqt6``) and a screen with OpenGL, such as xvfb's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

import cypose_dask as cd
from cypose_dask.learn import synthetic_movie

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
WINDOW_PX, WIDGET_PX, REPORT_PX = (1180, 720), 290, (1200, 2100)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
COLOURS = 128
# The frame that is shown, and the most that the picture adds to the repository.
FRAME, MOST_BYTES = 6, 150_000


def main() -> None:
    """Segment the demo movie, and take a picture of what was asked for."""
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in SHOWN:
        raise SystemExit(__doc__)
    name = sys.argv[1]
    place = Path(sys.argv[2]) if len(sys.argv) == 3 else PICTURES / f"{name}.png"
    with tempfile.TemporaryDirectory() as folder:
        picture = SHOWN[name](Path(folder))
    save(picture, place)


def demo_result(folder: Path) -> Path:
    """Segment the movie of the demo."""
    script = ROOT / "scripts" / "make_demo_movie.py"
    subprocess.run([sys.executable, script, folder], check=True)
    movie = cd.open_movie(folder / "movie.nd2")
    return cd.segment(movie, folder / "movie.zarr").path


def of_report(folder: Path) -> np.ndarray:
    """Write the report of a movie with a blank frame, and return it as Chromium shows it."""
    film = synthetic_movie(n_frames=24, shape=(224, 320), seed=4, n_channels=1)
    frames = film.frames[:, 0]
    frames[15] = frames.min()
    resolution = (1 / film.pixel_size_um,) * 2
    about = {"axes": "TYX", "unit": "um", "finterval": film.interval_s}
    path = folder / "movie.tif"
    tifffile.imwrite(path, frames, imagej=True, resolution=resolution, metadata=about)
    result = cd.segment(cd.open_movie(path), folder / "movie.zarr")
    return shown(cd.write_report(result, folder / "movie_report.html"))


def shown(page: Path) -> np.ndarray:
    """Return a page as Chromium shows it (Y, X, 3), at two thirds of its size."""
    picture = page.with_suffix(".png")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"There is no browser here; looked for {', '.join(BROWSERS)}.")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
    size = f"--window-size={REPORT_PX[0]},{REPORT_PX[1]}"
    where = (f"--screenshot={picture}", page.absolute().as_uri())
    subprocess.run([browser, *flags, size, *where], check=True, capture_output=True)
    image = Image.open(picture).convert("RGB")
    return np.asarray(image.resize((REPORT_PX[0] * 2 // 3, REPORT_PX[1] * 2 // 3)))


def of_napari(folder: Path) -> np.ndarray:
    """Open the demo's result in napari with the widget beside it; return the window (Y, X, 4)."""
    import napari

    viewer = napari.Viewer(show=True)
    viewer.window.resize(*WINDOW_PX)
    viewer.open(str(demo_result(folder)), plugin="cypose-dask")
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


SHOWN = {"report": of_report, "napari": of_napari}


if __name__ == "__main__":
    main()
