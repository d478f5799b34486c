"""What whole GPUs carry right now, whoever uses them: memory and utilisation, real (NVML) or simulated."""

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ocr_inference.device import gpu
from ocr_inference.device.gpu import Gpu, NoDevice

MAX_GPUS = 64
"""Of one machine; the largest have 16."""


@dataclass(frozen=True)
class Measured:
    """One GPU at one moment."""

    index: int
    gpu: Gpu
    used_bytes: int
    utilization: float | None
    """0 to 1; None where the driver doesn't tell (MIG)."""


class Meter(Protocol):
    def read(self) -> list[Measured]:
        """All GPUs that can be seen, by index. Blocks for about a millisecond a GPU; raises `NoDevice`."""
        ...


class SimulatedMeter:
    """The sum of what living processes say in the folder of simulated GPUs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> list[Measured]:
        found = []
        for index, each in enumerate(gpu.simulated_gpus(self._folder)[:MAX_GPUS]):
            taken = [usage for _, usage in gpu.usages(self._folder, each.uuid)]
            busy = min(1.0, sum(usage.utilization for usage in taken))
            found.append(Measured(index, each, sum(usage.memory_bytes for usage in taken), busy))
        return found


class NvmlMeter:
    """Reads through NVML, never through CUDA: it takes nothing of the GPU."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def read(self) -> list[Measured]:
        count = ctypes.c_uint()
        gpu.check(self._library.nvmlDeviceGetCount_v2(ctypes.byref(count)), "nvmlDeviceGetCount_v2")
        found = []
        for index in range(min(count.value, MAX_GPUS)):
            with contextlib.suppress(NoDevice):  # One that fell off the bus hides none of the others.
                each, used = gpu.cuda_gpu(self._library, index)
                found.append(Measured(index, each, used, self._utilization(index)))
        return found

    def _utilization(self, index: int) -> float | None:
        handle, rates = ctypes.c_void_p(), _Utilization()
        if self._library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            return None
        if self._library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(rates)):
            return None
        return min(100, int(rates.gpu)) / 100


@contextlib.contextmanager
def opened(simulated: Path | None) -> Iterator[Meter]:
    """The simulated GPUs of that folder, else the machine's own; raises `NoDevice`."""
    if simulated is not None:
        yield SimulatedMeter(simulated)
        return
    with gpu.nvml() as library:
        yield NvmlMeter(library)


class _Utilization(ctypes.Structure):
    """`nvmlUtilization_t`, percent."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))
