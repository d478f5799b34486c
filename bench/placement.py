"""Does placement pick the truly least loaded GPU, does it spread, and what does a choice cost? No cluster: the decision
itself, fed through the exporter's text.
"""

import asyncio
import gc
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar, cast

import msgspec

from bench import refusals, report
from ocr_operator.controllers.tenants import Tenants
from ocr_operator.decide import placement
from ocr_operator.decide.placement import NodeIndex, NoFit, Placement, Request, Reservation, predicates
from ocr_operator.gpuload import dcgm, readings
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.kube import api, decoding
from ocr_operator.resources import observed
from ocr_operator.resources.demand import Demand
from ocr_operator.resources.observed import Node
from ocr_operator.resources.tenant import Tenant, TenantReader
from tests.support.observations import raw_pod

T = TypeVar("T")

MIB: Final = 2**20
GIB: Final = 2**30
SIZE: Final = 46068 * MIB
NOISE: Final = SIZE // 100
"""Differences below 1 % of a GPU are cut off by design: a spread over nodes counts more."""
WORLDS: Final = 600
PLACEMENTS: Final = 20
PERIOD_SECONDS: Final = 30
READ_ANEW: Final = 3
"""Nodes with new readings between two choices: exporters are read one by one, each every half minute."""
NODES_AT_ONCE: Final = 32
T0: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Truth:
    """The oracle: real bytes on each GPU, kept apart from anything that the operator knows."""

    def __init__(self, dice: random.Random) -> None:
        self.nodes = [f"node-{n}" for n in range(dice.randint(1, 8))]
        self.home = {f"GPU-{node}-{k}": node for node in self.nodes for k in range(dice.randint(1, 8))}
        self.foreign_pods = {uuid: dice.choice([0, dice.randrange(40 * GIB)]) for uuid in self.home}
        self.promised = dict.fromkeys(self.home, 0)

    def load(self, uuid: str) -> int:
        return self.foreign_pods[uuid] + self.promised[uuid]

    def least(self, need: int) -> int | None:
        """The load of the least loaded GPU with room; None where nothing has room."""
        return min((self.load(uuid) for uuid in self.home if self.load(uuid) + need <= SIZE), default=None)

    def drift(self, dice: random.Random) -> None:
        """Somebody else's process comes or goes."""
        uuid = dice.choice(list(self.home))
        self.foreign_pods[uuid] = dice.choice([0, dice.randrange(max(1, SIZE - self.promised[uuid]))])

    def scrape(self, at: datetime, awake: dict[str, int]) -> list[GpuReading]:
        """What the exporters say: strangers, and of our pods those that hold their models."""
        found: list[GpuReading] = []
        for node in self.nodes:
            lines = []
            for index, uuid in enumerate(each for each, home in self.home.items() if home == node):
                used = (self.foreign_pods[uuid] + awake.get(uuid, 0)) // MIB
                labels = f'{{gpu="{index}",UUID="{uuid}",modelName="NVIDIA L40S",Hostname="{node}"}}'
                lines += [
                    f"DCGM_FI_DEV_FB_USED{labels} {used}",
                    f"DCGM_FI_DEV_FB_FREE{labels} {46068 - used}",
                ]
            found += dcgm.parse("\n".join(lines) + "\n", node, at)
        return found


def _request(n: int, memory: float) -> Request:
    return Request(
        pod=f"default/p{n}",
        uid=f"uid-{n}",
        deployment=f"default/d{n}",
        sharing="shared",
        memory_bytes=int(memory * GIB),
        resource="",
        count=0,
    )


