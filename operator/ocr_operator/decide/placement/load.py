"""What a GPU carries: what is promised on it, what foreign pods use, how busy it is."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from ocr_operator.decide.placement import devices
from ocr_operator.decide.placement import nodes as eligible
from ocr_operator.decide.placement.types import CLAIMED, Reservation
from ocr_operator.gpuload import readings
from ocr_operator.gpuload.dcgm import GpuReading, Source
from ocr_operator.gpuload.labels import is_amd
from ocr_operator.resources.observed import Node

LIVE_SECONDS: Final = int(readings.FRESH.total_seconds())
USABLE_SECONDS: Final = int(readings.USABLE.total_seconds())
NOISE: Final = 100
"""Foreign memory is compared in steps of 1/100 of a GPU, or a few idle MiB would decide over the spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One GPU at the moment of the decision. Without usable data `foreign`, `live` and `busy` are 0."""

    node: str
    uuid: str
    mig: str
    """`<instance id>/<profile>`; empty for a whole GPU."""
    product: str
    total: int | None
    age: int | None
    """Seconds; None: there is no data that can be used."""
    source: str
    """Empty without usable data."""
    firm: int
    """Bytes promised to pods that are pinned here, whatever the others do."""
    reserved: int
    """These, and the most that one pod here takes on demand."""
    promised: int
    """Bytes promised to all pods together: more than there is where many are on demand."""
    foreign: int
    """Bytes that no reservation accounts for."""
    live: int
    """Bytes in use now or soon: measured, and promised to pods that the data doesn't show yet."""
    busy: float
    tenants: int
    taken: bool
    """A pod holds the GPU as a whole."""
    holders: tuple[str, ...]
    """`namespace/pod` of the pods that the exporter attributes it to."""
    replicated: bool = False
    """The node hands out more devices than GPUs, though no label of it says so."""

    @property
    def free_memory(self) -> int:
        """Bytes that are neither used nor promised; 0 where the size is unknown."""
        return self.left(on_demand=False)

    def left(self, *, on_demand: bool) -> int:
        """Bytes that a pod may be promised: on demand also what others have only on demand."""
        return max(0, (self.total or 0) - (self.firm if on_demand else self.reserved) - self.foreign)

    def fits(self, need: int, *, on_demand: bool = False) -> bool:
        held = self.firm if on_demand else self.reserved
        return self.total is not None and held + self.foreign + need <= self.total

    @property
    def live_share(self) -> float:
        return self.live / self.total if self.total else 0.0

    @property
    def promised_bytes(self) -> int:
        """Promised or used, without a new pod; 0 where the size is unknown."""
        return round(self.share(0) * (self.total or 0))

    def share(self, need: int) -> float:
        """The part of the memory that is promised or used once `need` is there, the noise of foreign pods cut off."""
        if not self.total:
            return 0.0
        step = max(1, self.total // NOISE)
        return (self.promised + self.foreign // step * step + need) / self.total


def loads(
    node: Node, reported: Iterable[GpuReading], here: Sequence[Reservation], now: datetime
) -> list[Load]:
    """List every GPU of the node that was ever reported, by its newest reading; `here` are the node's reservations."""
    newest = _newest(reported)
    replicated = devices.replicated(node, _gpus(newest.values()))
    return [_load(node, reading, here, now, replicated) for _, reading in sorted(newest.items())]


def sizes(node: Node, reported: Iterable[GpuReading]) -> dict[str, int]:
    """Return the bytes of every GPU whose size is known, by UUID."""
    found = {each.uuid: _size(node, each) for each in _newest(reported).values() if not each.mig}
    return {uuid: size for uuid, size in found.items() if size}


def _newest(reported: Iterable[GpuReading]) -> dict[tuple[str, str], GpuReading]:
    """Return the newest reading of every GPU and MIG instance."""
    newest: dict[tuple[str, str], GpuReading] = {}
    for reading in reported:
        key = (reading.uuid, reading.mig)
        if key not in newest or readings.newness(reading) > readings.newness(newest[key]):
            newest[key] = reading
    return newest


def _size(node: Node, reading: GpuReading) -> int | None:
    return reading.memory_total_bytes or _labelled(node, reading)


def _gpus(reported: Collection[GpuReading]) -> int:
    """Count the GPUs of a node; 0 where nothing but pods reports them, each its own only."""
    if all(each.source is Source.POD for each in reported):
        return 0
    return sum(not each.mig for each in reported)


def _load(
    node: Node, reading: GpuReading, here: Sequence[Reservation], now: datetime, replicated: bool
) -> Load:
    entries = [entry for entry in here if reading.uuid in entry.uuids]
    pinned = [entry for entry in entries if not whole(node, entry, replicated)]
    total = _size(node, reading)
    promised, on_demand = _bytes(pinned), [entry for entry in pinned if entry.on_demand]
    firm = promised - _bytes(on_demand)
    data = _data(reading, total, pinned, now)
    return Load(
        node=node.name,
        uuid=reading.uuid,
        mig=reading.mig,
        product=reading.product,
        total=total,
        age=data.age,
        source=data.source,
        firm=firm,
        reserved=firm + max((entry.memory_bytes for entry in on_demand), default=0),
        promised=promised,
        foreign=data.foreign,
        live=data.live,
        busy=data.busy,
        tenants=len(entries),
        taken=len(pinned) < len(entries) or (not replicated and _held_by_foreign_pods(node, reading, here)),
        holders=reading.holders,
        replicated=replicated,
    )


class _Data(NamedTuple):
    """Data of a reading beyond the reservations; the defaults are for one that can't be used."""

    age: int | None = None
    source: str = ""
    foreign: int = 0
    live: int = 0
    busy: float = 0.0


def _data(reading: GpuReading, total: int | None, pinned: Sequence[Reservation], now: datetime) -> _Data:
    used, age = reading.memory_used_bytes, _age(reading, now)
    if age is None or used is None or (total is not None and used > total):
        return _Data()
    if not pinned:
        return _Data(age, reading.source.value, max(0, used), used, reading.utilization or 0.0)
    shown = [entry for entry in pinned if _shows(reading, entry)]
    hidden = [entry for entry in pinned if entry not in shown]
    foreign = max(0, used - sum([_footprint(entry) for entry in shown]))
    return _Data(age, reading.source.value, foreign, used + _bytes(hidden), reading.utilization or 0.0)


def _bytes(entries: Iterable[Reservation]) -> int:
    return sum([entry.memory_bytes for entry in entries])


def _held_by_foreign_pods(node: Node, reading: GpuReading, here: Sequence[Reservation]) -> bool:
    if not reading.holders or eligible.shares(node):
        return False
    return bool(set(reading.holders) - {entry.pod for entry in here})


def whole(node: Node, entry: Reservation, replicated: bool = False) -> bool:
    """Return whether the entry's GPUs are its own: claimed, or given by the device plugin and no replica of a GPU."""
    if entry.resource == CLAIMED or not entry.count:
        return entry.resource == CLAIMED
    return not replicated and not eligible.shares(node, entry.resource)


def _labelled(node: Node, reading: GpuReading) -> int | None:
    """The size of the GPU or instance by the node's labels."""
    if reading.mig:
        return devices.instance_bytes(node, reading.mig.partition("/")[2])
    return devices.gpu_bytes(node, devices.AMD if is_amd(reading.uuid) else "")


def _age(reading: GpuReading, now: datetime) -> int | None:
    """Whole seconds; a clock that is a little ahead reads as 0."""
    if reading.read_at is None:
        return None
    age = (now - reading.read_at).total_seconds()
    return max(0, int(age)) if -LIVE_SECONDS <= age <= USABLE_SECONDS else None


def _shows(reading: GpuReading, entry: Reservation) -> bool:
    """The data was read after the pod came, and the pod is up: what it uses is in there already."""
    return entry.up and (
        entry.placed is None or (reading.read_at is not None and reading.read_at > entry.placed)
    )


def _footprint(entry: Reservation) -> int:
    """Return the measured memory that may be this pod's: never more than it was promised."""
    return entry.memory_bytes if entry.used_bytes is None else min(entry.used_bytes, entry.memory_bytes)
