"""When something becomes due without anything happening before: idle timers, loading ahead, and the next moment to
decide. Pure; all times are seconds on the world's clock, infinity is never.
"""

import math
from typing import Literal

from ocr_inference.config.settings import NEVER
from ocr_inference.scheduling import external_usage, memory_plan
from ocr_inference.scheduling.lifecycle import State
from ocr_inference.scheduling.state import Model, World

Idle = Literal["unload", "offload", "exit"]


def idle_due(model: Model, now: float) -> Idle | None:
    """What an idle model's timers have it do now."""
    return next((what for what, time in _idle_times(model).items() if time <= now), None)


def ahead_at(model: Model, *, draining: bool) -> float:
    """When a model that is to stay loaded is loaded ahead (again); infinity where it isn't."""
    wanted = model.policy.preload and not model.resting and not draining
    if not wanted or model.state not in memory_plan.SLEEPING or model.running or model.waiters or model.asked:
        return math.inf
    return max(model.ahead_from, model.retry_at + (1.0 if model.failures else 0.0))


def next_time(world: World, now: float) -> float | None:
    """When to decide again if nothing happens before; None where nothing will."""
    patience = world.effective.queue.patience_seconds
    times: list[float] = []
    for model in world.models.values():
        times.extend(waiter.deadline for waiter in model.waiters)
        if model.servable:
            times.append(model.servable[0].since + patience)
        times.extend(_idle_times(model).values())
        times.append(ahead := ahead_at(model, draining=world.draining))
        if ahead <= now and world.others_bytes:
            times.append(world.observed_at + external_usage.AHEAD_SECONDS)
        if model.waits_for is not None:
            times.append(world.observed_at + external_usage.LOOK_SECONDS)
            times.extend(external_usage.help_ends(model, waiter, patience) for waiter in model.waiters)
    return min((time for time in times if now < time < math.inf), default=None)


def _idle_times(model: Model) -> dict[Idle, float]:
    """When an idle model's timers run out: of those that mean something in its state, the one that does most first."""
    if model.running or model.leases or model.waiters or model.asked:
        return {}
    if model.policy.preload and not model.resting:
        return {}
    idle = model.policy.idle
    release = _after(model, idle.release_after_seconds)
    leave = _after(model, idle.exit_after_seconds)
    if model.state is State.READY:
        return {"unload": release, "offload": min(leave, _after(model, idle.offload_after_seconds))}
    if model.state is State.OFFLOADED:
        return {"unload": release, "exit": leave if model.worker is not None else math.inf}
    return {}


def _after(model: Model, seconds: float) -> float:
    return math.inf if seconds == NEVER else model.last_activity + seconds
