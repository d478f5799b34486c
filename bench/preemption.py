"""How long a model waits until another resource's idle one has made way, and what a storm of turns breaks."""

import asyncio
import contextlib
import functools
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench import report, server, turns
from ocr_wire.states import State
from tests.support.realpods import PATIENT, RealStage, apply_on_demand, read, real_stage, states
from tests.support.stage import until

ROUNDS: Final = 40
EVENTS: Final = 10_000
SEED: Final = 20_261_125
NAMES: Final = ("invoices", "receipts")
SETTINGS: Final = {"arbitration_resident_seconds": 0.0, "arbitration_asks_per_minute": 10_000} | PATIENT
QUICK: Final = {"host_bytes": 65_536}


class Watched:
    """A server's model as its stream tells, with the moments of the last lack and of being ready after it."""

    def __init__(self) -> None:
        self.lack: float | None = None
        self.ready: float | None = None
        self.state = ""

    def waited(self) -> float | None:
        """Seconds from the lack to being ready; None while there is nothing to tell."""
        return None if self.lack is None or self.ready is None else self.ready - self.lack

    async def follow(self, url: str) -> None:
        async for model in states(url):
            self.state = model["state"]
            if model["waits_for"] and self.lack is None:
                self.lack = time.monotonic()
            if model["state"] == State.READY and self.lack is not None and self.ready is None:
                self.ready = time.monotonic()


@contextlib.asynccontextmanager
async def watched(stage: RealStage) -> AsyncIterator[list[Watched]]:
    both = [Watched() for _ in NAMES]
    tasks = [
        asyncio.create_task(each.follow(stage.url(name))) for each, name in zip(both, NAMES, strict=True)
    ]
    try:
        yield both
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def rounds(options: Mapping[str, Any] | None, count: int) -> list[float]:
    """Seconds from a server's saying that its model waits to its saying that it is ready, two servers in turn."""
    page = server.PAGE.read_bytes()
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with real_stage(Path(folder), options=options, **SETTINGS) as stage:
            for name in NAMES:
                await apply_on_demand(stage, name, idle={"offloadAfterSeconds": -1, "exitAfterSeconds": -1})
            await until(lambda: all(stage.holds("Ready", name=name) for name in NAMES), within=120)
            for name in NAMES:
                assert (await read(stage.url(name), page))[0] == 200, "loaded from disk once"
            for turn in range(count):
                async with watched(stage) as both:
                    await until(functools.partial(_all_told, both), within=60)
                    status, body = await read(stage.url(NAMES[turn % 2]), page)
                    assert status == 200, body
                    seconds.append(await until(both[turn % 2].waited, within=60))
    return seconds


def _all_told(both: Sequence[Watched]) -> bool:
    return all(each.state for each in both)


async def measure() -> report.Result:
    alone = await rounds(QUICK, ROUNDS)
    whole = await rounds(None, ROUNDS)
    tally = await asyncio.to_thread(turns.storm, EVENTS, SEED)
    rows = (
        report.plain("waits → ready, an engine that takes no time, p50", report.percentile(alone, 0.5), "s"),
        report.at_most(
            "waits → ready, an engine that takes no time, p99", report.percentile(alone, 0.99), "s", 1
        ),
        report.plain("waits → ready, PP-OCR's restore included, p50", report.percentile(whole, 0.5), "s"),
        report.at_most(
            "waits → ready, PP-OCR's restore included, p99", report.percentile(whole, 0.99), "s", 1
        ),
        report.plain("storm: events from outside", tally.events, "events"),
        report.plain("storm: models that made way", tally.asks["offloaded"], "moves"),
        report.at_most("storm: moves under leases", tally.moved_under_lease, "moves", 0),
        report.at_most("storm: leases of models that aren't ready", tally.lease_without_ready, "leases", 0),
        report.at_most("storm: GPUs beyond their memory", tally.over_capacity, "times", 0),
        report.at_most("storm: requests without an answer, or with two", tally.unsound, "requests", 0),
        report.at_most(
            "storm: asks on a GPU within a minute",
            tally.most_asks_in_a_minute,
            "asks",
            turns.RULES.asks_per_minute,
        ),
    )
    method = (
        "Two inference servers, each a process of its own, on one simulated GPU that one model fits on at a time, and"
        " the real operator against an API server in memory, over real HTTP, all on this machine. The two are asked"
        f" for a page in turn, {ROUNDS} times; each time is from the waiter's stream saying waits_for to its saying"
        " ready, so it contains the operator's decision, the other's offload, the waiter's look and its restore. Both"
        " models were loaded from disk before. Then a storm through the pure parts of both sides, simulated:"
        f" {EVENTS} events (requests, cancels, deaths) over {turns.SERVERS} servers of {turns.MODELS} models on"
        f" {turns.GPUS} GPUs, seed {SEED}."
    )
    return report.Result("preemption", method, rows, {"engine_of_no_time": alone, "pp_ocr": whole})
