"""Who may be chosen and in which order: GPUs by UUID (shared), nodes by free devices (exclusive)."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from ocr_operator.decide.placement import nodes as eligible
from ocr_operator.decide.placement.load import Load
from ocr_operator.decide.placement.messages import size
from ocr_operator.decide.placement.types import Gpu, Request, Reservation
from ocr_operator.resources.observed import Node

NEW: Final = timedelta(minutes=10)
"""A node is new for so long: its exporter starts after the kubelet, and until then an empty one is idle."""
PINNED: Final = ("shared", "claim")
"""Sharings whose pods get a GPU by its UUID."""
BUSY_STEPS: Final = 20
"""Utilisation is compared in steps of 5 %: it moves by more from one second to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A GPU (shared) or a node (exclusive). Only those that `fit` may be chosen; the others explain a refusal."""

    node: str
    gpu: Gpu | None
    fits: bool
    room: Callable[[], str]
    """For people: `3.1Gi free`, `2 of 2 taken`."""
    rank: float
    """How near it comes to having room: the order of a refusal's examples, highest first."""
    share: float
    """Of the memory, promised or used once the pod is there."""
    age: int | None
    """Seconds of the data; None: decided by allocation."""
    source: str
    """Who told, comma-separated where several did; empty: nobody."""
    refused: bool
    """The scheduler turned a pod of the same resource away from the node lately."""
    uncertain: bool
    """No usable data, and not a new and empty node."""
    crowded: bool
    """The device plugin gave away GPUs of this node, and nobody knows which."""
    siblings: tuple[int, int]
    """Replicas of the same resource on the same GPU, on the same node."""
    live: float
    """Share of the memory in use right now."""
    busy: float
    tenants: int

    def order(self) -> tuple[object, ...]:
        """Least loaded first.

        1. not refused by the scheduler, known before unknown  2. share of memory promised or used  3. fewest replicas
        of the same resource
        4. share of memory in use now  5. utilisation  6. fewest pods  7. names: equal inputs, equal answers
        """
        return (
            (self.refused, self.uncertain, self.crowded),
            round(self.share, 6),
            self.siblings,
            round(self.live, 2),
            round(self.busy * BUSY_STEPS),
            self.tenants,
            (self.node, self.gpu.uuid if self.gpu else ""),
        )

    @property
    def name(self) -> str:
        return f"{self.node}/{self.gpu.uuid}" if self.gpu else self.node

    @property
    def score(self) -> float:
        return round(min(1.0, max(0.0, 1.0 - self.share)), 4)


def find(
    request: Request, node: Node, loads: Sequence[Load], here: Sequence[Reservation], now: datetime
) -> list[Candidate]:
    """The candidates of one eligible node; `here` are the reservations of all other pods on it."""
    if request.sharing in PINNED:
        uncertain = not _idle(node, here, now)
        crowded = any(entry.count and not entry.uuids for entry in here)
        pinnable = (load for load in loads if _pinnable(request, node, load))
        return [_gpu(request, node, load, here, uncertain=uncertain, crowded=crowded) for load in pinnable]
    if not node.allocatable.get(request.resource):
        return []
    if eligible.shares(node, request.resource):
        return [_replica(request, node, loads, here, now)]
    return [_whole(request, node, loads, here, now)]


def _pinnable(request: Request, node: Node, load: Load) -> bool:
    """Exporters name no UUID of a MIG instance, and pinning the whole GPU would give the pod all instances."""
    product = load.product or node.labels.get(eligible.PRODUCT_LABEL, "")
    return not load.mig and eligible.wanted_product(request, product)


def _gpu(
    request: Request, node: Node, load: Load, here: Sequence[Reservation], *, uncertain: bool, crowded: bool
) -> Candidate:
    busy = load.taken or (request.sharing == "claim" and load.tenants > 0)
    left = load.left(on_demand=request.on_demand)
    return Candidate(
        node=node.name,
        gpu=Gpu(uuid=load.uuid, product=load.product),
        fits=not busy and load.fits(request.memory_bytes, on_demand=request.on_demand),
        room=partial(_room, load, left, busy),
        rank=0 if busy else left,
        share=load.share(request.memory_bytes),
        age=load.age,
        source=load.source,
        refused=node.name in request.refused,
        uncertain=load.age is None and uncertain,
        crowded=crowded,
        siblings=(_replicas(request, here, load.uuid), _replicas(request, here)) if here else (0, 0),
        live=load.live / load.total if load.total else 0.0,
        busy=load.busy,
        tenants=load.tenants,
    )


def _room(load: Load, left: int, busy: bool) -> str:
    if load.taken:
        return "held as a whole"
    if busy:
        return f"{load.tenants} pod{'' if load.tenants == 1 else 's'} on it, taken"
    return "size unknown" if load.total is None else f"{size(left)} free"


