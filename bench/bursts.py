"""Which treatment of bursts loses least, in simulated time: the trace of `awake`, longer, with many seeds.

Pages that wait in one pod when others join stay there. Three ways out are compared: to have others join earlier, to
take crowded pods out of the Service until they have caught up, and to hand waiting pages over. What `all` takes without
any of this, since its pods are awake anyway, is the measure.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from bench import report
from bench.replicas import HANDS_OVER, Replicas, Variant
from bench.simulated import Clock, Costs, Pod, effective
from ocr_inference.config.settings import Idle
from ocr_operator.resources.spec import Routing

PODS: Final = 4
COSTS: Final = Costs(load=5.0, restore=0.4, offload=0.1, page=0.15)
"""Of the fake engine in `awake`."""
BURST, SPREAD, PERIOD = 20, 0.5, 10.0
"""Requests of a burst, the seconds within which they come, and the seconds from one burst to the next."""
OFFLOAD_AFTER, STABILIZATION = 15, 8
LENGTHS: Final = {3: 30, 20: 5}
"""Bursts of a trace → seeds. Three are the trace of `awake`; twenty show what stays when the first one is forgotten."""
BARS: Final = (4, 6, 8)
"""Values of `routing.maxQueuePerPod`."""
VARIANTS: Final = (
    Variant("what waits stays where it is"),
    Variant("all join at the second waiting page", joins_early=True),
    Variant("crowded pods leave the Service", rests=True),
    HANDS_OVER,
)
MOST_P99, MOST_RESIDENCY, TARGET_BAR = 1.15, 0.7, 8


@dataclass
class Outcome:
    """What came of some traces."""

    latencies: list[float] = field(default_factory=list)
    held: float = 0.0
    """Pod-seconds on GPUs."""

    @property
    def p99(self) -> float:
        return report.percentile(self.latencies, 0.99)


def bursts(count: int, seed: int) -> list[float]:
    """Return when requests come, in seconds from the start."""
    rng = random.Random(seed)
    return sorted(PERIOD * burst + SPREAD * rng.random() for burst in range(count) for _ in range(BURST))


def replay(
    arrivals: Sequence[float],
    seconds: float,
    routing: Routing,
    seed: int,
    variant: Variant = HANDS_OVER,
    *,
    costs: Costs = COSTS,
) -> Outcome:
    """Send requests to pods whose models are all in host memory at the beginning."""
    clock, begun = Clock(), dict[int, float]()
    outcome = Outcome()

    def answered(_: Pod, ticket: int) -> None:
        outcome.latencies.append(clock.now - begun[ticket])

    replicas = Replicas(clock, routing, random.Random(seed), variant=variant)
    settings = effective(Idle(OFFLOAD_AFTER, -1, -1, 0), max_pages=1)
    names = [f"pod-{number}" for number in range(PODS)]
    pods = [Pod(clock, name, costs, settings, answered=answered, changed=replicas.changed) for name in names]
    for pod in pods:
        pod.wake()
    clock.run(until=costs.load + OFFLOAD_AFTER + 1)
    replicas.start(pods)
    start = clock.now
    before = sum(pod.settle() for pod in pods)

    def arrive(ticket: int) -> None:
        begun[ticket] = clock.now
        replicas.request(ticket)

    for ticket, at in enumerate(arrivals):
        clock.at(start + at, partial(arrive, ticket))
    clock.run(until=start + seconds)
    outcome.held = sum(pod.settle() for pod in pods) - before
    clock.run(until=start + seconds + 60)
    assert len(outcome.latencies) == len(arrivals), "each request is answered once"
    return outcome


def compared(count: int, policy: str, bar: int, variant: Variant) -> Outcome:
    """Replay the traces of all seeds, one after the other."""
    routing = Routing(
        policy="all" if policy == "all" else "warmFirst",
        max_queue_per_pod=bar,
        stabilization_seconds=STABILIZATION,
    )
    total = Outcome()
    for seed in range(LENGTHS[count]):
        one = replay(bursts(count, seed), count * PERIOD, routing, seed, variant)
        total.latencies += one.latencies
        total.held += one.held
    return total


def rows() -> list[report.Row]:
    found: list[report.Row] = []
    for count, seeds in LENGTHS.items():
        base = compared(count, "all", BARS[0], VARIANTS[0])
        found.append(report.plain(f"{count} bursts, {seeds} seeds, all: p99", base.p99, "s"))
        for variant in VARIANTS:
            for bar in BARS:
                one = compared(count, "warmFirst", bar, variant)
                what = f"{count} bursts, maxQueuePerPod {bar}, {variant.name}"
                p99, residency = one.p99 / base.p99, one.held / base.held
                if (count, bar, variant) == (3, TARGET_BAR, HANDS_OVER):
                    found.append(report.at_most(f"{what}: p99 ÷ all", p99, "×", MOST_P99))
                    found.append(report.at_most(f"{what}: residency ÷ all", residency, "×", MOST_RESIDENCY))
                else:
                    found.append(report.plain(f"{what}: p99 ÷ all", p99, "×"))
                    found.append(report.plain(f"{what}: residency ÷ all", residency, "×"))
    return found


async def measure() -> report.Result:
    method = (
        f"Simulated time: {PODS} pods run by the server's scheduler, labelled and named as helpers by the operator's"
        f" routing decision; one page takes {COSTS.page:g} s, a restore {COSTS.restore:g} s. {BURST} requests within"
        f" {SPREAD:g} s, every {PERIOD:g} s, each to a random pod of the Service; all models begin in host memory."
        f" offloadAfterSeconds {OFFLOAD_AFTER}, stabilizationSeconds {STABILIZATION}, maxPages 1. A look of the"
        " operator is 20 ms behind, a label 50 ms; a page that is handed over takes 5 ms each way. p99 is of all"
        " requests of all seeds together. The machine's clock has no part in it: the same code gives the same figures"
        " everywhere."
    )
    return report.Result("bursts", method, await asyncio.to_thread(rows))
