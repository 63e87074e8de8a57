"""Cellpose's GUI without its windows: its own functions that open and save, on a stand-in."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
from cellpose.gui import io
from cellpose.models import normalize_default


def open_in_gui(image: Path) -> MagicMock:
    """Open an image as the GUI does when it is dropped on it."""
    window = MagicMock()
    window.load_3D = False
    window.restore = None
    window.colormap = np.full((1000, 3), 9, np.uint8)
    window.flows = [[], [], [], [], [[]]]
    window.track_changes = []
    window.ChannelChoose = [_choice(), _choice()]
    window.autoloadMasks.isChecked.return_value = False
    window.autobtn.isChecked.return_value = False
    window.saturation = [[0, 255]]
    window.get_normalize_params.side_effect = lambda: {**normalize_default, "percentile": [1, 99]}
    window.get_thresholds.return_value = (0.4, 0.0)
    window.current_model_path = Path("/models/mine")
    # The GUI asks whether it has these.
    del window.stack_filtered
    io._load_image(window, str(image), load_3D=False)
    return window


def save_in_gui(window: MagicMock) -> Path:
    """Save as the GUI does after every change."""
    io._save_sets(window)
    return Path(window.filename).with_name(f"{Path(window.filename).stem}_seg.npy")


def remove_in_gui(window: MagicMock, cell: int) -> None:
    """Remove a cell, but leave the numbers of the others, as other programs do."""
    for plane in (window.cellpix, window.outpix):
        plane[plane == cell] = 0
    window.track_changes.append(["11/26/2026, 10:00:00", "removed mask", [[1, 2], [3, 4]]])


def _choice() -> MagicMock:
    box = MagicMock()
    box.setCurrentIndex.side_effect = lambda index: box.configure_mock(chosen=index)
    box.currentIndex.side_effect = lambda: box.chosen
    return box
