"""What the operator costs beside 100, 300, 1,000 and 3,000 resources, each size added to the one before.

`BENCH_GROWTH_SIZES` are others, `BENCH_GROWTH_SECONDS` bounds the time; sizes that aren't reached by then are left out.
Writes `results/growth.svg`, too.
"""

import asyncio
import contextlib
import math
import os
import time
from dataclasses import dataclass
from typing import Final

from bench import plots, report, scale
from bench.scale import Fleet
from bench.scaleprocess import OperatorProcess

SIZES: Final = tuple(
    int(each) for each in os.environ.get("BENCH_GROWTH_SIZES", "100,300,1000,3000").split(",")
)
SECONDS: Final = float(os.environ.get("BENCH_GROWTH_SECONDS", "1500"))
REST_SECONDS: Final = 20.0
CHANGES: Final = 3


@dataclass(frozen=True)
class Cost:
    resources: int
    bring_up: float
    """CPU seconds of the operator until all of them show their pods, since none did."""
    start: float
    """CPU seconds of a process that starts beside all of them, until it is at rest."""
    rest: float
    """CPU of it at rest, in percent of a core."""
    policy: float
    """CPU seconds of one change of a policy for all."""
    policy_time: float
    """Seconds until the last pod works by it."""
    memory: float
    """MiB that are resident."""


def _costs(cost: Cost) -> list[report.Row]:
    size = f"{cost.resources} resources"
    return [
        report.plain(f"{size}: CPU of the bring-up", cost.bring_up, "s"),
        report.plain(f"{size}: CPU of a restart", cost.start, "s"),
        report.plain(f"{size}: CPU at rest", cost.rest, "% of a core"),
        report.plain(f"{size}: CPU of a policy's change", cost.policy, "s"),
        report.plain(f"{size}: policy → applied in all", cost.policy_time, "s"),
        report.plain(f"{size}: resident memory", cost.memory, "MiB"),
    ]


async def measure() -> report.Result:
    scale.end_in_order()
    found: list[Cost] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SECONDS), scale.fleet(0, 1, max(50, SIZES[-1] // 8 + 20)) as fresh:
            await grow(fresh, found)
    lines = {
        "CPU of the bring-up": [(each.resources, each.bring_up) for each in found],
        "CPU of a restart": [(each.resources, each.start) for each in found],
        "CPU of a policy": [(each.resources, each.policy) for each in found],
        "time of a policy": [(each.resources, each.policy_time) for each in found],
        "memory": [(each.resources, each.memory) for each in found],
    }
    rows = [row for each in found for row in _costs(each)]
    for name, points in lines.items():
        power = plots.exponent(points)
        if not math.isnan(power):
            rows.append(report.at_most(f"{name} grows with the power", power, "", 1.15))
    if len(found) > 1:
        text = plots.growth("The operator's cost by resources", lines, "resources of one pod")
        (report.RESULTS / "growth.svg").write_text(text, encoding="utf-8")
    rows.append(
        report.Row("sizes that were measured", len(found), "", f"≥ {len(SIZES)}", len(found) == len(SIZES))
    )
    method = (
        "As in `scale`, with one pod for each resource. The fleet grows on one cluster: the resources that are missing"
        " are created while the operator runs, then a process of its own starts beside all of them, rests for"
        f" {REST_SECONDS:g} s, and takes {CHANGES} changes of a policy that selects all. CPU seconds: they depend on"
        " other programs of the machine less than times do. The growth is the least squares of the logarithms: 1 is"
        " linear."
    )
    return report.Result("growth", method, tuple(rows))


async def grow(fresh: Fleet, found: list[Cost]) -> None:
    brought, before = 0.0, 0
    for size in SIZES:
        async with fresh.operator() as process:
            await settled(process)
            began = process.cpu_seconds()
            await fresh.add_resources(range(before, size))
            await fresh.pods.until_ready(size)
            await fresh.statuses.until_shown(size)
            await settled(process)
            brought += process.cpu_seconds() - began
        if not before:
            await scale.add_policy(fresh)
        async with fresh.operator() as process:
            found.append(await beside(fresh, process, size, brought))
        scale.say(str(found[-1]))
        before = size


async def beside(fresh: Fleet, process: OperatorProcess, size: int, brought: float) -> Cost:
    """Measure a process that has started beside the fleet."""
    await settled(process)
    start = process.cpu_seconds()
    await asyncio.sleep(REST_SECONDS)
    rest = 100 * (process.cpu_seconds() - start) / REST_SECONDS
    seconds, began = [], process.cpu_seconds()
    for change in range(CHANGES):
        seconds.append(await fresh.policy_change(1000 + size + change, size))
        await settled(process)
    policy = (process.cpu_seconds() - began) / CHANGES
    return Cost(size, brought, start, rest, policy, report.median(seconds), process.memory()[0])


async def settled(process: OperatorProcess) -> None:
    """Return once the operator has begun, and takes less than a tenth of a core for three seconds."""
    while True:
        began, cpu = time.monotonic(), process.cpu_seconds()
        await asyncio.sleep(3)
        rests = process.cpu_seconds() - cpu < 0.1 * (time.monotonic() - began)
        if rests and process.has_said("works from now on"):
            return