def _whole(
    request: Request, node: Node, loads: Sequence[Load], here: Sequence[Reservation], now: datetime
) -> Candidate:
    """The device plugin picks among the node's free devices; which ones these are is known only in part.

    As many GPUs as devices are free, the least loaded first, stand for them, and their mean is the node's load.
    """
    capacity = node.allocatable[request.resource]
    booked = sum(entry.count for entry in here if entry.resource == request.resource)
    own = {uuid for entry in here if entry.count for uuid in entry.uuids}
    matching = _devices(request, loads)
    foreign_pods = sum(load.taken and load.uuid not in own for load in matching)
    taken = min(capacity, booked + foreign_pods)
    spare = sorted(
        (load for load in matching if not load.taken),
        key=lambda load: (load.share(request.memory_bytes), load.uuid, load.mig),
    )[: capacity - taken]
    label = eligible.memory_bytes(node)
    roomy = [load for load in spare if load.total is None or load.fits(request.memory_bytes)]
    too_small = len(roomy) < request.count if spare else label is not None and label < request.memory_bytes
    ages = [load.age for load in spare if load.age is not None]
    known = bool(spare) and len(ages) == len(spare)
    free = capacity - taken >= request.count
    number = max(1, len(spare))
    return Candidate(
        node=node.name,
        gpu=None,
        fits=free and not too_small,
        room=partial(_devices_left, taken, capacity, max((load.room for load in spare), default=label), free),
        rank=capacity - taken,
        share=sum(load.share(request.memory_bytes) for load in spare) / number
        if spare
        else request.memory_bytes / label
        if label
        else 0.0,
        age=max(ages) if known else None,
        source=",".join(sorted({load.source for load in spare})) if known else "",
        refused=node.name in request.refused,
        uncertain=not known and not _idle(node, here, now),
        crowded=False,
        siblings=(0, _replicas(request, here)),
        live=sum(load.live / load.total for load in spare if load.total) / number,
        busy=sum(load.busy for load in spare) / number,
        tenants=len({entry.uid for entry in here}),
    )


def _replica(
    request: Request, node: Node, loads: Sequence[Load], here: Sequence[Reservation], now: datetime
) -> Candidate:
    """The device plugin gives each GPU to several pods (time slicing, MPS): replicas limit how many pods there are,
    memory whether they can live together.

    Pods of which nobody knows yet on which GPU they are count where the most room is, as a plugin that spreads puts
    them; the new one must find room on what is left.
    """
    capacity = node.allocatable[request.resource]
    ours = [entry for entry in here if entry.resource == request.resource]
    devices = [load for load in _devices(request, loads) if not load.taken]
    foreign_pods = {name for load in devices for name in load.holders} - {entry.pod for entry in here}
    taken = min(capacity, sum(entry.count for entry in ours) + len(foreign_pods))
    loose = sorted(entry.memory_bytes for entry in ours if not entry.uuids)
    rooms = [-load.room for load in devices if load.total is not None]
    heapq.heapify(rooms)
    for need in reversed(loose):
        if rooms:
            heapq.heapreplace(rooms, rooms[0] + need)
    label = eligible.memory_bytes(node)
    room = -rooms[0] if rooms else label
    total = sum(load.total or 0 for load in devices) or label or 0
    promised = sum(round(load.share(0) * (load.total or 0)) for load in devices) + sum(loose)
    free = capacity - taken >= request.count
    known = bool(devices) and all(load.age is not None for load in devices)
    number = max(1, len(devices))
    return Candidate(
        node=node.name,
        gpu=None,
        fits=free and (room is None or request.memory_bytes <= room),
        room=partial(_devices_left, taken, capacity, None if room is None else max(0, room), free),
        rank=capacity - taken,
        share=(promised + request.memory_bytes) / total if total else 0.0,
        age=max((load.age or 0 for load in devices), default=0) if known else None,
        source=",".join(sorted({load.source for load in devices})) if known else "",
        refused=node.name in request.refused,
        uncertain=not known and not _idle(node, here, now),
        crowded=False,
        siblings=(0, _replicas(request, here)),
        live=sum(load.live / load.total for load in devices if load.total) / number,
        busy=sum(load.busy for load in devices) / number,
        tenants=len({entry.uid for entry in here}),
    )


def _devices(request: Request, loads: Sequence[Load]) -> list[Load]:
    """The GPUs or MIG instances that the resource hands out: `nvidia.com/mig-1g.10gb` instances of that
    profile, anything else whole GPUs, or (MIG strategy `single`) instances where there is nothing whole.
    """
    if profile := request.resource.partition("/mig-")[2]:
        return [load for load in loads if load.mig.partition("/")[2] == profile]
    return [load for load in loads if not load.mig] or list(loads)


def _devices_left(taken: int, capacity: int, room: int | None, free: bool) -> str:
    if free and room is not None:
        return f"{size(room)} free on a GPU"
    return f"{taken} of {capacity} taken"


def _idle(node: Node, here: Sequence[Reservation], now: datetime) -> bool:
    return not here and node.created is not None and now - node.created <= NEW


def _replicas(request: Request, here: Sequence[Reservation], uuid: str = "") -> int:
    return sum(
        entry.deployment == request.deployment and (not uuid or uuid in entry.uuids)
        for entry in here
        if entry.deployment
    )