def _play(dice: random.Random, *, stale: bool) -> tuple[int, int, int]:
    """One cluster: right choices, choices, refusals though a GPU had room. With `stale`, strangers move between the
    scrapes, which nobody can know of."""
    truth = Truth(dice)
    nodes = [Node(name=name, ready=True) for name in truth.nodes]
    reservations: list[Reservation] = []
    reported: list[GpuReading] = []
    right = made = wrongly_refused = 0
    for n in range(PLACEMENTS):
        now = T0 + timedelta(seconds=7 * n)
        scraped = n == 0 or 7 * n // PERIOD_SECONDS > 7 * (n - 1) // PERIOD_SECONDS
        if scraped or stale:
            truth.drift(dice)
        if scraped:
            used = {entry.uid: dice.choice([0, entry.memory_bytes]) for entry in reservations}
            reservations = [replace(entry, up=True, used_bytes=used[entry.uid]) for entry in reservations]
            awake: Counter[str] = Counter()
            for entry in reservations:
                awake[entry.uuids[0]] += used[entry.uid]
            reported = truth.scrape(now, awake)
        for each in (nodes, reported, reservations):
            dice.shuffle(each)
        request = _request(n, dice.choice([0.5, 1, 2.5, 7, 12, 20]))
        least = truth.least(request.memory_bytes)
        answer = placement.choose(
            request, nodes, readings.merge(reported, now), reservations, now + timedelta(seconds=1)
        )
        if not isinstance(answer, Placement):
            wrongly_refused += least is not None
            continue
        made += 1
        uuid = answer.gpus[0].uuid
        fits = truth.load(uuid) + request.memory_bytes <= SIZE
        right += fits and least is not None and truth.load(uuid) - least <= NOISE
        truth.promised[uuid] += request.memory_bytes
        reservations.append(answer.reservation(now))
    return right, made, wrongly_refused


