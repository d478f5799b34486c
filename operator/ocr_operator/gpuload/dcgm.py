"""GPU load out of an exporter's text, whatever its dialect: NVIDIA's DCGM exporter, AMD's device metrics exporter.

`Hostname` and `hostname`, `UUID` and `uuid`, MIG instances, GPUs repeated once per pod that shares them,
values that mean "not supported": all come out as one reading per GPU or MIG instance. A line that can't be
read costs that line, never the scrape. docs/dialects.md has a row for each dialect.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from ocr_operator.gpuload import exposition
from ocr_operator.gpuload.exposition import MAX_BYTES, MAX_SAMPLES, Sample
from ocr_operator.gpuload.labels import holder, identity, product
from ocr_wire import numbers

MEBIBYTE: Final = 2**20
MAX_MEMORY_MEBIBYTES: Final = 4 * 2**20
"""4 TiB. "Not supported" is written as values such as 9.2e18; no GPU has more than this."""

FB_USED: Final = "DCGM_FI_DEV_FB_USED"
FB_FREE: Final = "DCGM_FI_DEV_FB_FREE"
FB_RESERVED: Final = "DCGM_FI_DEV_FB_RESERVED"
FB_TOTAL: Final = "DCGM_FI_DEV_FB_TOTAL"
GPU_UTIL: Final = "DCGM_FI_DEV_GPU_UTIL"
GRAPHICS_ACTIVE: Final = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
"""0 to 1; the only utilisation that MIG instances have."""
GPU_TEMPERATURE: Final = "DCGM_FI_DEV_GPU_TEMP"
"""In every exporter's default list: proves that a GPU is there when its memory isn't reported."""
INTERESTING: Final = (FB_USED, FB_FREE, FB_RESERVED, FB_TOTAL, GPU_UTIL, GRAPHICS_ACTIVE, GPU_TEMPERATURE)
RENAMED: Final[Mapping[str, str]] = {
    **{name.lower(): name for name in INTERESTING},
    "dcgm_fb_used": FB_USED,
    "dcgm_fb_free": FB_FREE,
    "dcgm_gpu_utilization": GPU_UTIL,
    "dcgm_gpu_temp": GPU_TEMPERATURE,
    "gpu_used_vram": FB_USED,
    "gpu_free_vram": FB_FREE,
    "gpu_total_vram": FB_TOTAL,
    "gpu_gfx_activity": GPU_UTIL,
}
"""What pipelines that write names in lower case call them; exporters before 2.0, and some recording rules still; and
AMD's exporter, whose "MB" are MiB, too."""
NAMES: Final = (*INTERESTING, *RENAMED)

__all__ = ["MAX_BYTES", "MAX_SAMPLES", "GpuReading", "Source", "gather", "identity", "parse", "product"]


class Source(StrEnum):
    """Kind of the source of a reading."""

    EXPORTER = "exporter"
    """A DCGM exporter's pod, or our own `ocr-inference gpu-exporter`."""
    PROMETHEUS = "prometheus"
    POD = "pod"
    """An inference pod's own reading of the GPU that it runs on."""


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
    """`namespace/pod` of the pods that the device plugin gave the GPU, if the exporter attributes it; sorted."""
    read_at: datetime | None = None
    source: Source = Source.EXPORTER


def parse(text: str | bytes, node: str, read_at: datetime | None = None) -> list[GpuReading]:
    """Readings sorted by node, UUID and instance. `node` is the scraped pod's `spec.nodeName`; empty takes
    the host label of each line. Never raises.
    """

    def host(labels: Mapping[str, str]) -> str:
        return node or labels.get("Hostname") or labels.get("hostname") or ""

    found = exposition.samples(text, NAMES)
    return gather(((RENAMED.get(name, name), labels, value) for name, labels, value in found), host, read_at)


def gather(
    samples: Iterable[Sample],
    host: Callable[[Mapping[str, str]], str],
    read_at: datetime | None,
    exporters: Collection[str] = (),
) -> list[GpuReading]:
    """Samples of any number of GPUs as one reading each; those without a usable UUID or host are left out.

    A GPU that is cut into MIG instances is left out as a whole, though exporters may report both: nothing runs on it.
    `exporters` are `namespace/pod` of scraped pods, which hold no GPU.
    """
    found: dict[tuple[str, str, str], _Gpu] = {}
    cut: set[tuple[str, str]] = set()
    for name, labels, value in samples:
        uuid, mig = identity(labels)
        if uuid and (node := host(labels)):
            found.setdefault((node, uuid, mig), _Gpu()).add(name, labels, value, exporters)
            if mig:
                cut.add((node, uuid))
    return [gpu.reading(*key, read_at) for key, gpu in sorted(found.items()) if key[2] or key[:2] not in cut]


class _Gpu:
    """Values of one scrape about one GPU. The same value may come once per sharing pod: all lines of a metric
    are merged by the worse one, so their order is irrelevant.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.indices: set[int] = set()
        self.products: set[str] = set()
        self.holders: set[str] = set()

    def add(self, name: str, labels: Mapping[str, str], value: float, exporters: Collection[str]) -> None:
        if (number := _sane(name, value)) is not None:
            worse = min if name == FB_FREE else max
            self.values[name] = worse(self.values.get(name, number), number)
        if (index := numbers.whole(labels.get("gpu") or labels.get("gpu_id", ""), 0, 999)) is not None:
            self.indices.add(index)
        if model := labels.get("modelName"):
            self.products.add(product(model)[:63])
        if pod := holder(labels, exporters):
            self.holders.add(pod)

    def reading(self, node: str, uuid: str, mig: str, read_at: datetime | None) -> GpuReading:
        used, free, reported = (self.values.get(name) for name in (FB_USED, FB_FREE, FB_TOTAL))
        total = reported
        if total is None and used is not None and free is not None:
            total = used + free + self.values.get(FB_RESERVED, 0.0)
        if total is not None and used is None and free is not None:
            used = max(0.0, total - free)
        percent, active = self.values.get(GPU_UTIL), self.values.get(GRAPHICS_ACTIVE)
        return GpuReading(
            node=node,
            uuid=uuid,
            index=min(self.indices, default=None),
            product=min(self.products, default=""),
            memory_used_bytes=_bytes(used),
            memory_free_bytes=_bytes(free),
            memory_total_bytes=_bytes(total) or None,
            utilization=percent / 100 if percent is not None else active,
            mig=mig,
            holders=tuple(sorted(self.holders)),
            read_at=read_at,
        )


def _sane(name: str, value: float) -> float | None:
    """None for what no device can report: not a number, negative, sentinels."""
    highest = {GPU_UTIL: 100.0, GRAPHICS_ACTIVE: 1.0}.get(name, float(MAX_MEMORY_MEBIBYTES))
    return value if math.isfinite(value) and 0 <= value <= highest else None


def _bytes(mebibytes: float | None) -> int | None:
    return None if mebibytes is None else int(mebibytes * MEBIBYTE)
