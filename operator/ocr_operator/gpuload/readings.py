"""What is known of every GPU, out of all sources: exporters, Prometheus, and the pods that run there.

Sources disagree: in age, since each has its period; in truth, since a pod runs other people's code. So exporters and
Prometheus, which no user of a GPU can influence, win while they are fresh, and a pod's own reading stands
in where they are silent.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from ocr_operator.gpuload import dcgm
from ocr_operator.gpuload.dcgm import GpuReading, Source
from ocr_operator.gpuload.labels import is_amd
from ocr_operator.resources.observed import Pod
from ocr_wire.placement import UUID
from ocr_wire.state import PodState

FRESH: Final = timedelta(seconds=60)
"""Two periods of the exporter's default (30 s)."""
USABLE: Final = timedelta(minutes=5)
"""Older data says nothing: a model is loaded and offloaded in less. Trimaran draws the same line."""


@dataclass(frozen=True, slots=True)
class GpuNodes:
    """Which node has which GPU, by the sources that measure whole nodes: exporters and Prometheus, no pods."""

    nodes: Mapping[str, str] = field(default_factory=dict)
    """UUID → node."""
    reported: frozenset[str] = frozenset()
    """Nodes that such a source reports on."""


NO_GPU_NODES: Final = GpuNodes()


def newness(each: GpuReading) -> tuple[object, ...]:
    """Sort readings of a GPU, the newest last. Of two of the same moment an exporter's is newer; beyond that their
    contents decide, all of them, so that no order of the inputs matters. What isn't known is less than any value.
    """
    numbers = (
        each.memory_used_bytes,
        each.memory_free_bytes,
        each.memory_total_bytes,
        each.utilization,
        each.index,
    )
    return (
        _seconds(each),
        each.source is Source.EXPORTER,
        each.source.value,
        each.node,
        *((number is not None, number or 0) for number in numbers),
        each.product,
        each.mig,
        each.holders,
    )


def merge(sources: Iterable[GpuReading], now: datetime, known: GpuNodes = NO_GPU_NODES) -> list[GpuReading]:
    """Return one reading per GPU (or MIG instance), whatever the order of `sources`, sorted by node and UUID.

    1. one that has memory and is fresh, before one that is merely usable, before the rest  2. not a pod's own
    3. the newest. The holders of the GPU, which no pod knows, is kept from the others.

    A UUID is of one GPU: where sources name several nodes, its node so far is right while that still reports it, else
    the most trustworthy; the others' words are dropped. A GPU is whole or cut into MIG instances, never both: what says
    the other is dropped, and a pod can't say, since it sees the whole.
    """
    every: dict[str, list[GpuReading]] = {}
    for each in sources:
        every.setdefault(each.uuid, []).append(each)
    best: list[GpuReading] = []
    for uuid, group in every.items():
        if len(group) == 1:
            best.append(group[0])
            continue
        home = _home(group, known.nodes.get(uuid, ""), now)
        here = [each for each in group if each.node == home]
        cut = _cut(here)
        instances: dict[str, list[GpuReading]] = {}
        for each in here:
            if bool(each.mig) is cut:
                instances.setdefault(each.mig, []).append(each)
        best.extend(_best(each, now) for each in instances.values())
    return sorted(best, key=lambda each: (each.node, each.uuid, each.mig))


def gpu_nodes(sources: Iterable[GpuReading], now: datetime, known: GpuNodes = NO_GPU_NODES) -> GpuNodes:
    """The node of each GPU: the `known` one while it still reports the GPU, else by the most trustworthy source, then
    the newest; pods' own words don't count.
    """
    found: dict[str, list[GpuReading]] = {}
    for each in sources:
        if each.source is not Source.POD:
            found.setdefault(each.uuid, []).append(each)
    nodes = {uuid: _home(group, known.nodes.get(uuid, ""), now) for uuid, group in found.items()}
    return GpuNodes(nodes, frozenset(nodes.values()))


