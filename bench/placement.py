"""Does placement pick the truly least loaded GPU, does it spread, and what does a choice cost? No cluster: the decision
itself, fed through the exporter's text.
"""

import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from bench import report
from ocr_operator.decide import placement
from ocr_operator.decide.placement import Placement, Request, Reservation
from ocr_operator.gpuload import dcgm, readings
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.resources.observed import Node

MIB: Final = 2**20
GIB: Final = 2**30
SIZE: Final = 46068 * MIB
NOISE: Final = SIZE // 100
"""Differences below 1 % of a GPU are cut off by design: a spread over nodes counts more."""
WORLDS: Final = 600
PLACEMENTS: Final = 20
PERIOD_SECONDS: Final = 30
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


def _times(dice: random.Random, choices: int) -> list[float]:
    """CPU milliseconds of choices among 1,000 nodes of 8 GPUs with 4,000 pods in the books, merging included."""
    nodes = [Node(name=f"node-{n:04}", ready=True) for n in range(1000)]
    reported = [
        _reading(node.name, f"GPU-{node.name}-{k}", dice.randrange(20 * GIB))
        for node in nodes
        for k in range(8)
    ]
    reservations = [
        replace(_reservation(each), pod=f"default/q{n}", uid=f"q{n}")
        for n, each in enumerate(_some(dice, reported, 4000))
    ]
    taken = []
    for n in range(choices):
        began = time.process_time()
        answer = placement.choose(_request(n, 7), nodes, readings.merge(reported, T0), reservations, T0)
        taken.append((time.process_time() - began) * 1e3)
        assert isinstance(answer, Placement)
        reservations.append(answer.reservation(T0))
    return taken


def _some(dice: random.Random, reported: list[GpuReading], count: int) -> Iterable[GpuReading]:
    return (dice.choice(reported) for _ in range(count))


def _reservation(on: GpuReading) -> Reservation:
    return Reservation(
        pod="", uid="", deployment="default/d", node=on.node, uuids=(on.uuid,), memory_bytes=GIB, placed=T0
    )


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
    times = _times(dice, 30)
    return report.Result(
        name="placement",
        method=f"{WORLDS} random clusters (1 to 8 nodes of 1 to 8 GPUs), {PLACEMENTS} pods of 0.5 to 20 GiB each, 7 s "
        "apart, shared. An oracle keeps the real bytes of strangers and promises; the decision sees what exporters say "
        f"every {PERIOD_SECONDS} s, in random order, while our own pods sleep and wake. Right: no GPU with room "
        "carries less, by more than 1 % of a GPU. Then the same with strangers that move between two scrapes, which no "
        "data shows. Then 100 and 250 pods at once over 100 equal GPUs. Then the CPU time of a choice among 1,000 "
        "nodes with 8 GPUs each and 4,000 pods in the books.",
        rows=[
            report.Row("placements against the oracle", made, "", "≥ 10000", made >= 10_000),
            report.Row("truly least loaded GPU", round(share, 3), "%", "≥ 99 %", share >= 99),
            report.at_most("refused though a GPU had room", refused, "", 0),
            report.plain("truly least loaded, strangers move unseen", 100 * stale / blind, "%"),
            report.at_most("max - min pods on a GPU, equal GPUs", spread, "", 1),
            report.plain("CPU time of a choice among 8,000 GPUs, p50", report.median(times), "ms"),
            report.plain("CPU time of a choice among 8,000 GPUs, p99", report.percentile(times, 0.99), "ms"),
        ],
        samples={"choice_ms": times},
    )
