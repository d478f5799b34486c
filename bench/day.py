"""A day of several services on few GPUs, in simulated time: what models hold of GPUs, and which requests wait for them.

Each service has a pod with one model, and a GPU has room for one model. The pods are run by the server's own scheduler
(`simulated`), and idle models make way by the operator's own decision (`ocr_operator.decide.preemption`). What a step
takes was measured: `COSTS` names the file and the row.
"""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from bench import plots, report
from bench.makingway import MakingWay
from bench.simulated import Clock, Costs, Gpu, Pod, effective
from ocr_inference.config.settings import Idle
from ocr_wire.settings import NEVER

SERVICES, GPUS = 6, 3
DAY: Final = 24 * 3600.0
SEED: Final = 20_261_129
BUSIEST: Final = 30.0
"""Bursts an hour of the busiest service at the busiest hour; the second one has a half of it, the third a third."""
HOURS: Final = (0.05,) * 7 + (0.3, 0.8, 1, 1, 0.9, 0.5, 0.8, 1, 1, 0.9, 0.7, 0.4, 0.2) + (0.1,) * 4
"""Share of it, by the hour."""
MEAN_BURST, SPREAD = 6, 4.0
"""Pages of a burst, and the seconds within which they come."""
WEIGHTS_BYTES: Final = 6_670_000_000
"""DeepSeek-OCR's in bfloat16."""
LATE: Final = (1.0, 10.0)
"""Seconds by which a request is later than where no model ever sleeps."""
WARM_UP: Final = 60.0
"""Seconds before the day, in which models that never sleep are loaded."""


@dataclass(frozen=True)
class Source:
    """A measured figure: a row of a result."""

    file: str
    row: str

    def value(self) -> float:
        """Return the figure; raises `LookupError` where the result has no such row."""
        rows = json.loads((report.RESULTS / f"{self.file}.json").read_text())["rows"]
        found = next((each["value"] for each in rows if each["what"] == self.row), None)
        if found is None:
            raise LookupError(f"{self.file}.json has no row {self.row!r}")
        return float(found)


SOURCES: Final = {
    "page": Source("wake", "pp-ocr: a page by a ready model, median"),
    "load": Source("weights", "first load from the page cache"),
    "restore": Source("weights", "simulated: restore"),
    "offload": Source("weights", "simulated: offload, p50"),
    "wake of an offloaded model": Source("wake", "pp-ocr: of it the wake: offloaded, median"),
    "wake of an exited one": Source("wake", "pp-ocr: of it the wake: exited, median"),
    "start": Source("firstpage", "… make serve, until it is ready"),
}


@dataclass(frozen=True)
class Measured:
    """What the steps take, in seconds."""

    costs: Costs
    start: float
    """Until a new pod's server is ready, without scheduling and without its image being pulled."""


def measured() -> Measured:
    """Read the figures of `SOURCES`."""
    of = {name: source.value() for name, source in SOURCES.items()}
    gigabytes = WEIGHTS_BYTES / 1e9
    costs = Costs(
        load=gigabytes / of["load"],
        restore=gigabytes / of["restore"],
        offload=of["offload"] / 1000,
        page=of["page"] / 1000,
        starts_worker=max(0.0, of["wake of an exited one"] - of["wake of an offloaded model"]) / 1000,
        gpu_bytes=WEIGHTS_BYTES,
    )
    return Measured(costs, of["start"])


@dataclass(frozen=True)
class Strategy:
    """A way to keep models, or not to."""

    name: str
    idle: Idle
    costs: Costs
    own_gpus: bool = False
    """Each service has a GPU for itself."""
    pooled: bool = False
    """A pod takes whichever GPU is free when it starts; else it keeps to one, with others."""
    makes_way: bool = False
    """Idle models make way for those that are waited for."""


def strategies(of: Measured) -> list[Strategy]:
    never, costs = NEVER, of.costs
    cold = Costs(load=of.start + costs.load, restore=0, offload=0, page=costs.page, gpu_bytes=costs.gpu_bytes)
    found = [Strategy("always on", Idle(never, never, never, never), costs, own_gpus=True)]
    found += [
        Strategy(f"to zero after {seconds} s, cold start", Idle(never, never, seconds, 0), cold, pooled=True)
        for seconds in (60, 300)
    ]
    found += [
        Strategy(f"vLLM sleep after {seconds} s", Idle(seconds, never, never, never), costs)
        for seconds in (60, 300)
    ]
    found += [
        Strategy(
            f"ours, offloadAfterSeconds {seconds}",
            # The defaults are 60, 300 and 1800.
            Idle(seconds, seconds + 240, seconds + 1740, never),
            costs,
            makes_way=True,
        )
        for seconds in (0, 15, 60, 300, 900)
    ]
    return found


@dataclass
class Played:
    """What came of a day."""

    latencies: dict[int, float] = field(default_factory=dict)
    """By request."""
    held_seconds: float = 0.0
    """Time for which a model held a GPU, all together."""
    moves: int = 0
    """Models that made way."""