def _home(group: Sequence[GpuReading], known: str, now: datetime) -> str:
    """Return the GPU's node, which changes once it doesn't report the GPU any more, whatever others claim."""
    for each in group:
        if each.node == known and each.source is not Source.POD and _fresh(each, now):
            return known
    return max(group, key=_trust).node


def _cut(group: Iterable[GpuReading]) -> bool:
    """Return whether the GPU is in MIG instances: by the newest that measure nodes, and in doubt it is."""
    measured = [each for each in group if each.source is not Source.POD]
    instances, whole = (
        max((_seconds(each) for each in measured if bool(each.mig) is cut), default=None)
        for cut in (True, False)
    )
    if instances is None:
        return False
    return whole is None or whole - instances <= FRESH.total_seconds() or whole == instances


def of_nodes(
    scraped: Collection[GpuReading], asked: Collection[GpuReading], now: datetime
) -> list[GpuReading]:
    """List what exporters and a Prometheus server say. An exporter that answers knows all GPUs of its node: one more
    that Prometheus names there is another cluster's, whose node has the same name.
    """
    return [*scraped, *believed(scraped, asked, now)]


def believed(
    scraped: Iterable[GpuReading], asked: Iterable[GpuReading], now: datetime
) -> Sequence[GpuReading]:
    """List what counts of that which a Prometheus server says, beside exporters."""
    known: dict[tuple[str, bool], set[str]] = {}
    for each in scraped:
        if _fresh(each, now):
            known.setdefault((each.node, is_amd(each.uuid)), set()).add(each.uuid)
    return [each for each in asked if each.uuid in known.get((each.node, is_amd(each.uuid)), {each.uuid})]


def of_pods(pods: Iterable[Pod], states: Mapping[str, PodState], now: datetime) -> list[GpuReading]:
    """List what pods measure of the GPUs they run on. A state is as young as its stream, which is live or gone."""
    found = []
    for pod in pods:
        state = states.get(pod.uid)
        if state is None or not pod.node:
            continue
        device, whole = state.device, state.device.gpu
        if whole is None or not device.uuid or not UUID.fullmatch(device.uuid):
            continue
        if device.uuid.startswith("MIG-"):
            continue  # an instance, whose UUID exporters don't name: it would stand beside its own reading as a GPU
        if not 0 < whole.memory_total_bytes <= dcgm.MAX_MEMORY_MEBIBYTES * dcgm.MEBIBYTE:
            continue
        found.append(
            GpuReading(
                node=pod.node,
                uuid=device.uuid,
                product=dcgm.product(device.product or "")[:63],
                memory_used_bytes=whole.memory_used_bytes,
                memory_total_bytes=whole.memory_total_bytes,
                utilization=whole.utilization,
                read_at=now,
                source=Source.POD,
            )
        )
    return found


def _best(group: Iterable[GpuReading], now: datetime) -> GpuReading:
    ordered = sorted(group, key=lambda each: _worth(each, now))
    holders = next((each.holders for each in reversed(ordered) if each.source is not Source.POD), ())
    return replace(ordered[-1], holders=holders) if ordered[-1].source is Source.POD else ordered[-1]


def _worth(each: GpuReading, now: datetime) -> tuple[object, ...]:
    age = now - each.read_at if each.read_at else None
    usable = each.memory_used_bytes is not None and age is not None and -FRESH <= age <= USABLE
    fresh = usable and age is not None and age <= FRESH
    return (usable + fresh, *_trust(each))


def _fresh(each: GpuReading, now: datetime) -> bool:
    return each.read_at is not None and abs(now - each.read_at) <= FRESH


def _seconds(each: GpuReading) -> float:
    return each.read_at.timestamp() if each.read_at else float("-inf")


def _trust(each: GpuReading) -> tuple[object, ...]:
    """No pod's own reading, then the newest."""
    return (each.source is not Source.POD, *newness(each))
