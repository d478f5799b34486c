"""GPU load out of a DCGM exporter's text, whatever its dialect.

`Hostname` and `hostname`, `UUID` and `uuid`, MIG instances, GPUs repeated once per pod that shares them,
values that mean "not supported": all come out as one reading per GPU or MIG instance. A line that can't be
read costs that line, never the scrape.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One GPU (or MIG instance) at one time. None: the exporter doesn't say, or says nonsense."""

    node: str
    uuid: str
    """Of the whole GPU, also for a MIG instance: exporters don't name the instance's own UUID."""
    index: int | None = None
    product: str = ""
    """As the label `nvidia.com/gpu.product` spells it: `NVIDIA-L40S`."""
    memory_used_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_total_bytes: int | None = None
    utilization: float | None = None
    """0 to 1."""
    mig: str = ""
    """`<instance id>/<profile>` of a MIG instance, empty for a whole GPU."""
    holders: tuple[str, ...] = ()
    """`namespace/pod` of those whom the device plugin gave the GPU, where the exporter attributes it; sorted."""
    read_at: datetime | None = None


def parse(text: str | bytes, node: str, read_at: datetime | None = None) -> list[GpuReading]:
    """Readings sorted by UUID. `node` is the scraped pod's `spec.nodeName`; empty takes the label's host."""
    raise NotImplementedError


def product(name: str) -> str:
    """One spelling for exporters' `modelName` and node labels: dashes for blanks, no `-SHARED`, no `-MIG-…`."""
    raise NotImplementedError
