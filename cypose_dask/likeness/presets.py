"""What each program that runs Cellpose sets when its user says nothing.

Line numbers are those of Cellpose 3.1.1.3 (``__main__.py``, ``cli.py``, ``models.py``,
``gui/gui.py``, ``gui/io.py``) and of CyPose's ``run_segmentation.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cypose_dask.errors import SettingsError

__all__ = ["PRESETS", "Likeness", "preset"]

# `CellposeModel.eval` (models.py 378-383) says so for every program that does not say otherwise.
_EVAL: dict[str, Any] = {
    "niter": None,
    "flow_threshold": 0.4,
    "cellprob_threshold": 0.0,
    "min_size_px": 15,
    "normalize": "frame",
    "percentiles": (1.0, 99.0),
    "invert": False,
    "denoise": None,
}
# The GUI's field before anybody types, and `Cellpose.eval` and ``--diameter``, px.
_START_PX = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Likeness:
    """Settings that another program has, or had.

    Attributes
    ----------
    name : str
        Which program or file, for a person.
    settings : dict
        Fields of `Settings` by name, with what they are there.
    notes : tuple of str
        Sentences about what was assumed, or is done otherwise.
    refused : dict of str to str
        Fields that cannot be taken over, and why. Each must be said by hand.
    """

    name: str
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)

    def settle(self, said: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the settings with what somebody said by hand, and sentences about both.

        Parameters
        ----------
        said : mapping
            Fields of `Settings` that were said by hand; they win.

        Raises
        ------
        SettingsError
            If a field cannot be taken over and was not said by hand.
        """
        open_ = [why for name, why in self.refused.items() if name not in said]
        if open_:
            raise SettingsError(f"{self.name}: {' '.join(open_)}")
        own = [
            f"{name} is {_shown(value)} as said by hand, not {_shown(self.settings[name])}"
            for name, value in said.items()
            if name in self.settings and value != self.settings[name]
        ]
        insisted = [
            f"{name} is {_shown(value)} as said by hand, where {self.name} has what this program "
            "does not do"
            for name, value in said.items()
            if name in self.refused
        ]
        return {**self.settings, **said}, (*self.notes, *own, *insisted)


def preset(name: str, model: str | None = None) -> Likeness:
    """Return what a program sets when its user says nothing but perhaps a model.

    Parameters
    ----------
    name : str
        One of `PRESETS`.
    model : str or None
        The model that will be used, by name or path; None if nobody said.

    Raises
    ------
    SettingsError
        If there is no such preset.
    ModelError
        If the GUI's diameter, which is the model's own, cannot be read from it.
    """
    if name not in PRESETS:
        raise SettingsError(
            f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}, or give a _seg.npy "
            "of Cellpose's GUI."
        )
    return PRESETS[name](model)


def _cypose(model: str | None) -> Likeness:
    """``run_segmentation.py`` of CyPose.

    Flow threshold 0.75 (its ``--flow_threshold``); channels [1, 0], and [1, 2] for a model file
    with "2ch" in its name, which is then still given one plane; a built-in name has [0, 0]. The
    size is measured on the first frame with cyto2's size model, and kept. There is no default
    model.
    """
    settings = {**_EVAL, "channels": (0,), "diameter": "estimate", "flow_threshold": 0.75}
    notes = [
        "CyPose measures the size on the first frame, with cyto2's size model whatever the model; "
        "here it is measured on frames of the whole movie with the model's own. For the same "
        "labels give --diameter the size that CyPose printed"
    ]
    if model and "2ch" in Path(model).name:
        notes.append(
            "CyPose gives a 2ch model the first channel alone, and zeros for the second; for both "
            "say --channels 0,1"
        )
    return Likeness(name="cypose", settings=settings, notes=(*notes, *_no_model(model, "CyPose")))


def _cellpose_cli(model: str | None) -> Likeness:
    """``python -m cellpose``.

    cli.py: ``--chan 0`` (55) and ``--chan2 0`` (58), ``--pretrained_model cyto3`` (69),
    ``--diameter 30`` (107), ``--min_size 15`` (115), ``--flow_threshold 0.4`` (122),
    ``--cellprob_threshold 0`` (125), ``--niter 0`` (128); ``__main__.py`` 111-115 normalises by
    percentiles 1 and 99 unless ``--no_norm``. Chan 0 is the mean of all channels (transforms.py
    589).
    """
    settings = {**_EVAL, "model": "cyto3", "channels": "mean", "diameter": _START_PX}
    return Likeness(name="cellpose-cli", settings=settings)


def _cellpose_api(model: str | None) -> Likeness:
    """``CellposeModel(...).eval(frame)``.

    models.py 378-383: ``channels=None`` keeps the first channels, as many as the network has
    inputs (transforms.py 544-556); ``diameter=None`` is the model's own (487-490). ``Cellpose``
    has 30 px and channels [0, 0] instead (150-151).
    """
    settings = {**_EVAL, "channels": "first", "diameter": "model"}
    notes = (
        "this is CellposeModel.eval; the class Cellpose has --diameter 30 and --chan 0 instead",
        *_no_model(model, "CellposeModel"),
    )
    return Likeness(name="cellpose-api", settings=settings, notes=notes)


def _cellpose_gui(model: str | None) -> Likeness:
    """Cellpose's GUI, where a model is chosen and run.

    gui.py: 0.4 and 0.0 (605, 621), percentiles 1 and 99 (639), niter 0 (666), channels 0 and 0
    (519; gray is the mean), the diameter is the chosen model's own, rounded to hundredths
    (995-996), or 30 (489) if the button of cyto3 is pressed (556).
    """
    from cypose_dask.models import resolve_model

    button = model in (None, "cyto3")
    diameter = _START_PX if button else round(resolve_model(str(model)).diameter, 2)
    settings = {**_EVAL, "model": "cyto3", "channels": "mean", "diameter": diameter}
    if model is not None:
        del settings["model"]
    notes = ("the GUI runs on a GPU wherever it finds one; if yours did, add --gpu",)
    return Likeness(name="cellpose-gui", settings=settings, notes=notes)


def _no_model(model: str | None, program: str) -> tuple[str, ...]:
    if model is not None:
        return ()
    return (f"{program} has no model of its own, so this program's default is used; say --model",)


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


PRESETS: dict[str, Callable[[str | None], Likeness]] = {
    "cypose": _cypose,
    "cellpose-cli": _cellpose_cli,
    "cellpose-gui": _cellpose_gui,
    "cellpose-api": _cellpose_api,
}
