"""Candidates of a node: each GPU by UUID (shared, claim), or the node as a whole by its free devices (exclusive)."""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, partial
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A GPU (shared) or a node (exclusive). Only those that `fit` may be chosen; the others explain a refusal."""

    node: str
    gpu: Gpu | None
    fits: bool
    free_text: Callable[[], str]
    """For people: `3.1Gi free`, `2 of 2 taken`."""
    rank: float
    """How near it comes to being large enough: the order of a refusal's examples, highest first."""
    share: float
    """Of the memory, promised or used once the pod is there."""
    allocated: float
    """Part of the node's devices that is taken; 0 for a GPU."""
    age: int | None
    """Seconds of the data; None: decided by allocation."""
    source: str
    """Sources of the data, comma-separated where there are several; empty: none."""
    refused: bool
    """The scheduler turned a pod of the same resource away from the node lately."""
    uncertain: bool
    """No usable data, and not a new and empty node."""
    unattributed: bool
    """The device plugin gave away GPUs of this node, and nothing reports which."""
    siblings: tuple[int, int]
    """Replicas of the same resource on the same GPU, on the same node."""
    live: float
    """Share of the memory in use right now."""
    busy: float
    tenants: int

    @property
    def doubts(self) -> tuple[bool, bool, bool]:
        """Reasons to come last under every policy, the strongest first."""
        return self.refused, self.uncertain, self.unattributed

    @property
    def name(self) -> str:
        return f"{self.node}/{self.gpu.uuid}" if self.gpu else self.node

    @property
    def score(self) -> float:
        return round(min(1.0, max(0.0, 1.0 - self.share)), 4)


def find(
    request: Request, node: Node, loads: Sequence[Load], here: Sequence[Reservation], now: datetime
) -> list[Candidate]:
    """List the candidates of one eligible node; `here` are the reservations of all other pods on it."""
    site = _Site(request, node, here, now)
    if request.sharing in PINNED:
        unattributed = any(entry.count and not entry.uuids for entry in here)
        return [_gpu(site, load, unattributed) for load in loads if _pinnable(request, node, load)]
    if not node.allocatable.get(request.resource):
        return []
    devices = _devices(request, loads)
    return [_replica(site, devices) if eligible.shares(node, request.resource) else _whole(site, devices)]


def _pinnable(request: Request, node: Node, load: Load) -> bool:
    """Exporters name no UUID of a MIG instance, and pinning the whole GPU would give the pod all instances."""
    product = load.product or node.labels.get(eligible.PRODUCT_LABEL, "")
    return not load.mig and eligible.wanted_product(request, product)


@dataclass(frozen=True)
class _Site:
    """One eligible node with the reservations of other pods, and what all kinds of candidates share."""

    request: Request
    node: Node
    here: Sequence[Reservation]
    now: datetime

    @cached_property
    def idle(self) -> bool:
        """New, and empty as far as the reservations say."""
        created = self.node.created
        return not self.here and created is not None and self.now - created <= NEW

    @cached_property
    def replicas(self) -> int:
        return self.replicas_on("")

    def replicas_on(self, uuid: str) -> int:
        """Replicas of the same resource on a GPU, or on the node for an empty UUID."""
        return sum(
            entry.deployment == self.request.deployment and (not uuid or uuid in entry.uuids)
            for entry in self.here
            if entry.deployment
        )

    @property
    def capacity(self) -> int:
        return self.node.allocatable[self.request.resource]

    def taken(self, foreign: int) -> int:
        """Devices that are taken: by reservations, and by `foreign` pods."""
        ours = sum(entry.count for entry in self.here if entry.resource == self.request.resource)
        return min(self.capacity, ours + foreign)

    def candidate(
        self,
        devices: Sequence[Load],
        *,
        gpu: Gpu | None = None,
        fits: bool,
        free_text: Callable[[], str],
        rank: float,
        share: float,
        allocated: float = 0.0,
        unattributed: bool = False,
        tenants: int,
    ) -> Candidate:
        """Build the candidate whose load is that of `devices`, on average; only with data of all is it known."""
        ages = [load.age for load in devices if load.age is not None]
        known = 0 < len(ages) == len(devices)
        return Candidate(
            node=self.node.name,
            gpu=gpu,
            fits=fits,
            free_text=free_text,
            rank=rank,
            share=share,
            allocated=allocated,
            age=max(ages) if known else None,
            source=_sources(devices) if known else "",
            refused=self.node.name in self.request.refused,
            uncertain=not known and not self.idle,
            unattributed=unattributed,
            siblings=(self.replicas_on(gpu.uuid) if gpu and self.here else 0, self.replicas),
            live=_mean([load.live_share for load in devices]),
            busy=_mean([load.busy for load in devices]),
            tenants=tenants,
        )

    def devices_candidate(
        self,
        devices: Sequence[Load],
        *,
        taken: int,
        large_enough: bool,
        share: float,
        free_bytes: int | None,
    ) -> Candidate:
        """Build the candidate for a number of the node's devices, which the device plugin picks."""
        free = self.capacity - taken >= self.request.count
        return self.candidate(
            devices,
            fits=free and large_enough,
            free_text=partial(_devices_free, taken, self.capacity, free_bytes, free),
            rank=self.capacity - taken,
            share=share,
            allocated=taken / self.capacity,
            tenants=len({entry.uid for entry in self.here}),
        )


