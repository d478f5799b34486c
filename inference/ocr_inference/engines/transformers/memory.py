"""Memory that torch keeps without need, and what a device has."""

import atexit
import gc

import torch

from ocr_inference.protocol.memory_use import DeviceUse
from ocr_wire import garbage

# What is frozen when the process ends counts as leaked with libraries that look, and they fill the log with it.
atexit.register(gc.unfreeze)


def freeze() -> None:
    """Exempt all existing objects from garbage collection: later collections take a millisecond instead of a tenth of a
    second."""
    garbage.exempt()


def unfreeze() -> None:
    """Let garbage collection free these objects again."""
    gc.unfreeze()


def collect() -> None:
    """Collect cycles, such as those of tracebacks, which keep tensors alive."""
    gc.collect()


def release(device: torch.device) -> None:
    """Free what is left of work that is over: cycles, cached blocks, workspaces. Doesn't start CUDA: its context would
    take some of the GPU for as long as a download lasts."""
    collect()
    if device.type == "cuda" and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()


def device_use(device: torch.device) -> DeviceUse | None:
    """Return the use of a CUDA device; None of any other, or while CUDA hasn't started: asking would start it."""
    if device.type != "cuda" or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return DeviceUse(
        allocated_bytes=torch.cuda.memory_allocated(device),
        reserved_bytes=torch.cuda.memory_reserved(device),
        free_bytes=free,
    )


def peak_bytes(device: torch.device) -> int:
    """Return the most that was allocated at once in this process; 0 where that isn't counted."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