def _spread(pods: int, gpus: int) -> int:
    """Max − min of pods on a GPU after `pods` choices at once over equal GPUs."""
    nodes = [Node(name=f"node-{n}", ready=True) for n in range(gpus // 4)]
    reported = [_reading(node.name, f"GPU-{node.name}-{k}") for node in nodes for k in range(4)]
    reservations: list[Reservation] = []
    for n in range(pods):
        answer = placement.choose(
            replace(_request(n, 1), deployment="default/d"), nodes, reported, reservations, T0
        )
        assert isinstance(answer, Placement)
        reservations.append(answer.reservation(T0))
    load = Counter(entry.uuids[0] for entry in reservations)
    counts = [load[each.uuid] for each in reported]
    return max(counts) - min(counts)


def _reading(node: str, uuid: str, used: int = 0, at: datetime = T0) -> GpuReading:
    return GpuReading(
        node=node, uuid=uuid, memory_used_bytes=used, memory_total_bytes=SIZE, utilization=0.0, read_at=at
    )


class Costs(NamedTuple):
    """CPU milliseconds of choices among 1,000 nodes of 8 GPUs with 4,000 pods in the books."""

    kept: list[float]
    """With a pod placed and some nodes read anew since the last one."""
    first: list[float]
    """The first of its kind: no candidate is known."""
    pieces: list[float]
    """That one's pieces, between which the operator does other things."""
    rebuilt: list[float]
    """All of the books made for the choice, as it was before they were kept."""


def _costs(dice: random.Random, choices: int) -> Costs:
    size = {"cpu": 128_000, "memory": 1024 * GIB, "pods": 110, "nvidia.com/gpu": 8}
    nodes = [Node(name=f"node-{n:04}", ready=True, allocatable=size) for n in range(1000)]
    asked = Demand((("cpu", 4000), ("memory", 16 * GIB)))
    usage = predicates.usage([Tenant("", Demand((("cpu", 250), ("memory", GIB))))] * 20)
    reported = {
        node.name: [_reading(node.name, f"GPU-{node.name}-{k}", dice.randrange(20 * GIB)) for k in range(8)]
        for node in nodes
    }
    every = [each for readings in reported.values() for each in readings]
    reservations = [
        replace(_reservation(each), pod=f"default/q{n}", uid=f"q{n}")
        for n, each in enumerate(_some(dice, every, 4000))
    ]
    index = NodeIndex.of(nodes, every, reservations, usage=lambda _: usage)
    costs = Costs([], [], [], [])

    def choose(n: int, gib: float) -> Placement | NoFit:
        return index.choose(replace(_request(n, gib), demand=asked), T0)

    for n in range(choices):
        for name in dice.sample(sorted(reported), READ_ANEW):
            index.set_readings(
                name, [replace(each, memory_used_bytes=dice.randrange(20 * GIB)) for each in reported[name]]
            )
        took, answer = _timed(choose, n, 7)
        assert isinstance(answer, Placement)
        index.reserve(answer.uid, [answer.reservation(T0)])
        if n:
            costs.kept.append(took)
    for n in range(5):
        costs.first.append(_timed(choose, n, 8 + n)[0])
        ready, request = False, replace(_request(n, 20 + n), demand=asked)
        while not ready:
            took, ready = _timed(index.prepare, request, T0, NODES_AT_ONCE)
            costs.pieces.append(took)
        rebuilt = partial(placement.choose, usage=lambda _: usage)
        request = replace(_request(n, 7), demand=asked)
        costs.rebuilt.append(_timed(rebuilt, request, nodes, readings.merge(every, T0), reservations, T0)[0])
    return costs


def _timed(call: Callable[..., T], *args: Any) -> tuple[float, T]:
    began = time.process_time()
    answer = call(*args)
    return (time.process_time() - began) * 1e3, answer


def _some(dice: random.Random, reported: list[GpuReading], count: int) -> Iterable[GpuReading]:
    return (dice.choice(reported) for _ in range(count))


def _reservation(on: GpuReading) -> Reservation:
    return Reservation(
        pod="", uid="", deployment="default/d", node=on.node, uuids=(on.uuid,), memory_bytes=GIB, placed=T0
    )


class _Listing:
    """An API server with many pods, in pages as it sends them."""

    def __init__(self, pods: int) -> None:
        self.bytes = 0
        self._pods = pods

    async def watch(self, kind: api.Kind, **_: str) -> AsyncIterator[api.WatchEvent]:
        items: list[api.Json] = []
        for first in range(0, self._pods, 500):
            text = msgspec.json.encode(
                {"metadata": {}, "items": [_pod(n) for n in range(first, min(first + 500, self._pods))]}
            )
            self.bytes += len(text)
            items += decoding.page(text, shape=kind.shape)[0]
        yield api.Listed(items)
        items = []
        await asyncio.Event().wait()


def _pod(n: int) -> dict[str, Any]:
    """As the API server sends a usual one: 5 KB, of which a node's books keep next to nothing."""
    mount = {"name": "data", "mountPath": "/data", "readOnly": True}
    container = {
        "name": "app",
        "image": f"registry.example/team/app-{n % 50}@sha256:{n:064x}",
        "env": [{"name": f"VARIABLE_{k}", "value": f"value-{n}-{k}"} for k in range(30)],
        "resources": {
            "requests": {"cpu": f"{100 + n % 9 * 50}m", "memory": "512Mi"},
            "limits": {"memory": "1Gi"},
        },
        "volumeMounts": [mount] * 4,
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
    }
    managed = [{"manager": "kubelet", "fieldsV1": {f"f:field-{k}": {} for k in range(60)}}]
    return {
        "metadata": {
            "name": f"app-{n % 200}-7d9c5b8f6-{n:05}",
            "namespace": f"team-{n % 40}",
            "uid": f"8f7a95dc-2eac-5db4-b921-{n:012}",
            "resourceVersion": str(10**8 + n),
            "labels": {f"app.kubernetes.io/label-{k}": f"value-{n % 200}" for k in range(6)},
            "managedFields": managed,
        },
        "spec": {"nodeName": f"node-{n % 300}", "containers": [container, {**container, "name": "proxy"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}] * 5},
    }


async def _kept(pods: int) -> tuple[float, float, float]:
    """Bytes that the books keep of a pod, bytes that it has on the wire, and the peak of listing all, in MiB."""
    server = _Listing(pods)
    tenants = Tenants(cast("Any", server), time=time.monotonic, on_loss=lambda _: None, namespaces=("",))
    gc.collect()
    tracemalloc.start()
    task = asyncio.create_task(tenants.informer.run())
    await tenants.informer.synced.wait()
    gc.collect()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(tenants) == pods
    task.cancel()
    await asyncio.wait([task])
    return kept / pods, server.bytes / pods, peak / MIB


def _read(one: Callable[[dict[str, Any]], object], pods: list[dict[str, Any]]) -> float:
    """CPU milliseconds of reading pods, the median of some tries."""
    return report.median([_timed(lambda: [one(each) for each in pods])[0] for _ in range(15)])


async def measure() -> report.Result:
    dice = random.Random(20261125)
    right, made, refused = (
        sum(column) for column in zip(*(_play(dice, stale=False) for _ in range(WORLDS)), strict=True)
    )
    stale, blind, _ = (
        sum(column) for column in zip(*(_play(dice, stale=True) for _ in range(WORLDS // 4)), strict=True)
    )
    share = 100 * right / made
    spread = max(_spread(100, 100), _spread(250, 100))
    costs = _costs(dice, 200)
    kept, wire, peak = await _kept(10_000)
    ours = [raw_pod(f"p{n}", containers=_pod(n)["spec"]["containers"]) for n in range(500)]
    return report.Result(
        name="placement",
        method=f"{WORLDS} random clusters (1 to 8 nodes of 1 to 8 GPUs), {PLACEMENTS} pods of 0.5 to 20 GiB each, 7 s "
        "apart, shared. An oracle keeps the real bytes of strangers and promises; the decision sees what exporters say "
        f"every {PERIOD_SECONDS} s, in random order, while our own pods sleep and wake. Right: no GPU with room "
        "carries less, by more than 1 % of a GPU. Then the same with strangers that move between two scrapes, which no "
        "data shows. Then 100 and 250 pods at once over 100 equal GPUs. Then the CPU time of a choice among 1,000 "
        "nodes with 8 GPUs each, 4,000 pods with promises and 20,000 others in the books: kept, with a pod placed "
        f"and {READ_ANEW} nodes read anew between two choices; the first choice of a kind of pod, when all is looked "
        f"at, also in pieces of {NODES_AT_ONCE} nodes; and with all books made for the choice. Then the CPU time of "
        f"placement in passes over {refusals.PODS} pods that fit nowhere on {refusals.NODES} nodes of 8 full GPUs. "
        "Then the memory that 10,000 pods of others take in the books (tracemalloc), and the CPU time of reading 500 "
        "of them and of our own.",
        rows=[
            report.Row("placements against the oracle", made, "", "≥ 10000", made >= 10_000),
            report.Row("truly least loaded GPU", round(share, 3), "%", "≥ 99 %", share >= 99),
            report.at_most("refused though a GPU had room", refused, "", 0),
            report.plain("truly least loaded, strangers move unseen", 100 * stale / blind, "%"),
            report.at_most("max - min pods on a GPU, equal GPUs", spread, "", 1),
            report.at_most("CPU time of a choice among 8,000 GPUs, p50", report.median(costs.kept), "ms", 2),
            report.plain(
                "CPU time of a choice among 8,000 GPUs, p99", report.percentile(costs.kept, 0.99), "ms"
            ),
            report.plain("the same, the first of its kind, p50", report.median(costs.first), "ms"),
            report.plain("the longest of its pieces", max(costs.pieces), "ms"),
            report.plain(
                "the same with the books made for the choice, p50", report.median(costs.rebuilt), "ms"
            ),
            report.at_least(
                "books made for the choice against kept ones, CPU time",
                report.median(costs.rebuilt) / report.median(costs.kept),
                "×",
                140,
            ),
            *(
                report.at_most(
                    f"CPU time of a pass with 500 pods of {whose} that fit nowhere among 4,000 GPUs{how}",
                    refusals.cost(resources, apart=apart),
                    "s",
                    0.5,
                )
                for apart, how in ((False, ""), (True, ", with anti-affinity and spread"))
                for resources, whose in ((1, "one resource"), (refusals.PODS, "500 resources"))
            ),
            report.at_most("kept of one of 10,000 pods of others", kept, "B", 1024),
            report.plain("such a pod on the wire", wire, "B"),
            report.plain("peak while 10,000 of them are listed", peak, "MiB"),
            report.plain("CPU time of reading 500 of our pods", _read(observed.pod, ours), "ms"),
            report.plain(
                "CPU time of reading 500 pods of others",
                _read(TenantReader().read, [_pod(n) for n in range(500)]),
                "ms",
            ),
        ],
        samples={"choice_ms": costs.kept, "first_ms": costs.first, "rebuilt_ms": costs.rebuilt},
    )
