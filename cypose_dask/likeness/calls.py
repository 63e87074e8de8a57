"""The call of Cellpose that gives the labels of a result: its command line, and Python.

Everything comes from the plan that a result keeps. Cellpose segments images and has no time axis,
so both calls are about one frame.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from cypose_dask.errors import CyposeError, ResultError
from cypose_dask.likeness.differences import cannot_say, differs
from cypose_dask.settings import Settings

__all__ = ["EqualCalls", "Ran", "equal_calls"]

_PYTHON = """\
import torch
from cellpose.models import CellposeModel
{imports}from cypose_dask import open_movie

movie = open_movie({movie})
frame = movie.read_frame({t}, {p}, {z}){channels}
model = CellposeModel({model}, device=torch.device({device!r}))
{restore}masks, flows, styles = model.eval(
    frame,
    channel_axis=0,
    channels={chan},
    diameter={diameter!r},
    niter={niter!r},
    flow_threshold={flow_threshold!r},
    cellprob_threshold={cellprob_threshold!r},
    min_size={min_size!r},
    normalize={normalize},
)
"""
_RESTORE = """\
restoration = DenoiseModel({model}, device=torch.device({device!r}))
frame = np.stack([
    restoration.eval(
        channel.astype(np.float32),
        diameter={diameter!r},
        normalize={normalize},
    )[..., 0]
    for channel in frame
])
"""


@dataclass(frozen=True, slots=True)
class EqualCalls:
    """How to call Cellpose for the labels of one frame.

    Attributes
    ----------
    command : str or None
        A line for a shell, or None if Cellpose's command line cannot say it.
    python : str
        A program that leaves the labels in ``masks``.
    unsaid : tuple of str
        Sentences: what the command line cannot say.
    notes : tuple of str
        Sentences: where Cellpose differs though the settings are equal.
    """

    command: str | None
    python: str
    unsaid: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a result was made with, read from the plan that it keeps.

    Attributes
    ----------
    settings, requested : Settings
        Resolved, and as they were asked for.
    model, movie : dict
        Facts of the model, and of the movie with how it was read.
    restoration : dict or None
        Facts of the restoration network.
    device : str
    """

    settings: Settings
    requested: Settings
    model: dict[str, Any]
    movie: dict[str, Any]
    restoration: dict[str, Any] | None
    device: str

    @classmethod
    def of(cls, plan: Any) -> Ran:
        """Read a plan.

        Raises
        ------
        ResultError
            If it is not the plan of a run.
        """
        try:
            return cls(
                settings=Settings(**plan["settings"]),
                requested=Settings(**plan["requested"]),
                model={n: plan["model"][n] for n in ("name", "path", "kind", "network_inputs",
                                                     "backbone", "diam_mean", "sha256")},
                movie={n: plan["movie"][n] for n in ("path", "reading", "sizes")},
                restoration=plan["restoration"],
                device=plan["device"],
            )  # fmt: skip
        except (LookupError, TypeError, CyposeError) as error:
            raise ResultError(
                f"The result does not say how it was made ({error!r}). Expected one of "
                "`cypose-dask segment`."
            ) from error

    @property
    def inputs(self) -> int:
        """Inputs of the network that the movie fills."""
        channels = self.settings.channels
        return len(channels) if isinstance(channels, tuple) else 1


def equal_calls(
    plan: dict[str, Any], place: tuple[int, int, int] = (0, 0, 0), image: str = "FRAME.tif"
) -> EqualCalls:
    """Return the calls of Cellpose that give the labels of one frame of a result.

    Parameters
    ----------
    plan : dict
        The plan that a result keeps.
    place : tuple of int
        Time, position and plane of the frame in the movie, 0-based.
    image : str
        Path of a file that holds the frame alone, with the channels that the network saw, as
        `cypose-dask export --to seg-npy` writes it.

    Raises
    ------
    ResultError
        If the plan is not one of a run.
    """
    ran = Ran.of(plan)
    unsaid = cannot_say(ran)
    command = None if unsaid else shlex.join(_command(ran, image))
    return EqualCalls(command, _python(ran, place), unsaid, differs(ran))


# ---- python --------------------------------------------------------------------------------


def _python(ran: Ran, place: tuple[int, int, int]) -> str:
    t, p, z = place
    s = ran.settings
    return _PYTHON.format(
        imports="import numpy as np\nfrom cellpose.denoise import DenoiseModel\n"
        if ran.restoration
        else "",
        movie=_movie(ran),
        t=t,
        p=p,
        z=z,
        channels=_selection(ran),
        model=_model(ran.model),
        device=ran.device,
        restore=_restore(ran),
        chan=_channels(ran),
        diameter=s.diameter_px,
        niter=s.niter,
        flow_threshold=s.flow_threshold,
        cellprob_threshold=s.cellprob_threshold,
        min_size=s.min_size_px,
        # As in Cellpose, a restored frame is normalised again by its own percentiles.
        normalize=_normalize(Settings() if ran.restoration else s, ran),
    )


