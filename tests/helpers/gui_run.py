"""Cellpose's GUI without its windows: its own methods that choose a model and run it.

They are read from ``cellpose/gui/gui.py`` and run on the stand-in of `helpers.cellpose_gui`, whose
fields hold what the GUI's own code writes into them when it starts.
"""

from __future__ import annotations

import ast
import os
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
from cellpose import core, denoise, dynamics, models
from cellpose.gui import io
from cellpose.transforms import normalize99, resize_image

from helpers.cellpose_gui import open_in_gui

_METHODS = (
    "compute_segmentation", "get_channels", "get_model_path", "get_normalize_params",
    "check_percentile_params", "get_thresholds", "initialize_model", "model_choose",
)  # fmt: skip
_PLAIN = ("stitch_threshold", "flow3D_smooth", "anisotropy", "min_size", "resample", "norm_vals")


class Field:
    """A text field, or a box with choices."""

    def __init__(self, text="") -> None:
        self._text = text

    def setText(self, text) -> None:  # noqa: N802 - Qt's name
        self._text = text

    def text(self) -> str:
        return self._text


@cache
def _source() -> ast.ClassDef:
    path = Path(find_spec("cellpose").origin).parent / "gui" / "gui.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return next(node for node in tree.body if getattr(node, "name", "") == "MainW")


@cache
def gui_methods() -> SimpleNamespace:
    """The methods of Cellpose's main window that choose and run a model."""
    found = [node for node in _source().body if getattr(node, "name", "") in _METHODS]
    names = {"np": np, "os": os, "time": time, "cv2": cv2, "io": io, "models": models,
             "core": core, "denoise": denoise, "dynamics": dynamics, "normalize99": normalize99,
             "resize_image": resize_image}  # fmt: skip
    exec(compile(ast.Module(found, []), "gui.py", "exec"), names)
    return SimpleNamespace(**{name: names[name] for name in _METHODS})


@cache
def starting_texts() -> dict[str, str]:
    """What the GUI's own code writes into its fields before anybody types: texts by name."""
    texts = {}
    for node in ast.walk(_source()):
        match node:
            case ast.Call(
                func=ast.Attribute(
                    attr="setText", value=ast.Attribute(attr=name, value=ast.Name(id="self"))
                ),
                args=[ast.Constant(value=str(text))],
            ):
                texts.setdefault(name, text)
    return texts


@cache
def starting_values() -> dict[str, object]:
    """Numbers that the GUI's own code starts with, by name."""
    values = {}
    for node in ast.walk(_source()):
        match node:
            case ast.Assign(
                targets=[ast.Attribute(attr=name, value=ast.Name(id="self"))], value=value
            ) if name in (*_PLAIN, "diameter"):
                try:
                    values.setdefault(name, ast.literal_eval(value))
                except ValueError:
                    continue
    return values


def start_gui(image: Path):
    """Open an image in a GUI that was just started."""
    window = open_in_gui(image)
    start, texts, methods = starting_values(), starting_texts(), gui_methods()
    for name in _PLAIN:
        setattr(window, name, start[name])
    for name in ("flow_threshold", "cellprob_threshold", "niter"):
        setattr(window, name, Field(texts[name]))
    window.norm_edits = [Field(str(value)) for value in start["norm_vals"]]
    window.Diameter = Field(str(start["diameter"]))
    for name in vars(methods):
        setattr(window, name, _bound(getattr(methods, name), window))
    window.useGPU.isChecked.return_value = False
    window.norm3D_cb.isChecked.return_value = True
    # Progress bars take whole numbers and give nothing back.
    window.progress.setValue.return_value = None
    window.ratio = 1.0
    window.cellcolors = np.array([[255, 255, 255]], np.uint8)
    for box in window.ChannelChoose:
        box.setCurrentIndex(0)
    del window.current_model
    return window


def choose(window, name: str) -> None:
    """Choose one of the custom models, which lie in Cellpose's folder."""
    window.ModelChooseC.currentIndex.return_value = 1
    window.ModelChooseC.currentText.return_value = name
    window.model_choose(custom=True)


def choose_and_run(window, name: str):
    """Choose a custom model, and press "run"."""
    choose(window, name)
    window.compute_segmentation(custom=True)
    return window.cellpix[0]


def _bound(function, window):
    def call(*args, **options):
        return function(window, *args, **options)

    return call
