"""The plan: everything that is guessed, asked or measured is settled here, before any work."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cypose_dask.engine import (
    SMALLEST_FRAME_PX,
    load_networks,
    resolve_settings,
    settle_engine,
    settle_numbers,
)
from cypose_dask.engine.runtimes import packages_of
from cypose_dask.errors import MovieError, SettingsError
from cypose_dask.models import ModelSpec, resolve_model, resolve_restoration
from cypose_dask.movies import Movie
from cypose_dask.results import Layout
from cypose_dask.run.channels import resolve_channels
from cypose_dask.run.memory import blocks_at_once, memory_here, require_memory
from cypose_dask.run.plan_text import describe
from cypose_dask.run.watch import scheduler_may_be_lost
from cypose_dask.settings import RunOptions, Settings

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Block", "Plan", "make_plan"]

# Frames that the diameter is estimated on, and that a movie-wide normalisation samples.
_SAMPLED_FRAMES = 5
_LARGEST_BLOCK_BYTES = 128 * 2**20
_LONGEST_BLOCK_FRAMES = 32
# Changes of our own code that can change a label raise this number.
LABEL_VERSION = 1


@dataclass(frozen=True, slots=True)
class Block:
    """The frames of one Dask task: consecutive T of one position, all Z.

    `start` and `stop` count frames of the movie, `position` its positions.
    """

    position: int
    start: int
    stop: int

    def follows(self, other: Block) -> bool:
        """Tell whether this block begins where another one ends."""
        return (self.position, self.start) == (other.position, other.stop)

    def __str__(self) -> str:
        return f"p{self.position} t{self.start}-{self.stop - 1}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What will be done to one movie. No word is left in it that means "to be decided".

    Attributes
    ----------
    movie : Movie
    settings : Settings
        Resolved: numbers for diameter and steps, indexes for channels, an end for the frames.
    requested : Settings
        As the user gave them.
    model, restoration : ModelSpec, ModelSpec or None
    device : str
        ``"cpu"``, ``"cuda"`` or ``"mps"``.
    frames_per_block : int
    debug : bool
    """

    movie: Movie
    settings: Settings
    requested: Settings
    model: ModelSpec
    restoration: ModelSpec | None
    device: str
    frames_per_block: int
    debug: bool

    @property
    def network_input(self) -> Movie:
        """The movie with the channels that the network sees, in its order."""
        return chosen_channels(self.movie, self.settings)

    @property
    def start(self) -> int:
        """First frame."""
        return self.settings.start_frame

    @property
    def stop(self) -> int:
        """Frame after the last."""
        if self.settings.end_frame is None:
            raise SettingsError("This plan was not resolved; make it with make_plan.")
        return self.settings.end_frame

    @property
    def positions(self) -> range:
        """Positions of the movie."""
        return range(self.movie.info.sizes["P"])

    @property
    def n_frames(self) -> int:
        """Number of (Y, X) frames to segment: T x P x Z."""
        return (self.stop - self.start) * len(self.positions) * self.movie.info.sizes["Z"]

    def blocks(self) -> Iterator[Block]:
        """Yield every block, position by position."""
        for position in self.positions:
            for start in range(self.start, self.stop, self.frames_per_block):
                yield Block(position, start, min(start + self.frames_per_block, self.stop))

    def layout(self) -> Layout:
        """Return the shape of the result."""
        info = self.movie.info
        return Layout(
            position_names=info.position_names,
            frames=self.stop - self.start,
            planes=info.sizes["Z"],
            height=info.sizes["Y"],
            width=info.sizes["X"],
            frames_per_block=self.frames_per_block,
            debug=self.debug,
            pixel_size_um=info.pixel_size_um,
            z_step_um=info.z_step_um,
            interval_s=info.interval_s,
        )

    def fingerprint(self) -> dict[str, Any]:
        """Return every fact that can change a label, by name, and what the store keeps."""
        settings = self.settings.to_dict()
        del settings["model"], settings["denoise"]  # their hashes count, not their names
        input_ = self.movie.info.fingerprint
        return {
            "input size in bytes": input_.size_bytes,
            "input content": input_.content_sha256,
            **{f"{name} of the file": value for name, value in self.movie.info.reading.items()},
            **{name.replace("_", " "): value for name, value in settings.items()},
            "model sha256": self.model.sha256,
            "restoration sha256": self.restoration.sha256 if self.restoration else None,
            "debug": self.debug,
            "device": self.device,
            "blank frames": "no cells",
            "label version": LABEL_VERSION,
            **{f"{name} version": _version(name) for name in self._packages_that_count},
        }

    @property
    def _packages_that_count(self) -> tuple[str, ...]:
        """Packages whose numbers end in the labels; our own kernels have `LABEL_VERSION`."""
        restores = ("torch",) if self.restoration else ()
        return tuple(dict.fromkeys(("cellpose", *packages_of(self.settings.runtime), *restores)))

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values, to be stored with the result."""
        info = self.movie.info
        return {
            "movie": {
                "path": info.path,
                "format": info.format,
                "sizes": dict(info.sizes),
                "dtype": str(info.dtype),
                "channel_names": list(info.channel_names),
                "position_names": list(info.position_names),
                "pixel_size_um": info.pixel_size_um,
                "z_step_um": info.z_step_um,
                "interval_s": info.interval_s,
                "fingerprint": asdict(info.fingerprint),
                "reading": dict(info.reading),
                "notes": list(info.notes),
            },
            "settings": self.settings.to_dict(),
            "requested": self.requested.to_dict(),
            "model": self.model.to_dict(),
            "restoration": self.restoration.to_dict() if self.restoration else None,
            "channels": self.settings.to_dict()["channels"],
            "start_frame": self.start,
            "end_frame": self.stop,
            "positions": list(self.positions),
            "device": self.device,
            "frames_per_block": self.frames_per_block,
            "debug": self.debug,
            "versions": _versions(),
        }

    def describe(self) -> list[str]:
        """Return the plan as lines for a person."""
        return describe(self)


def make_plan(
    movie: Movie,
    settings: Settings | None = None,
    options: RunOptions | None = None,
    *,
    client: Client | None = None,
    measured: Settings | None = None,
) -> Plan:
    """Settle model, channels, frames, diameter, normalisation and blocks of one movie.

    Parameters
    ----------
    movie : Movie
    settings : Settings
    options : RunOptions
    client : Client or None
        Cluster that measures on sampled frames and names its device; None uses this process.
    measured : Settings or None
        Resolved settings of an earlier run of the same request, which spare the measurement.

    Raises
    ------
    SettingsError, MovieError, ModelError, DeviceError
        If anything cannot be settled. The message says what to do.
    """
    settings, options = settings or Settings(), options or RunOptions()
    model = resolve_model(settings.model)
    restoration = resolve_restoration(settings.denoise) if settings.denoise else None
    device, settled = _ask(client, settle_engine, settings, model)
    _check_frame_size(movie)
    resolved = settled.replace(
        channels=resolve_channels(settings.channels, movie.info, model),
        end_frame=_last_frame(settings, movie),
    )
    if measured is None:
        sampler = _Sampler(movie, resolved, model, restoration, device)
        measured = _ask(client if sampler.reads_frames else None, sampler.resolve)
    resolved = resolved.replace(
        diameter=measured.diameter, niter=measured.niter, normalize=measured.normalize
    )
    plan = Plan(
        movie=movie,
        settings=resolved,
        requested=settings,
        model=model,
        restoration=restoration,
        device=device,
        frames_per_block=options.frames_per_block or _block_length(movie, resolved, client),
        debug=options.debug,
    )
    require_memory(plan, available=_ask(client, memory_here), at_once=blocks_at_once(client))
    return plan


@dataclass(frozen=True, slots=True)
class _Sampler:
    """Resolves settings on sampled frames; small enough to be sent to a worker."""

    movie: Movie
    settings: Settings
    model: ModelSpec
    restoration: ModelSpec | None
    device: str

    @property
    def reads_frames(self) -> bool:
        return self.settings.diameter == "estimate" or self.settings.normalize == "movie"

    def resolve(self) -> Settings:
        if not self.reads_frames:
            return settle_numbers(self.settings, self.model)
        networks = load_networks(self.model, self.device, self.restoration, settings=self.settings)
        return resolve_settings(self.settings, networks, np.stack(list(self._frames())))

    def _frames(self) -> Iterator[np.ndarray]:
        """Yield frames spread evenly over time, going round the positions; middle plane."""
        movie = chosen_channels(self.movie, self.settings)
        sizes = movie.info.sizes
        last = (self.settings.end_frame or sizes["T"]) - 1
        times = np.linspace(self.settings.start_frame, last, _SAMPLED_FRAMES).round().astype(int)
        places = dict.fromkeys((int(t), i % sizes["P"]) for i, t in enumerate(times))
        damaged = {(t, p) for t, p, _ in self.movie.info.damaged}
        good = [place for place in places if place not in damaged]
        if not good:
            raise MovieError(
                f"{self.movie.info.path}: all {len(places)} sampled frames are damaged, so nothing "
                "can be measured on them. Give the diameter and the normalisation as numbers."
            )
        for t, p in good:
            yield movie.read_frame(t, p, sizes["Z"] // 2)


def chosen_channels(movie: Movie, settings: Settings) -> Movie:
    """Return a movie with the chosen channels; all of them for ``"mean"``."""
    if not isinstance(settings.channels, tuple):
        return movie
    return movie.with_channels([int(channel) for channel in settings.channels])


def _ask(client: Client | None, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function on the cluster, or here without one."""
    if client is None:
        return function(*args)
    with scheduler_may_be_lost(client):
        return client.submit(function, *args, pure=False).result()


