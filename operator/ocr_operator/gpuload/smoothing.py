"""Utilisation as a moving average: what a GPU did in one second says little about the next minute.

    smoothed = smooth(the last answer, the newest readings)

Memory isn't smoothed: what is taken is taken.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

from ocr_operator.gpuload.dcgm import GpuReading

SECONDS: Final = 30.0
"""Time constant: after so long a change counts by 63 %, after three times so long by 95 %."""
FORGET_SECONDS: Final = 300.0
"""A gap after which what was before says nothing any more."""


def ewma(before: float, at: datetime, value: float, now: datetime) -> float:
    """The exponential moving average at `now`, for any spacing of the readings; always between its two inputs."""
    gap = (now - at).total_seconds()
    if gap <= 0:
        return before
    if gap >= FORGET_SECONDS:
        return value
    return before + (value - before) * -math.expm1(-gap / SECONDS)


def smooth(before: Iterable[GpuReading], now: Iterable[GpuReading]) -> tuple[GpuReading, ...]:
    """`now` with the utilisation averaged with that of `before` (an earlier answer), GPU by GPU.

    A GPU that is new, or whose utilisation wasn't or isn't reported, starts afresh. The same reading again changes
    nothing.
    """
    known = {(each.node, each.uuid, each.mig): each for each in before}
    return tuple(_blend(known.get((each.node, each.uuid, each.mig)), each) for each in now)


def _blend(before: GpuReading | None, now: GpuReading) -> GpuReading:
    if before is None or before.utilization is None or now.utilization is None:
        return now
    if before.read_at is None or now.read_at is None:
        return now
    return replace(now, utilization=ewma(before.utilization, before.read_at, now.utilization, now.read_at))
