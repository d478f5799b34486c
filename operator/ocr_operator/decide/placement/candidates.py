"""Candidates of a node: each GPU by UUID (shared, claim), or the node as a whole by its free devices (exclusive)."""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Final

from ocr_operator.decide.placement import devices as hardware
from ocr_operator.decide.placement import messages
from ocr_operator.decide.placement import nodes as eligible
from ocr_operator.decide.placement.candidate import Candidate, Place
from ocr_operator.decide.placement.load import Load
from ocr_operator.decide.placement.predicates import Price
from ocr_operator.decide.placement.types import CLAIMED, Gpu, Request, Reservation
from ocr_operator.gpuload.labels import is_amd
from ocr_operator.resources.observed import Node

NEW: Final = timedelta(minutes=10)
"""A node is new for so long: its exporter starts after the kubelet, and until then an empty one is idle."""
PINNED: Final = ("shared", "claim")
"""Sharings whose pods get a GPU by its UUID."""


def find(
    request: Request,
    place: Place,
    loads: Sequence[Load],
    here: Sequence[Reservation],
    now: datetime,
    *,
    only: str = "",
) -> list[Candidate]:
    """List the candidates of one eligible node, or `only` the GPU of that UUID; `here` are the reservations of all
    other pods on it.
    """
    site, node = _Site(request, place, here, now), place.node
    if request.sharing in PINNED:
        if hardware.cut(node) and not any(load.mig for load in loads):
            return []  # which of the GPUs are in instances isn't known
        unattributed = any(entry.count and not entry.uuids for entry in here) or _foreign_plugin_pods(
            place, loads
        )
        meant = (load for load in loads if not only or load.uuid == only)
        return [_gpu(site, load, unattributed) for load in meant if _pinnable(request, node, load)]
    devices = _devices(request, loads)
    if not node.allocatable.get(request.resource) or _unwanted(request, node, devices):
        return []
    shared = eligible.shares(node, request.resource) or any(load.replicated for load in devices)
    return [_replica(site, devices) if shared else _whole(site, devices)]


def _unwanted(request: Request, node: Node, devices: Sequence[Load]) -> bool:
    """Return whether nothing says that the node has one of the wanted products: neither its label nor an exporter."""
    if not request.products or eligible.product(request, node):
        return False
    return not any(eligible.wanted_product(request, load.product) for load in devices)


def _foreign_plugin_pods(place: Place, loads: Sequence[Load]) -> bool:
    """Return whether the device plugin gave away more GPUs than are known to be held."""
    if not place.usage.amounts or eligible.shares(place.node) or any(load.replicated for load in loads):
        return False
    given = sum(amount for name, amount in place.usage.amounts.items() if name in eligible.GPU_RESOURCES)
    return given > sum(load.taken for load in loads)


def _pinnable(request: Request, node: Node, load: Load) -> bool:
    """Exporters name no UUID of a MIG instance, and pinning the whole GPU would give the pod all instances."""
    if load.mig or is_amd(load.uuid):
        return False
    return not request.products or eligible.wanted_product(
        request, load.product or eligible.product(request, node)
    )