def _gpu(site: _Site, load: Load, unattributed: bool) -> Candidate:
    request = site.request
    taken = load.taken or (request.sharing == "claim" and load.tenants > 0)
    left = load.left(on_demand=request.on_demand)
    return site.candidate(
        (load,),
        gpu=Gpu(uuid=load.uuid, product=load.product),
        fits=not taken and load.fits(request.memory_bytes, on_demand=request.on_demand),
        free_text=partial(_gpu_free, load, left, taken),
        rank=0 if taken else left,
        share=load.share(request.memory_bytes),
        unattributed=unattributed,
        tenants=load.tenants,
    )


def _whole(site: _Site, devices: Sequence[Load]) -> Candidate:
    """The device plugin picks among the node's free devices; which ones these are is known only in part.

    As many GPUs as devices are free, the least loaded first, represent them, and their mean is the node's load.
    """
    need, label = site.request.memory_bytes, eligible.memory_bytes(site.node)
    taken = site.taken(_foreign_devices(site, devices))
    spare = sorted(
        (load for load in devices if not load.taken),
        key=lambda load: (load.share(need), load.uuid, load.mig),
    )[: site.capacity - taken]
    if spare:
        large_enough = sum(load.total is None or load.fits(need) for load in spare) >= site.request.count
        share = sum(load.share(need) for load in spare) / len(spare)
    else:
        large_enough = label is None or label >= need
        share = need / label if label else 0.0
    return site.devices_candidate(
        spare,
        taken=taken,
        large_enough=large_enough,
        share=share,
        free_bytes=max((load.free_memory for load in spare), default=label),
    )


def _foreign_devices(site: _Site, devices: Sequence[Load]) -> int:
    """GPUs that are taken, though by no pod with a reservation."""
    own = {uuid for entry in site.here if entry.count for uuid in entry.uuids}
    return sum(load.taken and load.uuid not in own for load in devices)


def _replica(site: _Site, devices: Sequence[Load]) -> Candidate:
    """The device plugin gives each GPU to several pods (time slicing, MPS): replicas limit how many pods there are,
    memory whether they fit together.
    """
    need, label = site.request.memory_bytes, eligible.memory_bytes(site.node)
    devices = [load for load in devices if not load.taken]
    loose = _loose(site)
    free = _most_free(devices, loose)
    if free is None:
        free = label
    total = sum(load.total or 0 for load in devices) or label
    promised = sum(load.promised_bytes for load in devices) + sum(loose)
    return site.devices_candidate(
        devices,
        taken=site.taken(_foreign_pods(site, devices)),
        large_enough=free is None or need <= free,
        share=(promised + need) / total if total else 0.0,
        free_bytes=free,
    )


def _foreign_pods(site: _Site, devices: Sequence[Load]) -> int:
    """Pods without a reservation that hold a replica of a GPU."""
    return len({name for load in devices for name in load.holders} - {entry.pod for entry in site.here})


def _loose(site: _Site) -> list[int]:
    """Bytes of each pod whose GPU isn't known yet, the smallest first."""
    ours = (entry for entry in site.here if entry.resource == site.request.resource)
    return sorted(entry.memory_bytes for entry in ours if not entry.uuids)


def _most_free(devices: Iterable[Load], loose: Sequence[int]) -> int | None:
    """The most bytes that are free on one GPU, below 0 where too much is promised; None where no size is known.

    Pods whose GPU isn't known yet count where the most memory is free, the largest first, as a plugin that spreads
    puts them; the new one must fit on what is left.
    """
    heap = [-load.free_memory for load in devices if load.total is not None]
    if not heap:
        return None
    heapq.heapify(heap)
    for need in reversed(loose):
        heapq.heapreplace(heap, heap[0] + need)
    return -heap[0]


def _devices(request: Request, loads: Sequence[Load]) -> list[Load]:
    """The GPUs or MIG instances that the resource hands out: `nvidia.com/mig-1g.10gb` instances of that
    profile, anything else whole GPUs, or (MIG strategy `single`) instances where there is nothing whole.
    """
    if profile := request.resource.partition("/mig-")[2]:
        return [load for load in loads if load.mig.partition("/")[2] == profile]
    return [load for load in loads if not load.mig] or list(loads)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _sources(devices: Sequence[Load]) -> str:
    return ",".join(sorted({load.source for load in devices})) if len(devices) > 1 else devices[0].source


def _gpu_free(load: Load, left: int, taken: bool) -> str:
    if load.taken:
        return "held as a whole"
    if taken:
        return f"{load.tenants} pod{'' if load.tenants == 1 else 's'} on it, taken"
    return "size unknown" if load.total is None else f"{size(left)} free"


def _devices_free(taken: int, capacity: int, free_bytes: int | None, free: bool) -> str:
    if free and free_bytes is not None:
        return f"{size(max(0, free_bytes))} free on a GPU"
    return f"{taken} of {capacity} taken"
