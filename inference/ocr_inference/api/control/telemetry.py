"""What the state says of the whole GPU, and whether the placement's promise was kept.

Others use the GPU, too, so its numbers move all the time; the state stream must stay silent while nothing happens.
So a number is told anew only when it has moved by a step since it was told last.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from ocr_inference.api.schema import GpuInfo
from ocr_inference.device import gpu_usage
from ocr_inference.device.gpu import Device, NoDevice

SAMPLE_SECONDS = 2.0
SMOOTHING_SECONDS = 10.0
"""Time constant of the utilisation's moving average: a page is read within seconds."""
MEMORY_STEPS = 64
"""The GPU's memory is told in steps of 1/64: 0.7 GiB of 45."""
UTILIZATION_STEP = 0.1
MIB = 1 << 20

log = logging.getLogger(__name__)


def retell(told: GpuInfo | None, now: GpuInfo | None) -> GpuInfo | None:
    """What to tell after a new measurement: the same as before unless something moved by a step."""
    if told is None or now is None:
        return now
    step = max(1, now.memory_total_bytes // MEMORY_STEPS)
    before, busy = told.utilization, now.utilization
    still = (
        told.memory_total_bytes == now.memory_total_bytes
        and abs(told.memory_used_bytes - now.memory_used_bytes) < step
        and (before is None) == (busy is None)
        and abs((before or 0.0) - (busy or 0.0)) < UTILIZATION_STEP
    )
    return told if still else now


def smooth(before: float | None, value: float | None, seconds: float) -> float | None:
    """An exponential moving average, `seconds` after `before`; between the two, whatever the clock does."""
    if before is None or value is None:
        return value
    return before + (value - before) * -math.expm1(-max(0.0, seconds) / SMOOTHING_SECONDS)


def mismatch(promised: Sequence[str], device: Device) -> str:
    """What is wrong with the GPU that was got, against those that were promised; empty while nothing is."""
    if not promised or device.uuid in promised:
        return ""
    wanted = ", ".join(promised)
    if device.uuid is None:
        return f"promised {wanted}, but there is no GPU here; serving on the {device.kind.upper()}"
    return f"promised {wanted}, but got {device.uuid}"


class Telemetry:
    """`told` is what the state says; written only by `run`."""

    def __init__(self, device: Device, simulated: Path | None, clock: Callable[[], float]) -> None:
        self.told: GpuInfo | None = None
        self._device = device
        self._simulated = simulated if device.kind == "simulated" else None
        self._clock = clock
        self._busy: float | None = None
        self._at = clock()

    async def run(self, changed: Callable[[], None]) -> None:
        """Measures every `SAMPLE_SECONDS`, off the event loop; calls `changed` when there is news. Without a GPU it
        ends at once, and where the driver stops answering nothing is told any more."""
        if self._device.uuid is None:
            return
        try:
            with gpu_usage.opened(self._simulated) as gauge:
                while True:
                    found = await asyncio.to_thread(gauge.read)
                    self._take(found, changed)
                    await asyncio.sleep(SAMPLE_SECONDS)
        except NoDevice as error:
            log.warning("the GPU's load isn't told any more: %s", error)
            self._tell(None, changed)

    def _take(self, found: Sequence[gpu_usage.Measured], changed: Callable[[], None]) -> None:
        ours = next((each for each in found if each.gpu.uuid == self._device.uuid), None)
        if ours is None:
            self._tell(None, changed)
            return
        now = self._clock()
        self._busy = smooth(self._busy, ours.utilization, now - self._at)
        self._at = now
        used = min(ours.used_bytes, ours.gpu.memory_bytes) // MIB * MIB
        busy = None if self._busy is None else round(self._busy, 2)
        self._tell(GpuInfo(used, ours.gpu.memory_bytes, busy), changed)

    def _tell(self, now: GpuInfo | None, changed: Callable[[], None]) -> None:
        told = retell(self.told, now)
        if told != self.told:
            self.told = told
            changed()
