"""Decides which of several GPUs is the least used, where no variable names one. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ocr_inference.device.gpu import Gpu

_ALIKE: Final = 0.9
"""Part of the largest free memory from which a GPU counts as equally free: a desktop's few hundred MB on one of two
GPUs are no reason to join a computation on the other."""
_STEPS: Final = 10
"""Steps in which utilisation is compared: one look at it says no more."""


@dataclass(frozen=True)
class Load:
    """Use of one GPU by all processes."""

    used_bytes: int
    utilization: float | None = None
    """0 to 1; None where the driver doesn't report it."""


_UNUSED: Final = Load(0, 0.0)


def choose(gpus: Sequence[Gpu], loads: Mapping[str, Load]) -> Gpu:
    """Return the least used of at least one GPU; one that isn't in `loads` is unused.

    1. GPUs with nearly as much free memory as the freest one stay.
    2. Of these, the one whose processors are the least busy; one that doesn't report that comes last.
    3. Of equals, the one with more free memory, then the first.
    """
    each = {gpu.uuid: loads.get(gpu.uuid, _UNUSED) for gpu in gpus}
    free = {gpu.uuid: max(0, gpu.memory_bytes - each[gpu.uuid].used_bytes) for gpu in gpus}
    least = max(free.values()) * _ALIKE
    return min(
        (gpu for gpu in gpus if free[gpu.uuid] >= least),
        key=lambda gpu: (_busy(each[gpu.uuid]), -free[gpu.uuid]),
    )


def _busy(load: Load) -> int:
    return _STEPS + 1 if load.utilization is None else round(load.utilization * _STEPS)
