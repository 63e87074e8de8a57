"""A small widget: choose an image and a model, segment the frame in view."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from cypose_dask.errors import CyposeError
from cypose_dask.settings import Settings
from cypose_dask.viewer.current_frame import (
    Shown,
    current_place,
    segment_current,
    settings_behind,
)
from cypose_dask.viewer.form import LARGEST, fields_of, settings_meant

__all__ = ["make_widget"]

_NAME = "cells (current frame)"
_DEFAULT = Settings()
_TIPS = {
    "second_image": "Channel for the second input of the network, if it has one.",
    "own_weights": "A file of Cellpose 2 or 3 weights, instead of a model of the list.",
    "diameter": "Of a cell. 0 takes the mean diameter that the model was trained on.",
}
# OpenVINO's requests belong to the thread that made them, and crash where Qt ends one of its own.
_ENGINE = ThreadPoolExecutor(max_workers=1, thread_name_prefix="segment-current")

log = logging.getLogger(__name__)


def make_widget() -> Any:
    """Return the widget; napari, magicgui and Qt are imported in functions alone."""
    from magicgui.widgets import Container, PushButton

    from cypose_dask.models import list_models

    models = [_DEFAULT.model, *list_models()]
    button = PushButton(text="Segment", name="segment")
    widget = Container(widgets=[*_of_viewer(), *_fields(models), button])
    form = _Form(widget, models)
    widget.image.changed.connect(form.follow)
    button.changed.connect(lambda: _press(widget, form))
    return widget


def _of_viewer() -> list[Any]:
    """Return what napari fills: the viewer, which is not shown, and lists of its images."""
    from magicgui.widgets import create_widget
    from napari import Viewer
    from napari.layers import Image

    second = {"nullable": True, "tooltip": _TIPS["second_image"]}
    return [
        create_widget(name="viewer", annotation=Viewer),
        create_widget(name="image", annotation=Image),
        create_widget(
            name="second_image", label="second channel", annotation=Image, options=second
        ),
    ]


def _fields(models: list[str]) -> list[Any]:
    """Return a widget for each field of the form."""
    from magicgui.widgets import CheckBox, ComboBox, FileEdit, FloatSpinBox

    return [
        ComboBox(name="model", choices=models),
        FileEdit(name="own_weights", nullable=True, tooltip=_TIPS["own_weights"]),
        FloatSpinBox(
            name="diameter", label="diameter (px)", max=LARGEST, tooltip=_TIPS["diameter"]
        ),
        FloatSpinBox(name="flow_threshold", max=LARGEST, step=0.05),
        FloatSpinBox(name="cellprob_threshold", min=-LARGEST, max=LARGEST, step=0.5),
        CheckBox(name="gpu", label="GPU"),
    ]


class _Form:
    """The fields, which begin with the settings of the run whose movie is chosen."""

    def __init__(self, widget: Any, models: list[str]) -> None:
        self._widget, self._models = widget, models
        self._fill(_DEFAULT)

    def follow(self, image: Any) -> None:
        """Fill the fields for another image, unless its movie was segmented the same way."""
        settings = _DEFAULT if image is None else settings_behind(image.metadata)
        if settings != self._settings:
            self._fill(settings)

    def meant(self) -> Settings:
        """Return the settings that the fields mean; may raise SettingsError."""
        return settings_meant(self._settings, self._before, self._values())

    def _fill(self, settings: Settings) -> None:
        self._settings = settings
        for name, value in fields_of(settings, self._models).items():
            self._widget[name].value = value
        self._before = self._values()

    def _values(self) -> dict[str, Any]:
        return {name: self._widget[name].value for name in fields_of(_DEFAULT, self._models)}


def _press(widget: Any, form: _Form) -> None:
    """Begin with the frame in view, or say why not."""
    image, second = widget.image.value, widget.second_image.value
    images = [image] if second is None else [image, second]
    if any(image is None or image.rgb for image in images):
        _complain("Choose an image of one channel; there is none, or it has colours.")
        return
    try:
        settings = form.meant()
    except CyposeError as error:
        _complain(error)
        return
    _begin(widget.viewer.value, images, settings=settings, widget=widget)


def _begin(viewer: Any, images: list[Any], *, settings: Settings, widget: Any) -> None:
    """Segment in a thread, so that the viewer stays alive, and show labels or what went wrong."""
    from napari.qt.threading import create_worker

    shown = [_in_view(viewer, image) for image in images]
    worker = create_worker(
        lambda: _ENGINE.submit(segment_current, shown, settings).result(),
        _ignore_errors=True,
        _start_thread=False,
    )
    place = shown[0][1]
    worker.returned.connect(lambda labels: _show(viewer, images[0], (place, labels, settings)))
    worker.errored.connect(_complain)
    worker.finished.connect(lambda: setattr(widget, "enabled", True))
    # One frame at a time.
    widget.enabled = False
    worker.start()


def _in_view(viewer: Any, image: Any) -> Shown:
    """Return the data of an image in full resolution, and the place of the frame in view."""
    data = image.data[0] if image.multiscale else image.data
    return data, current_place(data.shape, image.world_to_data(viewer.dims.point))


def _complain(error: Exception | str) -> None:
    from napari.utils.notifications import show_error

    if isinstance(error, Exception) and not isinstance(error, CyposeError):
        log.error("Segmenting the current frame failed.", exc_info=error)
        error = f"{type(error).__name__}: {error}"
    show_error(str(error))


def _show(viewer: Any, image: Any, made: tuple[tuple[int, ...], np.ndarray, Settings]) -> None:
    """Show labels of one frame where it lies in the image: in our layer, or in a new one."""
    place, labels, settings = made
    corner = np.asarray(image.data_to_world((*place, 0, 0)), float)[-labels.ndim :]
    where = {"scale": image.scale, "translate": corner, "units": image.units}
    about = {"settings": settings.to_dict()}
    ours = _ours(viewer, labels.ndim)
    if ours is None:
        viewer.add_labels(
            labels, name=_NAME, axis_labels=image.axis_labels, metadata=about, **where
        )
        return
    ours.data = labels
    ours.metadata = about
    for name, value in where.items():
        setattr(ours, name, value)


def _ours(viewer: Any, ndim: int) -> Any:
    """Return our layer; one that was given another name is kept as it is."""
    from napari.layers import Labels

    found = (one for one in viewer.layers if isinstance(one, Labels) and one.ndim == ndim)
    return next((one for one in found if one.name.startswith(_NAME)), None)