@dataclass(frozen=True)
class _Site:
    """One eligible node with the reservations of other pods, and what all kinds of candidates share."""

    request: Request
    place: Place
    here: Sequence[Reservation]
    now: datetime

    @cached_property
    def node(self) -> Node:
        return self.place.node

    @cached_property
    def idle(self) -> bool:
        """New, and empty as far as the reservations say."""
        created = self.node.created
        return not self.here and created is not None and self.now - created <= NEW

    @cached_property
    def replicas(self) -> Sequence[Reservation]:
        """Replicas of the same resource on the node."""
        ours = self.request.deployment
        return [entry for entry in self.here if entry.deployment and entry.deployment == ours]

    @property
    def capacity(self) -> int:
        return self.node.allocatable[self.request.resource]

    @property
    def requested(self) -> int:
        """Devices that the scheduler counts as taken."""
        return self.place.usage.amounts.get(self.request.resource, 0)

    @property
    def yielded(self) -> int:
        """Devices that the scheduler can free by ending pods of a lower priority."""
        asked, resource = self.request.demand, self.request.resource
        lower = (each.demand for each in self.place.usage.tenants if each.demand.priority < asked.priority)
        return sum(dict(each.amounts).get(resource, 0) for each in lower) if asked.preempts else 0

    def taken(self, foreign: int) -> int:
        """Devices that are taken: by reservations and `foreign` pods, or by what all pods request if that is more."""
        ours = sum(entry.count for entry in self.here if entry.resource == self.request.resource)
        return min(self.capacity, max(ours + foreign, self.requested))

    def candidate(
        self,
        devices: Sequence[Load],
        *,
        gpu: Gpu | None = None,
        fits: bool,
        price: Price | None = None,
        barred: bool = False,
        small: bool = False,
        free_text: Callable[[], str],
        rank: float,
        share: float,
        allocated: float = 0.0,
        unattributed: bool = False,
        tenants: int,
    ) -> Candidate:
        """Build the candidate whose load is that of `devices`, on average; only with data of all is it known."""
        ages = [load.age for load in devices if load.age is not None]
        known, alone = 0 < len(ages) == len(devices), len(devices) == 1
        return Candidate(
            node=self.node.name,
            gpu=gpu,
            fits=fits,
            barred=barred,
            small=small,
            free_text=free_text,
            rank=rank,
            share=share,
            allocated=allocated,
            age=max(ages) if known else None,
            source=_sources(devices) if known else "",
            price=self.place.price if price is None else price,
            refused=self.request.refused.get(self.node.name, 0),
            uncertain=not known and not self.idle,
            unattributed=unattributed,
            siblings=siblings(gpu, self.replicas),
            live=devices[0].live_share if alone else _mean([load.live_share for load in devices]),
            busy=devices[0].busy if alone else _mean([load.busy for load in devices]),
            tenants=tenants,
        )

    def devices_candidate(
        self,
        devices: Sequence[Load],
        *,
        taken: int,
        large_enough: bool,
        small: bool,
        share: float,
        free_bytes: int | None,
    ) -> Candidate:
        """Build the candidate for a number of the node's devices, which the device plugin picks."""
        left = self.capacity - taken
        free = left >= self.request.count
        dear = not free and left + self.yielded >= self.request.count
        fits = (free or dear) and large_enough
        return self.candidate(
            devices,
            fits=fits,
            price=Price.PODS if dear else self.place.price,
            barred=not large_enough or (not free and self.capacity - self.requested >= self.request.count),
            small=small,
            free_text=partial(messages.devices_free, taken, self.capacity, free_bytes, free),
            rank=self.capacity - taken,
            share=share,
            allocated=taken / self.capacity,
            tenants=len({entry.uid for entry in self.here}),
        )


def siblings(gpu: Gpu | None, replicas: Sequence[Reservation]) -> tuple[int, int]:
    """Count the replicas of the same resource on the GPU, and on its node, out of those on the node."""
    if not replicas:
        return 0, 0
    return sum(gpu is not None and gpu.uuid in each.uuids for each in replicas), len(replicas)


def _gpu(site: _Site, load: Load, unattributed: bool) -> Candidate:
    request = site.request
    taken = load.taken or (request.sharing == "claim" and load.tenants > 0)
    left = load.left(on_demand=request.on_demand)
    fits = not taken and load.fits(request.memory_bytes, on_demand=request.on_demand)
    claimed = any(entry.resource == CLAIMED and load.uuid in entry.uuids for entry in site.here)
    return site.candidate(
        (load,),
        gpu=Gpu(uuid=load.uuid, product=load.product),
        fits=fits,
        barred=request.sharing == "claim" and not fits and not claimed,
        small=load.total is not None and load.total < request.memory_bytes,
        free_text=partial(messages.gpu_free, load, left, taken),
        rank=0 if taken else left,
        share=load.share(request.memory_bytes),
        unattributed=unattributed,
        tenants=load.tenants,
    )


def _whole(site: _Site, devices: Sequence[Load]) -> Candidate:
    """The device plugin picks among the node's free devices; which ones these are is known only in part.

    As many GPUs as devices are free, the least loaded first, represent them, and their mean is the node's load.
    """
    need, label = site.request.memory_bytes, hardware.gpu_bytes(site.node, site.request.resource)
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
        small=_small(devices, label, need),
        share=share,
        free_bytes=max((load.free_memory for load in spare), default=label),
    )


def _small(devices: Iterable[Load], label: int | None, need: int) -> bool:
    """Return whether no GPU of the node has so many bytes, taken or not; `label`: what the node says of each."""
    largest = max((load.total for load in devices if load.total is not None), default=label)
    return largest is not None and largest < need


def _foreign_devices(site: _Site, devices: Sequence[Load]) -> int:
    """GPUs that are taken, though by no pod with a reservation."""
    own = {uuid for entry in site.here if entry.count for uuid in entry.uuids}
    return sum(load.taken and load.uuid not in own for load in devices)


def _replica(site: _Site, devices: Sequence[Load]) -> Candidate:
    """The device plugin gives each GPU to several pods (time slicing, MPS): replicas limit how many pods there are,
    memory whether they fit together.
    """
    need, label = site.request.memory_bytes, hardware.gpu_bytes(site.node, site.request.resource)
    small = _small(devices, label, need)
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
        small=small,
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
    if profile := hardware.wanted_profile(request.resource):
        return hardware.instances(profile, loads)
    amd = request.resource.startswith(hardware.AMD)
    ours = [load for load in loads if is_amd(load.uuid) is amd]
    return [load for load in ours if not load.mig] or ours


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _sources(devices: Sequence[Load]) -> str:
    return ",".join(sorted({load.source for load in devices})) if len(devices) > 1 else devices[0].source