def _movie(ran: Ran) -> str:
    reading = {name: value for name, value in ran.movie["reading"].items() if value is not None}
    return ", ".join([repr(str(ran.movie["path"])), *(f"{n}={v!r}" for n, v in reading.items())])


def _selection(ran: Ran) -> str:
    """Choose channels before Cellpose does: it takes six or more for planes."""
    several = ran.movie["sizes"]["C"] > 1
    if ran.settings.channels == "mean":
        return '.astype("float32").mean(axis=0, keepdims=True)' if several else ""
    chosen = list(ran.settings.channels or ())
    return "" if chosen == list(range(ran.movie["sizes"]["C"])) else f"[{chosen}]"


def _model(model: dict[str, Any]) -> str:
    # By a built-in name Cellpose ignores the scale that the file holds.
    named = model["kind"] == "built-in"
    words = f"model_type={model['name']!r}" if named else f"pretrained_model={model['path']!r}"
    if model["network_inputs"] != 2:
        words += f", nchan={model['network_inputs']}"
    return words + (f", backbone={model['backbone']!r}" if model["backbone"] != "default" else "")


def _channels(ran: Ran) -> list[int] | None:
    """Return ``channels``: 1-based, 0 for none; networks of other than two inputs take None."""
    if ran.model["network_inputs"] != 2:
        return None
    return [0, 0] if ran.inputs == 1 else [1, 2]


def _normalize(s: Settings, ran: Ran) -> dict[str, Any]:
    """Return a full dictionary: Cellpose keeps what an earlier call left out."""
    return {
        "lowhigh": _limits(s, ran),
        "percentile": list(s.percentiles),
        "normalize": s.normalize != "none",
        "norm3D": True,
        "sharpen_radius": 0,
        "smooth_radius": 0,
        "tile_norm_blocksize": 0,
        "tile_norm_smooth3D": 1,
        "invert": s.invert,
    }


def _limits(s: Settings, ran: Ran) -> list[list[float]] | None:
    """Return pairs of intensities, (0, 1) for inputs that are zero and stay so."""
    if isinstance(s.normalize, str):
        return None
    pairs = [list(s.normalize[i : i + 2]) for i in range(0, len(s.normalize), 2)]
    pairs *= ran.inputs if len(pairs) == 1 else 1
    return pairs + [[0.0, 1.0]] * (ran.model["network_inputs"] - len(pairs))


def _restore(ran: Ran) -> str:
    if not ran.restoration:
        return ""
    model = _model({**ran.restoration, "network_inputs": 2, "backbone": "default"})
    inputs = ran.restoration["network_inputs"]
    model += f", nchan={inputs}" if inputs != 1 else ""
    if ran.restoration["kind"] != "built-in":
        model += f", diam_mean={ran.restoration['diam_mean']!r}"
    normalize = _normalize(ran.settings, ran)
    if normalize["lowhigh"]:
        normalize["lowhigh"] = normalize["lowhigh"][0]
    return _RESTORE.format(
        model=model, device=ran.device, diameter=ran.settings.diameter_px, normalize=normalize
    )


# ---- the command line ----------------------------------------------------------------------


def _command(ran: Ran, image: str) -> list[str]:
    s = ran.settings
    model = ran.model["name"] if ran.model["kind"] == "built-in" else ran.model["path"]
    words = ["python", "-m", "cellpose", "--image_path", image, "--pretrained_model", model]
    words += _chan(ran)
    words += ["--diameter", repr(s.diameter_px), "--niter", str(_steps(ran))]
    words += ["--flow_threshold", repr(s.flow_threshold)]
    words += ["--cellprob_threshold", repr(s.cellprob_threshold), "--min_size", str(s.min_size_px)]
    if s.normalize == "none":
        words.append("--no_norm")
    elif s.percentiles != (1.0, 99.0):
        words += ["--norm_percentile", *map(repr, s.percentiles)]
    words += ["--invert"] if s.invert else []
    if ran.restoration:
        words += ["--restore_type", ran.restoration["name"]]
    words += {"cuda": ["--use_gpu"], "mps": ["--use_gpu", "--gpu_device", "mps"]}.get(
        ran.device, []
    )
    return [*words, "--save_tif", "--no_npy"]


def _steps(ran: Ran) -> int:
    """Return whole steps, as its option takes them; Cellpose cuts the rest off anyway."""
    return int(ran.settings.niter or 0)


def _chan(ran: Ran) -> list[str]:
    if ran.model["network_inputs"] != 2:
        return ["--all_channels"]
    if ran.inputs == 1:
        return ["--chan", "0"]
    return ["--channel_axis", "0", "--chan", "1", "--chan2", "2"]
