"""The GPUs of this machine: which there are, which may be used, and a pinned worker for each."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cypose_dask.engine import usable_cores
from cypose_dask.errors import DeviceError, SettingsError
from cypose_dask.run.clusters.own import GPU_THREADS, PRELOAD, thread_variables

if TYPE_CHECKING:
    from distributed import SpecCluster
    from distributed.security import Security

__all__ = ["Gpus", "chosen_gpus", "gpu_cluster"]

_MASK = "CUDA_VISIBLE_DEVICES"
_TIMEOUT_S = 30.0
# Source: nvidia-smi -L, "GPU 0: NVIDIA A100 (UUID: GPU-5d5b...)" and, indented below a card that is
# divided, "  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4...)".
_CARD = re.compile(r"GPU (\d+): .*\(UUID: ([^)]+)\)")
_PART = re.compile(r"\s+MIG .*\(UUID: ([^)]+)\)")


@dataclass(frozen=True, slots=True)
class Gpus:
    """One worker process a GPU of this machine, for `connect`.

    Parameters
    ----------
    names : str or sequence of str
        Which: indexes as ``nvidia-smi -L`` counts them, UUIDs (``GPU-...``, ``MIG-...``) or
        beginnings of UUIDs, with commas between them or as a sequence. Empty means all. Where
        ``CUDA_VISIBLE_DEVICES`` is set, they must be among its GPUs, and named as there.
    """

    names: str | Sequence[str] = ()

    def listed(self) -> list[str]:
        """Return the names one by one.

        Raises
        ------
        SettingsError
            If a name is empty.
        """
        if not self.names:
            return []
        parts = self.names.split(",") if isinstance(self.names, str) else self.names
        names = [str(part).strip() for part in parts]
        if not all(names):
            raise SettingsError(f"{self.names!r} has an empty name. Give GPUs as 0,2 or as UUIDs.")
        return names


@dataclass(frozen=True, slots=True)
class _Card:
    """A GPU as the driver lists it, and the parts into which it is divided."""

    index: str
    uuid: str
    parts: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[str, ...]:
        # CUDA computes on the parts of a divided card, one a process, and not on the whole.
        return self.parts or (self.uuid,)


def chosen_gpus(names: Sequence[str] = ()) -> list[str]:
    """Return what ``CUDA_VISIBLE_DEVICES`` becomes in each worker, one GPU each.

    An index becomes a UUID where the driver tells it, because CUDA counts GPUs in another order
    than ``nvidia-smi`` does.

    Parameters
    ----------
    names : sequence of str
        Indexes, UUIDs or their beginnings; empty means all that may be used.

    Raises
    ------
    DeviceError
        If there is no GPU that may be used.
    SettingsError
        If a name is unknown or ambiguous, is hidden by the mask, or means a GPU that is named
        already.
    """
    cards, mask = _cards(), _mask()
    if mask is not None:
        return _chosen_of_mask(names, mask, cards)
    found = [device for card in cards for device in card.devices]
    if not names and not found:
        raise DeviceError(
            "No GPU was found: nvidia-smi is missing or lists none. Name them with --gpus (Gpus in "
            "Python), or use --cluster local."
        )
    return _distinct(names, [_device(name, cards) for name in names]) if names else found


def gpu_cluster(gpus: Sequence[str], security: Security) -> SpecCluster:
    """Start a scheduler and one worker process a GPU, which listen on 127.0.0.1 alone.

    Parameters
    ----------
    gpus : sequence of str
        From `chosen_gpus`.
    security : distributed.Security
    """
    from distributed import Nanny, Scheduler, SpecCluster

    protocol = "tls://" if security.require_encryption else "tcp://"
    shared = {"host": "127.0.0.1", "security": security, "protocol": protocol}
    cores = max(1, usable_cores() // len(gpus))
    # Nannies set this in the new process before it imports anything of a worker.
    workers = {
        f"gpu-{gpu}": {
            "cls": Nanny,
            "options": shared | _worker_options() | {"env": thread_variables(cores) | {_MASK: gpu}},
        }
        for gpu in gpus
    }
    scheduler = {"cls": Scheduler, "options": shared | {"dashboard_address": "127.0.0.1:0"}}
    return SpecCluster(
        workers=workers, scheduler=scheduler, security=security, silence_logs=logging.ERROR
    )


def _worker_options() -> dict[str, Any]:
    return {
        "nthreads": GPU_THREADS,
        "memory_limit": 0,  # a block is bounded by the plan; nothing is stored that could spill
        "dashboard_address": "127.0.0.1:0",
        "silence_logs": logging.ERROR,
        "preload": PRELOAD,
    }


def _mask() -> list[str] | None:
    """Return the GPUs to which this process is confined, or None where it is not."""
    text = os.environ.get(_MASK)
    if text is None:
        return None
    names = [part.strip() for part in text.split(",")]
    # CUDA sees the GPUs before the first name that means none.
    end = next((i for i, name in enumerate(names) if not name or name.startswith("-")), None)
    return names[:end]


def _cards() -> list[_Card]:
    """Ask the driver, without CUDA: its first use in a process decides which GPUs that sees."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        told = subprocess.run(
            [program, "-L"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return _read_cards(told.stdout)


def _read_cards(text: str) -> list[_Card]:
    cards: list[_Card] = []
    for line in text.splitlines():
        if card := _CARD.match(line):
            cards.append(_Card(card[1], card[2]))
        elif cards and (part := _PART.match(line)):
            last = cards[-1]
            cards[-1] = _Card(last.index, last.uuid, (*last.parts, part[1]))
    return cards


def _device(name: str, cards: Sequence[_Card]) -> str:
    """Return the UUID of one GPU; without a driver's list, the name itself."""
    if not cards:
        return name
    fitting = [card for card in cards if name in (card.index, card.uuid)]
    devices = [device for card in fitting for device in card.devices]
    devices = devices or [
        device for card in cards for device in card.devices if _is_beginning(name, device)
    ]
    if len(devices) == 1:
        return devices[0]
    raise SettingsError(_not_one(name, devices, cards))


def _not_one(name: str, devices: Sequence[str], cards: Sequence[_Card]) -> str:
    if devices:
        return f"GPU {name!r} may be any of {', '.join(devices)}. Name one of them."
    there = ", ".join(f"{card.index} ({' '.join(card.devices)})" for card in cards)
    return f"There is no GPU {name!r}; nvidia-smi lists {there}."


def _is_beginning(name: str, uuid: str) -> bool:
    return name.startswith(("GPU-", "MIG-")) and uuid.startswith(name)


def _chosen_of_mask(names: Sequence[str], mask: Sequence[str], cards: Sequence[_Card]) -> list[str]:
    if not mask:
        raise DeviceError(
            f"{_MASK} is {os.environ[_MASK]!r}, which hides all GPUs. Unset it, or use --cluster "
            "local."
        )
    return _distinct(names, [_of_mask(name, mask, cards) for name in names]) if names else [*mask]


def _of_mask(name: str, mask: Sequence[str], cards: Sequence[_Card]) -> str:
    """Return the mask's own word for a GPU, which means to a worker what it means here."""
    if name in mask:
        return name
    known = _uuids(name, cards)
    fitting = [one for one in mask if _is_beginning(name, one) or known & _uuids(one, cards)]
    if len(fitting) == 1:
        return fitting[0]
    what = "means several of" if fitting else "is not among"
    raise SettingsError(
        f"GPU {name!r} {what} those of {_MASK}, which is {os.environ[_MASK]!r}. Name GPUs as they "
        "are named there, or unset it."
    )


def _uuids(name: str, cards: Sequence[_Card]) -> set[str]:
    return {
        device
        for card in cards
        for device in card.devices
        if name in (card.index, card.uuid) or _is_beginning(name, device)
    }


def _distinct(names: Sequence[str], devices: list[str]) -> list[str]:
    for name, device in zip(names, devices, strict=True):
        if devices.count(device) > 1:
            raise SettingsError(
                f"GPU {name!r} is named more than once ({device}). Two workers on one GPU would "
                "only wait for each other."
            )
    return devices
