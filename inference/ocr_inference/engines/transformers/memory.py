"""Torch's errors when memory runs out or a device breaks, and the memory that torch keeps without need."""

import atexit
import gc
import os
from pathlib import Path

import torch

# What is frozen when the process ends counts as leaked with libraries that look, and they fill the log with it.
atexit.register(gc.unfreeze)

_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "Cannot allocate memory",  # the system's words, where a file can't be mapped
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Texts of errors without a type of their own: the CPU's allocator, libraries that allocate by themselves."""

MAX_THREADS = 8
"""Most threads: more gain little for a page at a time, and take the cores of the models beside this one."""


def ran_out(error: BaseException) -> bool:
    """Whether the error means that memory ran out, and the device is as good as before."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def sticks(error: BaseException) -> bool:
    """Whether the device answers nothing but this from now on (illegal access, a failed assertion, a lost GPU)."""
    return isinstance(error, torch.AcceleratorError) and not ran_out(error)


def freeze() -> None:
    """Exempt all existing objects from garbage collection: later collections take a millisecond instead of a tenth of a
    second."""
    gc.collect()
    gc.freeze()


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


def peak_bytes(device: torch.device) -> int:
    """Return the most that was allocated at once in this process; 0 where that isn't counted."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def threads(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many threads to compute with: the cores that this process may use, by affinity and by quota."""
    cores = float(len(os.sched_getaffinity(0)))
    try:
        quota, _, period = cpu_max.read_text().strip().partition(" ")
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        pass  # no limit that we can see
    return max(1, min(MAX_THREADS, round(cores)))