def _check_frame_size(movie: Movie) -> None:
    height, width = (movie.info.sizes[axis] for axis in "YX")
    if min(height, width) < SMALLEST_FRAME_PX:
        raise MovieError(
            f"{movie.info.path}: frames are {height} x {width} px; Cellpose needs at least "
            f"{SMALLEST_FRAME_PX} x {SMALLEST_FRAME_PX}."
        )


def _last_frame(settings: Settings, movie: Movie) -> int:
    length = movie.info.sizes["T"]
    end = length if settings.end_frame is None else settings.end_frame
    if settings.start_frame >= length or end > length:
        raise SettingsError(
            f"Frames {settings.start_frame} to {end} (exclusive) were asked for, but "
            f"{movie.info.path} has {length} frames along T, counted from 0."
        )
    return end


def _block_length(movie: Movie, settings: Settings, client: Client | None) -> int:
    sizes = movie.info.sizes
    frame_bytes = sizes["Z"] * sizes["Y"] * sizes["X"] * np.dtype(np.uint32).itemsize
    threads = sum(client.nthreads().values()) if client else 1
    frames = (settings.end_frame or sizes["T"]) - settings.start_frame
    # Eight blocks a thread: the last ones end together.
    fair = math.ceil(frames * sizes["P"] / (8 * max(threads, 1)))
    fits = _LARGEST_BLOCK_BYTES // frame_bytes
    return int(max(1, min(fair, fits, _LONGEST_BLOCK_FRAMES, frames)))


def _versions() -> dict[str, str]:
    names = (
        "cypose-dask", "cellpose", "torch", "openvino", "numpy", "dask", "zarr", "tifffile", "nd2",
    )  # fmt: skip
    return {name: _version(name) for name in names}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
