"""Accounting of the device's memory: what our models hold of it, and what other processes hold.

A real GPU accounts for itself. For a simulated one, each process writes a file with what it takes. The server adds
`MemoryReservations`: memory for loads and restores in flight.
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from ocr_inference.config.settings import Settings
from ocr_inference.device import gpu, nvml
from ocr_inference.device.gpu import Device, NoDevice, Usage

log = logging.getLogger(__name__)


class MemoryAccounting(Protocol):
    """Accounting of one device's memory over all processes that use it."""

    def report(self, memory_bytes: int, utilization: float) -> None:
        """State what our models hold, reservations included."""

    def external_bytes(self, ours_bytes: int) -> int:
        """Return what other processes hold, where our own models may hold `ours_bytes`."""

    def reserve(self, need_bytes: int) -> bool:
        """Return whether so much more is free at this moment. A simulated device counts it as taken at once, as a real
        one does with the allocation that comes next; the next `report` confirms it."""

    def close(self) -> None: ...


class NoMemoryAccounting:
    """Accounting for a CPU: its memory isn't ours to account for."""

    def report(self, memory_bytes: int, utilization: float) -> None:
        pass

    def external_bytes(self, ours_bytes: int) -> int:  # noqa: ARG002 nothing is counted here
        return 0

    def reserve(self, need_bytes: int) -> bool:  # noqa: ARG002
        return True

    def close(self) -> None:
        pass


class SimulatedMemoryAccounting:
    """Accounting by usage files of one simulated GPU, written atomically, so readers never see half of one.

    The files of all processes together never have more than the GPU has: a process checks and reserves while no other
    can, under a lock of the operating system on their folder, held for as long as that takes.
    """

    def __init__(self, folder: Path, uuid: str, pid: int, total_bytes: int) -> None:
        self._folder, self._uuid = folder, uuid
        self._file = folder / "usage" / uuid / f"{pid}.json"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._last: Usage | None = None
        self._total = total_bytes

    def report(self, memory_bytes: int, utilization: float) -> None:
        usage = Usage(memory_bytes, utilization)
        if usage == self._last:
            return
        part = self._file.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(usage))
        part.replace(self._file)
        self._last = usage

    def external_bytes(self, ours_bytes: int = 0) -> int:  # noqa: ARG002 each process has a file
        taken = gpu.usages(self._folder, self._uuid)
        return sum(usage.memory_bytes for pid, usage in taken if pid != int(self._file.stem))

    def reserve(self, need_bytes: int) -> bool:
        held = self._last or Usage(0, 0.0)
        with _locked(self._file.parent):
            if held.memory_bytes + need_bytes + self.external_bytes() > self._total:
                return False
            self.report(held.memory_bytes + need_bytes, held.utilization)
        return True

    def close(self) -> None:
        self._file.unlink(missing_ok=True)


class NvmlMemoryAccounting:
    """Accounting by a real device's driver. What it holds beyond what our models may hold counts as external usage:
    contexts of our workers, too."""

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        self._open = contextlib.ExitStack()
        self._driver = self._open.enter_context(nvml.opened())

    def report(self, memory_bytes: int, utilization: float) -> None:
        pass  # the GPU knows its own

    def external_bytes(self, ours_bytes: int) -> int:
        return max(0, self._driver.by_uuid(self._uuid).memory().used - ours_bytes)

    def reserve(self, need_bytes: int) -> bool:
        return need_bytes <= self._driver.by_uuid(self._uuid).memory().free

    def close(self) -> None:
        self._open.close()


def of(settings: Settings, device: Device, pid: int) -> MemoryAccounting:
    """Return the accounting for a server on `device` whose process is `pid`."""
    if device.kind == "cpu":
        return NoMemoryAccounting()
    assert device.uuid is not None
    if device.kind == "cuda":
        return NvmlMemoryAccounting(device.uuid)
    assert settings.simulated_gpu_dir is not None
    return SimulatedMemoryAccounting(settings.simulated_gpu_dir, device.uuid, pid, device.memory_total_bytes)


class MemoryReservations:
    """Accounting with reservations for loads and restores in flight: made before one begins, released when its end is
    known and the model itself counts."""

    def __init__(self, accounting: MemoryAccounting) -> None:
        self._accounting = accounting
        self._taken: dict[str, int] = {}

    def reserve(self, model: str, need_bytes: int) -> bool:
        """Reserve memory for a model's load or restore; False where other processes left too little. Where that can't
        be read, it is reserved, and the allocation itself may fail."""
        try:
            taken = self._accounting.reserve(need_bytes)
        except NoDevice as error:
            log.warning("what is free on the GPU can't be read: %s", error)
            taken = True
        if taken:
            self._taken[model] = self._taken.get(model, 0) + need_bytes
        return taken

    def extend(self, model: str, held_bytes: int) -> bool:
        """Reserve what a model holds beyond its reservation."""
        more = held_bytes - self._taken.get(model, 0)
        return more <= 0 or self.reserve(model, more)

    def release(self, model: str) -> None:
        """Drop the model's reservation, if it has one: its load or restore has ended."""
        self._taken.pop(model, None)

    def report(self, memory_bytes: int, utilization: float) -> None:
        """State what our models hold, without reservations."""
        self._accounting.report(memory_bytes + sum(self._taken.values()), utilization)

    def external_bytes(self, ours_bytes: int) -> int:
        """Return what other processes hold, where our own models may hold `ours_bytes`; raises `NoDevice`."""
        return self._accounting.external_bytes(ours_bytes)

    def close(self) -> None:
        self._accounting.close()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock on the folder, against all processes, while the block runs."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
