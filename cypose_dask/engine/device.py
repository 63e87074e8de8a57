"""Which device computes. A GPU that is asked for is a demand, never a wish."""

from __future__ import annotations

import os
import threading

from cypose_dask.errors import DeviceError

__all__ = ["choose_device", "largest_gpu_bytes", "on_device", "usable_cores"]

# Blocks on neighbouring threads read, follow flows and write while one of them is on the device.
on_device = threading.Semaphore(1)


def usable_cores() -> int:
    """Return the cores that this process may use: ``OMP_NUM_THREADS`` where it is set, else all."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told):
        return int(told)
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def choose_device(gpu: bool) -> str:
    """Return the torch device of this process: ``"cpu"``, ``"cuda"`` or ``"mps"``.

    Parameters
    ----------
    gpu : bool
        Demand a GPU: CUDA first, else Apple's MPS.

    Raises
    ------
    DeviceError
        If a GPU is demanded and none runs a kernel here.
    """
    if not gpu:
        return "cpu"
    import torch

    found = [name for name in ("cuda", "mps") if _is_there(torch, name)]
    if not found:
        raise DeviceError(
            f"A GPU was asked for, but PyTorch {torch.__version__} sees neither CUDA nor MPS here. "
            "Leave --gpu out to compute on the CPU, or install a PyTorch build that fits this "
            "machine's driver."
        )
    _run_a_kernel(torch, found[0])
    return found[0]


def largest_gpu_bytes(device: str) -> int | None:
    """Return the most bytes that PyTorch has held on this process's GPU; None where it cannot tell.

    Parameters
    ----------
    device : str
        As from `choose_device`.
    """
    if device != "cuda":
        return None
    import torch

    return int(torch.cuda.max_memory_allocated())


def _is_there(torch: object, name: str) -> bool:
    backend = torch.cuda if name == "cuda" else torch.backends.mps  # type: ignore[attr-defined]
    return bool(backend.is_available())


def _run_a_kernel(torch: object, device: str) -> None:
    # A card that is too old for the build is "available" and fails only in its first kernel.
    try:
        torch.ones(2, device=device).add_(1).sum().item()  # type: ignore[attr-defined]
    except RuntimeError as error:
        raise DeviceError(
            f"The GPU ({device}) is there but cannot run this PyTorch build: {error}. Install a "
            "build for this card, or leave --gpu out."
        ) from error
