"""The books of the device: what our models take of it, and what others do.

A real GPU keeps its own. Of a simulated one, each process says in a file what it takes. `Ledger` is what the server
keeps on top: room for loads and restores in flight.
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


class Books(Protocol):
    """Where the server says what it takes of the device, and learns what others take."""

    def report(self, memory_bytes: int, utilization: float) -> None:
        """What our models hold, taken room included."""

    def others_bytes(self, ours_bytes: int) -> int:
        """What others hold, where our own models may hold `ours_bytes`."""

    def take(self, need_bytes: int) -> bool:
        """Whether there is room for so much more at this moment. A simulated device books it, as the allocation
        would that comes next on a real one; the next `report` confirms it."""

    def close(self) -> None: ...


class NoBooks:
    """A CPU's memory isn't ours to keep books of."""

    def report(self, memory_bytes: int, utilization: float) -> None:
        pass

    def others_bytes(self, ours_bytes: int) -> int:  # noqa: ARG002 nobody counts here
        return 0

    def take(self, need_bytes: int) -> bool:  # noqa: ARG002
        return True

    def close(self) -> None:
        pass


class SimulatedBooks:
    """This process's usage file of one simulated GPU; written atomically, so readers never see half of it.

    The files of all processes together never say more than the GPU has: who takes room looks and books while nobody
    else can, under a lock of the operating system on their folder, held for as long as that takes.
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

    def others_bytes(self, ours_bytes: int = 0) -> int:  # noqa: ARG002 everybody's file tells
        taken = gpu.usages(self._folder, self._uuid)
        return sum(usage.memory_bytes for pid, usage in taken if pid != int(self._file.stem))

    def take(self, need_bytes: int) -> bool:
        held = self._last or Usage(0, 0.0)
        with _locked(self._file.parent):
            if held.memory_bytes + need_bytes + self.others_bytes() > self._total:
                return False
            self.report(held.memory_bytes + need_bytes, held.utilization)
        return True

    def close(self) -> None:
        self._file.unlink(missing_ok=True)


class NvmlBooks:
    """A real device keeps its own books; what it holds beyond what our models may hold counts as others': contexts of
    our workers, too."""

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        self._open = contextlib.ExitStack()
        self._driver = self._open.enter_context(nvml.opened())

    def report(self, memory_bytes: int, utilization: float) -> None:
        pass  # the GPU knows its own

    def others_bytes(self, ours_bytes: int) -> int:
        return max(0, self._driver.by_uuid(self._uuid).memory().used - ours_bytes)

    def take(self, need_bytes: int) -> bool:
        return need_bytes <= self._driver.by_uuid(self._uuid).memory().free

    def close(self) -> None:
        self._open.close()


def of(settings: Settings, device: Device, pid: int) -> Books:
    """For a server on `device` whose process is `pid`."""
    if device.kind == "cpu":
        return NoBooks()
    assert device.uuid is not None
    if device.kind == "cuda":
        return NvmlBooks(device.uuid)
    assert settings.simulated_gpu_dir is not None
    return SimulatedBooks(settings.simulated_gpu_dir, device.uuid, pid, device.memory_total_bytes)


class Ledger:
    """The books with the room for loads and restores in flight: booked before one begins, until its end is known and
    the model itself counts."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._taken: dict[str, int] = {}

    def book(self, model: str, need_bytes: int) -> bool:
        """Book room for a model's load or restore; False where others left too little. Where it can't be read, the
        allocation itself says it."""
        try:
            taken = self._books.take(need_bytes)
        except NoDevice as error:
            log.warning("what is free on the GPU can't be read: %s", error)
            taken = True
        if taken:
            self._taken[model] = self._taken.get(model, 0) + need_bytes
        return taken

    def extend(self, model: str, held_bytes: int) -> bool:
        """Book what a model holds beyond what was booked for it."""
        more = held_bytes - self._taken.get(model, 0)
        return more <= 0 or self.book(model, more)

    def settle(self, model: str) -> None:
        """Its load or restore, if it was one, has ended."""
        self._taken.pop(model, None)

    def report(self, memory_bytes: int, utilization: float) -> None:
        """What our models hold, without what is booked."""
        self._books.report(memory_bytes + sum(self._taken.values()), utilization)

    def others_bytes(self, ours_bytes: int) -> int:
        """What others hold, where our own models may hold `ours_bytes`; raises `NoDevice`."""
        return self._books.others_bytes(ours_bytes)

    def close(self) -> None:
        self._books.close()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else is in here for this folder, in whatever process."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
