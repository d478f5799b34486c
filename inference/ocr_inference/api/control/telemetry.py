"""Usage of the whole GPU for the state, and whether the placement's promise was kept.

Other processes use the GPU, too, so its numbers change all the time; the state stream must stay silent while nothing
happens. So a number is reported anew only when it has moved by a step since its last report.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from ocr_inference.device import gpu_usage
from ocr_inference.device.gpu import Device, NoDevice
from ocr_inference.protocol.latest import Latest
from ocr_wire.state import WholeGpu

SAMPLE_SECONDS = 2.0
SMOOTHING_SECONDS = 10.0
"""Time constant of the utilisation's moving average: a page is read within seconds."""
MEMORY_STEPS = 64
"""Steps in which the GPU's memory is reported: 0.7 GiB of 45."""
UTILIZATION_STEP = 0.1
MIB = 1 << 20

log = logging.getLogger(__name__)


def next_report(reported: WholeGpu | None, now: WholeGpu | None) -> WholeGpu | None:
    """Return what to report after a new measurement: the same as before unless something moved by a step."""
    if reported is None or now is None:
        return now
    step = max(1, now.memory_total_bytes // MEMORY_STEPS)
    before, busy = reported.utilization, now.utilization
    still = (
        reported.memory_total_bytes == now.memory_total_bytes
        and abs(reported.memory_used_bytes - now.memory_used_bytes) < step
        and (before is None) == (busy is None)
        and abs((before or 0.0) - (busy or 0.0)) < UTILIZATION_STEP
    )
    return reported if still else now


def smooth(before: float | None, value: float | None, seconds: float) -> float | None:
    """Return an exponential moving average, `seconds` after `before`; between the two, whatever the clock does."""
    if before is None or value is None:
        return value
    return before + (value - before) * -math.expm1(-max(0.0, seconds) / SMOOTHING_SECONDS)


def mismatch(promised: Sequence[str], device: Device) -> str:
    """Return what is wrong with the GPU of this process, against those that were promised; empty where nothing is."""
    if not promised or device.uuid in promised:
        return ""
    wanted = ", ".join(promised)
    if device.uuid is None:
        return f"promised {wanted}, but there is no GPU here; serving on the {device.kind.upper()}"
    return f"promised {wanted}, but got {device.uuid}"


class Telemetry:
    """Measures the GPU; `latest` is what the state has, and only `run` publishes it."""

    def __init__(self, device: Device, simulated: Path | None, clock: Callable[[], float]) -> None:
        self.latest: Latest[WholeGpu | None] = Latest(None)
        self._device = device
        self._simulated = simulated if device.kind == "simulated" else None
        self._clock = clock
        self._busy: float | None = None
        self._at = clock()

    async def run(self) -> None:
        """Measure every `SAMPLE_SECONDS`, off the event loop. Without a GPU it ends at once; when the driver stops
        answering, `latest` becomes None."""
        if self._device.uuid is None:
            return
        try:
            with gpu_usage.opened(self._simulated) as usage_reader:
                while True:
                    self._take(await asyncio.to_thread(usage_reader.read))
                    await asyncio.sleep(SAMPLE_SECONDS)
        except NoDevice as error:
            log.warning("the GPU's load isn't reported any more: %s", error)
            self.latest.publish(None)

    def _take(self, found: Sequence[gpu_usage.Measured]) -> None:
        ours = next((each for each in found if each.gpu.uuid == self._device.uuid), None)
        if ours is None:
            self.latest.publish(None)
            return
        now = self._clock()
        self._busy = smooth(self._busy, ours.utilization, now - self._at)
        self._at = now
        measured = WholeGpu(
            memory_used_bytes=min(ours.used_bytes, ours.gpu.memory_bytes) // MIB * MIB,
            memory_total_bytes=ours.gpu.memory_bytes,
            utilization=None if self._busy is None else round(self._busy, 2),
        )
        self.latest.publish(next_report(self.latest.value, measured))