def arrivals(seed: int = SEED) -> list[tuple[float, int]]:
    """Return when requests come, in seconds of the day, and to which service."""
    rng = random.Random(seed)
    found: list[tuple[float, int]] = []
    for service in range(SERVICES):
        at = 0.0
        while True:
            at += rng.expovariate(BUSIEST / (service + 1) / 3600)
            if at >= DAY:
                break
            if rng.random() < HOURS[int(at // 3600)]:
                pages = min(40, 1 + int(rng.expovariate(1 / (MEAN_BURST - 1))))
                found += [(at + SPREAD * rng.random(), service) for _ in range(pages)]
    return sorted(found)


def play(strategy: Strategy, trace: Sequence[tuple[float, int]]) -> Played:
    """Play the day by one strategy; each request is answered."""
    clock, played, begun = Clock(), Played(), dict[int, float]()

    def answered(_: Pod, ticket: int) -> None:
        played.latencies[ticket] = clock.now - begun[ticket]

    making_way = MakingWay(clock)
    count = 1 if strategy.pooled else SERVICES if strategy.own_gpus else GPUS
    each_bytes = WEIGHTS_BYTES * (GPUS if strategy.pooled else 1)
    gpus = [Gpu(each_bytes, f"GPU-{number}") for number in range(count)]
    settings = effective(strategy.idle, max_pages=1)
    pods = [
        Pod(
            clock,
            f"service-{number}",
            strategy.costs,
            settings,
            answered=answered,
            changed=making_way.changed if strategy.makes_way else lambda _: None,
            gpu=gpus[number % count],
        )
        for number in range(SERVICES)
    ]
    making_way.pods = pods
    for pod in pods if strategy.own_gpus else ():
        pod.wake()

    def arrive(ticket: int, pod: Pod) -> None:
        begun[ticket] = clock.now
        pod.request(ticket)

    for ticket, (at, service) in enumerate(trace):
        clock.at(WARM_UP + at, partial(arrive, ticket, pods[service]))
    clock.run(until=WARM_UP)
    before = sum(pod.settle() for pod in pods)
    clock.run(until=WARM_UP + DAY)
    played.held_seconds = sum(pod.settle() for pod in pods) - before
    clock.run(until=WARM_UP + DAY + 3600)
    played.moves = making_way.moves
    assert len(played.latencies) == len(trace), "each request is answered once"
    return played


def late(played: Played, base: Played, seconds: float) -> float:
    """Return the share of requests that come later than where no model sleeps, by so many seconds."""
    count = sum(base.latencies[ticket] + seconds < each for ticket, each in played.latencies.items())
    return count / len(played.latencies)


def later(played: Played, base: Played) -> float:
    """Return by how many seconds a request comes later than where no model sleeps, in the mean."""
    return sum(each - base.latencies[ticket] for ticket, each in played.latencies.items()) / len(
        played.latencies
    )


def rows(days: Mapping[str, Played]) -> list[report.Row]:
    """Make the table, a few rows for each strategy; the first one is the base."""
    base = next(iter(days.values()))
    found = [report.plain("requests of the day", len(base.latencies), "")]
    for name, played in days.items():
        found.append(report.plain(f"{name}: GPU-hours held", played.held_seconds / 3600, "h"))
        found.append(report.plain(f"{name}: later, in the mean", later(played, base), "s"))
        found += [
            report.plain(f"{name}: later by more than {seconds:g} s", 100 * late(played, base, seconds), "%")
            for seconds in LATE
        ]
        latencies = list(played.latencies.values())
        found.append(report.plain(f"{name}: latency p50", report.percentile(latencies, 0.5), "s"))
        found.append(report.plain(f"{name}: latency p99", report.percentile(latencies, 0.99), "s"))
        if played.moves:
            found.append(report.plain(f"{name}: models that made way", played.moves, "times"))
    return found


def plot(days: Mapping[str, Played]) -> str:
    """Draw what a strategy costs over what it saves."""
    base = next(iter(days.values()))
    points = {name: (played.held_seconds / 3600, later(played, base)) for name, played in days.items()}
    title = f"A day: {len(base.latencies):,} pages for {SERVICES} services on {GPUS} GPUs"
    return plots.scatter(
        title, points, ("GPU-hours held", "seconds by which a page is later than always on, in the mean")
    )


def days(seed: int = SEED) -> dict[str, Played]:
    trace = arrivals(seed)
    return {each.name: play(each, trace) for each in strategies(measured())}


async def measure() -> report.Result:
    played = await asyncio.to_thread(days)
    report.RESULTS.mkdir(exist_ok=True)
    (report.RESULTS / "day.svg").write_text(plot(played), encoding="utf-8")
    of = measured()
    sources = "; ".join(f"{name}: {each.row!r} of {each.file}.json" for name, each in SOURCES.items())
    method = (
        f"Simulated time, seed {SEED}: {SERVICES} services with a pod each on {GPUS} GPUs that have room for one model"
        f" (always on: a GPU each), bursts of {MEAN_BURST} pages in the mean within {SPREAD:g} s, by the hour of an"
        f" office's day, the busiest service {BUSIEST:g} bursts an hour. Pods are run by the server's scheduler, models"
        " make way by the operator's decision; no process and no clock of the machine has a part in it. Costs: weights"
        f" of {WEIGHTS_BYTES / 1e9:g} GB, so a load takes {of.costs.load:.1f} s, a restore {of.costs.restore:.1f} s"
        f" (both measured on a CPU; a GPU restores sooner), a page {of.costs.page:.2f} s. Where they come from:"
        f" {sources}. Assumed, in favour of others: a pod of a cold start is scheduled and has its image at once and"
        " takes any GPU that is free; vLLM asleep holds nothing of the GPU, wakes as fast as ours, and something puts"
        " it to sleep by a timer, which it hasn't itself. Clients wait as long as it takes. Later means later than"
        " always on. exitAfterSeconds and releaseAfterSeconds of ours are 240 and 1740 s more than"
        " offloadAfterSeconds."
    )
    return report.Result("day", method, rows(played))
