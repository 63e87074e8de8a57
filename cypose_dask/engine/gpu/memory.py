"""How much fits on a device, and what is an out-of-memory error there."""

from __future__ import annotations

import torch

__all__ = ["free_bytes", "is_out_of_memory", "release"]

# cuDNN, cuBLAS, MPS and the CPU's allocator raise plain RuntimeErrors.
_WORDS = ("out of memory", "alloc_failed", "can't allocate memory")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether a device, or the host's pinned memory, ran out."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return any(word in str(error).lower() for word in _WORDS)


def free_bytes(device: torch.device) -> int:
    """Return the bytes that this process could still allocate on a CUDA device."""
    free, _ = torch.cuda.mem_get_info(device)
    # What torch holds without using it is as good as free.
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + held)


def release(device: torch.device) -> None:
    """Wait for the device and give back what torch holds without using it (CUDA; else nothing)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
