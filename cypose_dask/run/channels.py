"""Which movie channels feed the network. Found by name or asked for, never guessed."""

from __future__ import annotations

import re

from cypose_dask.errors import ModelError, MovieError, SettingsError
from cypose_dask.models import ModelSpec
from cypose_dask.movies import MovieInfo
from cypose_dask.settings import Channels

__all__ = ["resolve_channels"]


def resolve_channels(wanted: Channels, info: MovieInfo, model: ModelSpec) -> Channels:
    """Return 0-based channel indexes in the order of the network's inputs, or ``"mean"``.

    Parameters
    ----------
    wanted : tuple, "mean", "first" or None
        As `Settings.channels`.
    info : MovieInfo
    model : ModelSpec

    Raises
    ------
    SettingsError
        If a named channel does not exist or is ambiguous.
    MovieError
        If the movie has several channels and neither the caller nor the model says which.
    ModelError
        If more channels are chosen than the network has inputs.
    """
    if wanted == "mean":
        return "mean"
    if wanted == "first":
        chosen = tuple(range(min(info.sizes["C"], model.network_inputs)))
    elif wanted is not None:
        chosen = tuple(_index(channel, info) for channel in wanted)
    elif info.sizes["C"] == 1:
        chosen = (0,)
    else:
        chosen = tuple(_match(words, info, model) for words in model.wants)
    if not chosen:
        raise MovieError(
            f"{info.path} has {_listing(info)}, and the model {model.name!r} does not say which it "
            "wants. Choose with --channels NAME_OR_INDEX."
        )
    if len(chosen) > model.network_inputs:
        raise ModelError(
            f"{len(chosen)} channels were chosen, but {model.name!r} has {model.network_inputs} "
            "inputs. Choose fewer with --channels."
        )
    return chosen


def _index(channel: int | str, info: MovieInfo) -> int:
    names = info.channel_names
    if isinstance(channel, str):
        found = [i for i, name in enumerate(names) if name.casefold() == channel.casefold()]
        if len(found) == 1:
            return found[0]
        problem = "is not there" if not found else "occurs more than once"
        raise SettingsError(
            f"Channel {channel!r} {problem}. {info.path} has {_listing(info)}; choose by index."
        )
    if not 0 <= channel < len(names):
        raise SettingsError(
            f"Channel {channel} is not there. {info.path} has {_listing(info)}, counted from 0."
        )
    return channel


def _match(words: tuple[str, ...], info: MovieInfo, model: ModelSpec) -> int:
    # Whole words: "ph" must find "Ph2" but not "chlorophyll".
    pattern = "|".join(rf"(?<![a-z]){re.escape(word.lower())}(?![a-z])" for word in words)
    found = [i for i, name in enumerate(info.channel_names) if re.search(pattern, name.lower())]
    if len(found) == 1:
        return found[0]
    problem = "none of them is" if not found else "several of them could be"
    raise MovieError(
        f"{info.path} has {_listing(info)}; {problem} what the model {model.name!r} wants "
        f"({', '.join(words)}). Choose with --channels NAME_OR_INDEX."
    )


def _listing(info: MovieInfo) -> str:
    names = ", ".join(f"{i} {name!r}" for i, name in enumerate(info.channel_names))
    return f"{info.sizes['C']} channel{'s' if info.sizes['C'] > 1 else ''} ({names})"
