"""Memory and utilisation of whole GPUs by all processes, real (NVML) or simulated."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ocr_inference.device import gpu, nvml
from ocr_inference.device.gpu import Gpu, NoDevice
from ocr_inference.device.nvml import Driver

MAX_GPUS = 64
"""Of one machine; the largest have 16."""


@dataclass(frozen=True)
class Measured:
    """Usage of one GPU at one moment."""

    index: int
    gpu: Gpu
    used_bytes: int
    utilization: float | None
    """0 to 1; None where the driver doesn't report it (MIG)."""


class GpuUsageReader(Protocol):
    def read(self) -> list[Measured]:
        """Return the usage of all visible GPUs, by index. Blocks for about a millisecond a GPU; raises `NoDevice`."""
        ...


class SimulatedGpuUsage:
    """Reads simulated GPUs: the sum of the usage files of living processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> list[Measured]:
        found = []
        for index, each in enumerate(gpu.simulated_gpus(self._folder)[:MAX_GPUS]):
            taken = [usage for _, usage in gpu.usages(self._folder, each.uuid)]
            busy = min(1.0, sum(usage.utilization for usage in taken))
            found.append(Measured(index, each, sum(usage.memory_bytes for usage in taken), busy))
        return found


class NvmlGpuUsage:
    """Reads the machine's own GPUs."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def read(self) -> list[Measured]:
        found = []
        for index in range(min(self._driver.count(), MAX_GPUS)):
            with contextlib.suppress(NoDevice):  # One that fell off the bus hides no other.
                card = self._driver.by_index(index)
                found.append(Measured(index, *card.read(), card.utilization()))
        return found


@contextlib.contextmanager
def opened(simulated: Path | None) -> Iterator[GpuUsageReader]:
    """Open the simulated GPUs of that folder, or without one the machine's own; raises `NoDevice`."""
    if simulated is not None:
        yield SimulatedGpuUsage(simulated)
        return
    with nvml.opened() as driver:
        yield NvmlGpuUsage(driver)
