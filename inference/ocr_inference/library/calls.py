"""Life-cycle calls of models, each carried out in a thread of its own, so that the owner never waits.

A model has one call at most, so its slot is used by one thread at a time: the call's, or between calls the owner's.
"""

import contextlib
import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ocr_inference import limits
from ocr_inference.library.moving import Mover, Resident
from ocr_inference.library.sharing import Arrived
from ocr_inference.protocol.engine import Failure, FailureKind, Footprint
from ocr_inference.scheduling.commands import Finished
from ocr_inference.scheduling.state import StartCall

log = logging.getLogger(__name__)

Load = Callable[[], Any]
Report = Callable[[Finished | Arrived], None]


@dataclass
class Slot:
    """One model: how it is loaded, and what was loaded."""

    name: str
    choose: Callable[[Any], Sequence[Any]] | None = None
    """Returns the modules that are to be moved of what was loaded; None: they are found."""
    load: Load | None = None
    resident: Resident | None = None
    error: BaseException | None = None
    """What the last call that failed raised."""


class Calls:
    """Threads of calls that are carried out. They are daemons: none keeps the program alive."""

    def __init__(self, mover: Mover, report: Report) -> None:
        self._mover = mover
        self._report = report
        self._running: dict[str, threading.Thread] = {}

    def start(self, slot: Slot, effect: StartCall) -> None:
        log.info("%s %s: %s", effect.call, effect.model, effect.why)
        thread = threading.Thread(
            target=self._run, args=(slot, effect), name=f"{effect.call} {effect.model}", daemon=True
        )
        self._running[slot.name] = thread
        thread.start()

    def join(self, timeout: float) -> None:
        """Wait for calls in flight, for so many seconds at most."""
        deadline = time.monotonic() + timeout
        for thread in tuple(self._running.values()):
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self, slot: Slot, effect: StartCall) -> None:
        try:
            self._mover.enter()
            done = self._carry_out(slot, effect)
        except BaseException as error:  # noqa: BLE001 - it reaches the program's own call, whatever it is
            self._report(Finished(effect.model, effect.serial, self._failure(slot, effect.call, error)))
        else:
            self._report(done)

    def _carry_out(self, slot: Slot, effect: StartCall) -> Finished | Arrived:
        match effect.call:
            case "load":
                slot.error = None
                resident = self._load(slot)
                return Arrived(
                    effect.model, effect.serial, resident.size_bytes, resident.host_bytes, resident.on_device
                )
            case "restore":
                slot.error = None
                # One that can't be moved was released to leave the GPU.
                resident = self._load(slot) if slot.resident is None else slot.resident
                resident.to_device()
            case "offload":
                self._offload(slot)
            case "unload" | "kill":
                self._release(slot)
            case "exit":
                self._mover.clear()
        return Finished(effect.model, effect.serial, _footprint(slot))

    def _load(self, slot: Slot) -> Resident:
        assert slot.load is not None
        loaded = slot.load()
        modules = None if slot.choose is None else slot.choose(loaded)
        slot.resident = self._mover.take(loaded, modules)
        if slot.resident.kept_whole:
            log.warning(
                "%s can't be moved, so it leaves the GPU by being released: %s",
                slot.name,
                slot.resident.kept_whole,
            )
        return slot.resident

    def _offload(self, slot: Slot) -> None:
        if slot.resident is None:
            return
        if slot.resident.kept_whole and slot.resident.on_device:
            self._release(slot)
        else:
            slot.resident.offload()

    def _release(self, slot: Slot) -> None:
        resident, slot.resident = slot.resident, None
        if resident is not None:
            resident.release()
        del resident
        self._mover.clear()

    def _failure(self, slot: Slot, call: str, error: BaseException) -> Failure:
        slot.error = error
        ran_out = self._mover.ran_out(error)
        log.warning("%s %s failed: %s", call, slot.name, error)
        # Frames of the traceback hold on to what was half loaded, which would keep its memory.
        traceback.clear_frames(error.__traceback__)
        with contextlib.suppress(Exception):
            self._mover.clear()
        return Failure(
            kind=FailureKind.OUT_OF_MEMORY if ran_out else FailureKind.FAILED,
            message=f"{type(error).__name__}: {error}",
            of_host=isinstance(error, limits.OutOfHostMemory),
        )


def _footprint(slot: Slot) -> Footprint:
    resident = slot.resident
    if resident is None:
        return Footprint()
    device_bytes = resident.size_bytes if resident.on_device else 0
    return Footprint(device_bytes=device_bytes, host_bytes=resident.host_bytes)
