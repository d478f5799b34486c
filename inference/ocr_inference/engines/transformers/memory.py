"""What torch says when memory runs out or a device breaks, and what it keeps that nobody needs."""

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
"""In texts of errors without a type of their own: the CPU's allocator, libraries that allocate by themselves."""

MAX_THREADS = 8
"""More gain little for a page at a time, and take the cores of the models beside this one."""


def ran_out(error: BaseException) -> bool:
    """Whether this says that memory ran out, and the device is as good as before."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def sticks(error: BaseException) -> bool:
    """Whether the device answers nothing but this from now on (illegal access, a failed assertion, a lost GPU)."""
    return isinstance(error, torch.AcceleratorError) and not ran_out(error)


def settle() -> None:
    """What lives now stays: later collections pass it over, and take a millisecond instead of a tenth of a second."""
    gc.collect()
    gc.freeze()


def unsettle() -> None:
    """What was settled may go now."""
    gc.unfreeze()


def collect() -> None:
    """Cycles, such as those of tracebacks, hold on to tensors."""
    gc.collect()


def release(device: torch.device) -> None:
    """Give back what is left of work that is over: cycles, cached blocks, workspaces. Doesn't start CUDA: its context
    would take some of the GPU for as long as a download lasts."""
    collect()
    if device.type == "cuda" and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()


def peak_bytes(device: torch.device) -> int:
    """The most that was allocated at once in this process; 0 where nobody counts."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def threads(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many threads to compute with: the cores that this process may use, by affinity and by quota."""
    cores = float(len(os.sched_getaffinity(0)))
    try:
        quota, _, period = cpu_max.read_text().strip().partition(" ")
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        pass  # no limit that we can see
    return max(1, min(MAX_THREADS, round(cores)))
