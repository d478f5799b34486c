"""What a decision costs while thousands of requests wait for a model that is being loaded; no process, no clock."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import Final

from bench import report
from ocr_inference.config.settings import Batching, Effective, Idle, ModelPolicy, Queue
from ocr_inference.scheduling import scheduler
from ocr_inference.scheduling.commands import Acquire, Cancel, Command, MemoryProbed, Tick
from ocr_inference.scheduling.state import Model, SchedulerState

WAITERS: Final = 4000
ROUNDS: Final = 7
JOIN_SECONDS: Final = 0.3


def joined(waiters: int) -> tuple[float, float]:
    """Processor seconds in which so many join, and in which all of them leave again, the last one first."""
    policy = ModelPolicy(Idle(0, 0, 0), 0, preload=False)
    effective = Effective(Batching(2, 0), Queue(2 * waiters, 2 * waiters, 600.0), "info", {"a": policy})
    state = SchedulerState({"a": Model("a", policy, declared_bytes=10)}, effective, None)

    def do(commands: Sequence[Command], state: SchedulerState) -> tuple[SchedulerState, float]:
        began = time.process_time()
        for command in commands:
            state, _ = scheduler.decide(state, command, 1.0)
        return state, time.process_time() - began

    state, _ = do([Tick(), Acquire(0, "a", 600.0), MemoryProbed(0)], state)
    state, joining = do([Acquire(ticket, "a", 600.0) for ticket in range(1, waiters + 1)], state)
    assert len(state.models["a"].waiters) == waiters + 1
    state, leaving = do([Cancel(ticket) for ticket in range(waiters, 0, -1)], state)
    assert len(state.models["a"].waiters) == 1
    return joining, leaving


async def measure() -> report.Result:
    def play() -> dict[int, list[tuple[float, float]]]:
        sizes = (WAITERS // 2, WAITERS, 2 * WAITERS)
        rounds = [(size, joined(size)) for _ in range(ROUNDS) for size in sizes]
        return {size: [cost for each, cost in rounds if each == size] for size in sizes}

    costs = await asyncio.to_thread(play)
    join = {size: [joining for joining, _ in each] for size, each in costs.items()}
    leave = {size: [leaving for _, leaving in each] for size, each in costs.items()}
    median = {size: statistics.median(each) for size, each in join.items()}
    return report.Result(
        name="waiting",
        method=f"{WAITERS:,} requests join the queue of a model that is being loaded, one after the other, and leave it"
        f" again: CPU of scheduler.decide alone, {ROUNDS} rounds, medians.",
        rows=[
            report.at_most(f"{WAITERS:,} join", median[WAITERS], "s", JOIN_SECONDS),
            report.plain(f"{2 * WAITERS:,} join ÷ {WAITERS:,}", median[2 * WAITERS] / median[WAITERS], "×"),
            report.plain(f"{WAITERS:,} ÷ {WAITERS // 2:,}", median[WAITERS] / median[WAITERS // 2], "×"),
            report.plain(f"{WAITERS:,} leave", statistics.median(leave[WAITERS]), "s"),
        ],
        samples={"join_seconds": join[WAITERS], "leave_seconds": leave[WAITERS]},
    )
