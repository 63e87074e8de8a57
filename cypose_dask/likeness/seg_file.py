"""What a person had set in Cellpose's GUI, as its ``_seg.npy`` keeps it.

Source: cellpose 3.1.1.3 `gui.io._save_sets` (628-710) and `io.masks_flows_to_seg` (547-570), which
write the files: the GUI keeps model, diameter, thresholds, channels and normalisation as its fields
are when it saves; the command line keeps channels and diameter alone.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from cypose_dask.errors import MovieError, MovieNotFoundError, SettingsError
from cypose_dask.likeness.presets import Likeness
from cypose_dask.models import list_models
from cypose_dask.models.builtin import model_folder, name_of_file
from cypose_dask.models.pickled import read_pickled_npy

__all__ = ["read_seg_file", "seg_file_likeness"]

# Steps before normalisation that the GUI's "filter" has and this program has not.
_FILTERS = {
    "sharpen_radius": "sharpening",
    "smooth_radius": "smoothing",
    "tile_norm_blocksize": "normalisation by tiles",
}
# What Cellpose's command line and GUI have where the file says nothing.
_ASSUMED = {"niter": None, "min_size_px": 15, "flow_threshold": 0.4, "cellprob_threshold": 0.0,
            "percentiles": (1.0, 99.0)}  # fmt: skip


def seg_file_likeness(path: str | Path) -> Likeness:
    """Return the settings that a ``_seg.npy`` keeps.

    Parameters
    ----------
    path : str or Path
        As Cellpose's GUI, its command line, or `cypose-dask export --to seg-npy` wrote it.

    Returns
    -------
    Likeness
        What cannot be taken over (a model that is not here, a restored or filtered image) is in
        `refused`, what the file does not say in `notes`.

    Raises
    ------
    MovieNotFoundError
        If there is no such file.
    MovieError
        If it is no ``_seg.npy``, or damaged.
    SettingsError
        If it is of a stack, which Cellpose segments in 3D.
    """
    path = Path(path)
    content = read_seg_file(path)
    _refuse_stacks(path, content)
    found = _Found(path.name)
    try:
        _take_model(found, content)
        _take_numbers(found, content)
        _take_channels(found, content)
        _take_normalization(found, content.get("normalize_params"))
        _take_restoration(found, content.get("restore"))
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise MovieError(
            f"{path}: its settings cannot be read ({error!r}). Open and save it in Cellpose's GUI "
            "again, or give the settings by hand."
        ) from error
    return Likeness(
        name=path.name, settings=found.settings, notes=tuple(found.notes), refused=found.refused
    )


def read_seg_file(path: Path) -> dict[str, Any]:
    """Return the dictionary in a ``_seg.npy``.

    Raises
    ------
    MovieNotFoundError, MovieError
        As `seg_file_likeness`.
    """
    if not path.is_file():
        raise MovieNotFoundError(
            f"{path}: there is no such file. Expected a _seg.npy of Cellpose's GUI."
        )
    try:
        content = read_pickled_npy(path)
    except (pickle.UnpicklingError, OSError) as error:
        raise MovieError(f"{path}: cannot be read as a _seg.npy of Cellpose ({error}).") from error
    if not isinstance(content, dict) or not isinstance(content.get("masks"), np.ndarray):
        raise MovieError(f"{path}: holds no masks; expected a _seg.npy of Cellpose's GUI.")
    return content


def _refuse_stacks(path: Path, content: dict[str, Any]) -> None:
    shape = content["masks"].squeeze().shape
    if len(shape) != 2:
        raise SettingsError(
            f"{path}: its masks have the shape {shape}, so it was segmented as a stack in 3D. "
            "cypose-dask segments planes one by one and cannot give the same cells."
        )


@dataclass(slots=True)
class _Found:
    """What was found in a file so far."""

    file: str
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def assume(self, name: str) -> None:
        """Take what Cellpose has anyway, and say so."""
        value = _ASSUMED[name]
        self.settings[name] = value
        shown = "automatic" if value is None else str(value).strip("()")
        self.notes.append(f"{self.file} does not say {name}; Cellpose's own is taken: {shown}")


# ---- the model -----------------------------------------------------------------------------


def _take_model(found: _Found, content: dict[str, Any]) -> None:
    where = content.get("model_path")
    if not where:
        found.refused["model"] = (
            "It does not say which model was run. Say it with --model NAME_OR_PATH."
        )
        return
    where = str(where)
    name = _model_here(where)
    if name is None:
        found.refused["model"] = (
            f"Its model {where} is not on this machine, nor is one of that name known. Copy it "
            "here, or say with --model where it lies."
        )
        return
    found.settings["model"] = name
    if name != where:
        found.notes.append(f"the model {where} is not on this machine; {name} is taken instead")


def _model_here(where: str) -> str | None:
    """Return the path of a model, or the name by which it is known here."""
    path = Path(where)
    if path.is_file():
        # The GUI runs cyto3 by its name and every other model by its path (gui.py 2123-2131).
        return "cyto3" if path == model_folder() / "cyto3" else where
    kind = PureWindowsPath if "\\" in where else PurePosixPath
    file = kind(where).name
    if (model_folder() / file).is_file():
        return str(model_folder() / file)
    name = name_of_file(file)
    return name if name in list_models() else None


# ---- numbers and channels ------------------------------------------------------------------


def _take_numbers(found: _Found, content: dict[str, Any]) -> None:
    if content.get("diameter") is None:
        found.refused["diameter"] = "It does not say the diameter. Say it with --diameter PX."
    else:
        found.settings["diameter"] = float(content["diameter"])
    # Without a check of the flows the GUI keeps None (gui.py 2240).
    _take(found, "flow_threshold", content)
    _take(found, "cellprob_threshold", content)
    if "niter" in content:
        found.settings["niter"] = float(content["niter"]) if content["niter"] else None
    else:
        found.assume("niter")
    if "min_size" in content:
        found.settings["min_size_px"] = int(content["min_size"])
    else:
        found.assume("min_size_px")


def _take(found: _Found, name: str, content: dict[str, Any]) -> None:
    if name not in content:
        found.assume(name)
        return
    value = content[name]
    found.settings[name] = 0.0 if value is None else float(value)


def _take_channels(found: _Found, content: dict[str, Any]) -> None:
    """Take the channels, which Cellpose counts from 1; 0 is the mean, whatever comes second."""
    first, second = (int(index) for index in content.get("chan_choose", (0, 0)))
    if first == 0:
        found.settings["channels"] = "mean"
        found.notes.append(
            "its channel is gray, the mean of all channels; if its image was one channel of your "
            "movie, say which with --channels"
        )
    else:
        found.settings["channels"] = (first - 1, second - 1) if second else (first - 1,)


# ---- what happens to pixels ----------------------------------------------------------------


def _take_normalization(found: _Found, params: dict[str, Any] | None) -> None:
    if params is None:
        found.settings |= {"normalize": "frame", "invert": False}
        found.assume("percentiles")
        return
    filters = [word for key, word in _FILTERS.items() if params.get(key, 0)]
    if filters:
        found.refused["normalize"] = (
            f"Its image went through {' and '.join(filters)} first, which cypose-dask does not do. "
            "Say --normalize frame to segment without."
        )
    percentiles = params.get("percentile")
    found.settings |= {
        "normalize": _normalize(params),
        "percentiles": tuple(map(float, percentiles)) if percentiles else (1.0, 99.0),
        "invert": bool(params.get("invert", False)),
    }


def _normalize(params: dict[str, Any]) -> Any:
    if params.get("lowhigh") is not None:
        return tuple(float(value) for value in np.ravel(params["lowhigh"]))
    return "frame" if params.get("normalize", True) else "none"


def _take_restoration(found: _Found, restore: str | None) -> None:
    """Refuse a restored image, which the GUI stretches to 0-255 first (gui.py 2371-2390)."""
    if restore in (None, "filter"):  # the parameters of the filter were looked at already
        found.settings["denoise"] = None
        return
    usable = "upsample" not in restore
    advice = f"--restoration {restore} restores by the same network; " if usable else ""
    found.refused["denoise"] = (
        f"Its image was restored with {restore} in the GUI, which then segments a rescaled copy. "
        f"{advice}labels will not be equal pixel by pixel."
    )
