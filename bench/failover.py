"""How long no pod is placed when the replica of the operator that works is killed, and when it hands over."""

import asyncio
import os
import signal
import time
from typing import Final

from bench import report, scale, scaleprocess
from bench.scale import Fleet
from bench.scaleprocess import OperatorProcess

KILLS: Final = int(os.environ.get("BENCH_FAILOVER_KILLS", "5"))
HANDOVERS: Final = int(os.environ.get("BENCH_FAILOVER_HANDOVERS", "10"))
NODES: Final = 4
STANDS_BY: Final = "stands by"
SECONDS: Final = 900.0
PATIENCE_SECONDS: Final = 90.0


async def measure() -> report.Result:
    scale.end_in_order()
    async with asyncio.timeout(SECONDS), scale.fleet(1, 1, NODES) as fresh:
        killed, handed = await turns(fresh)
    rows = (
        report.plain("SIGKILL of the replica that works → next placement, p50", report.median(killed), "s"),
        report.at_most(f"SIGKILL → next placement, the longest of {KILLS}", max(killed), "s", 20),
        report.plain("SIGTERM of the replica that works → next placement, p50", report.median(handed), "s"),
        report.at_most(f"SIGTERM → next placement, the longest of {HANDOVERS}", max(handed), "s", 2),
    )
    method = (
        "Real control plane and two processes of the operator with one Lease, one of which stands by. A resource gets"
        " one replica more at the moment in which the replica that works gets the signal; each time is from the signal"
        " until the new pod is bound to a node and its played kubelet says that it is ready. Controllers and scheduler"
        " make and bind the pod within that time. The one that ended is started again, and stands by, before the next"
        " turn."
    )
    return report.Result("failover", method, rows, {"killed_seconds": killed, "handed_seconds": handed})


async def turns(fresh: Fleet) -> tuple[list[float], list[float]]:
    found: dict[signal.Signals, list[float]] = {signal.SIGKILL: [], signal.SIGTERM: []}
    leader = await scaleprocess.start(fresh.cluster, fresh.folder)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await fresh.pods.until_ready(1)
    other = await standing_by(fresh)
    for number in [signal.SIGKILL] * KILLS + [signal.SIGTERM] * HANDOVERS:
        found[number].append(await turn(fresh, leader, number))
        scale.say(f"{number.name} → placed in {found[number][-1]:.2f} s")
        leader, other = other, await standing_by(fresh)
    for each in (other, leader):
        await each.end()
    return found[signal.SIGKILL], found[signal.SIGTERM]


async def standing_by(fresh: Fleet) -> OperatorProcess:
    """Start a replica, and return it once it stands by."""
    process = await scaleprocess.start(fresh.cluster, fresh.folder)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not process.has_said(STANDS_BY):  # noqa: ASYNC110 -- a file
            await asyncio.sleep(0.1)
    return process


async def turn(fresh: Fleet, leader: OperatorProcess, number: signal.Signals) -> float:
    """End the replica that works; returns the seconds until the next pod is placed, bound and ready."""
    one = scale.key(0)
    before = len(fresh.pods.of(one))
    ended = asyncio.create_task(leader.end(number))
    await asyncio.sleep(0)  # the signal is sent
    began = time.monotonic()
    await fresh.api.merge(scale.path(*one), {"spec": {"replicas": before + 1}})
    async with asyncio.timeout(PATIENCE_SECONDS):
        await fresh.pods.until_of(one, before + 1)
    seconds = time.monotonic() - began
    await ended
    return seconds
