"""Decides when something becomes due by time alone: idle timers, preload, and the next time to decide.

All times are seconds on the scheduler's clock; infinity is never.
"""

import math
from dataclasses import replace
from typing import Literal

from ocr_inference.config.settings import Idle
from ocr_inference.scheduling import external_usage, memory_plan, stuck
from ocr_inference.scheduling.state import Model, SchedulerState
from ocr_wire.settings import NEVER
from ocr_wire.states import State

Due = Literal["unload", "offload", "exit"]


def idle_due(model: Model, now: float) -> Due | None:
    """Return what is due for an idle model now; None where no timer has run out."""
    return next((what for what, time in _idle_times(model).items() if time <= now), None)


def standby_ends_at(model: Model) -> float:
    """Return when no process is kept ready any more for the next load or wake of an idle model; infinity for never.

    Such a process is kept from the start of the server on, so that the first load has it, and beside weights in host
    memory. A release ends it, too: a load after it starts from nothing.
    """
    idle = model.policy.idle
    released = model.state is State.UNLOADED and (model.loads > 0 or model.last_failure is not None)
    if model.unusable or released or idle.drop_standby_after_seconds == 0:
        return -math.inf
    return _after(model, idle.drop_standby_after_seconds)


def has_standby(model: Model, now: float) -> bool:
    """Return whether a process is kept ready for the model's next load or wake, or would be if it weren't in use."""
    busy = model.running or model.leases or model.waiting
    return now < standby_ends_at(model) or bool(busy and model.policy.idle.drop_standby_after_seconds != 0)


def keeps_forkserver(model: Model, now: float) -> bool:
    """Return whether the model's worker, which may be a fork, runs or starts, or a process is kept for the next one."""
    return bool(model.worker is not None or model.running or model.waiting) or has_standby(model, now)


def preload_at(model: Model, *, draining: bool) -> float:
    """Return when a model with `preload` is loaded (again) without a request; infinity where it isn't."""
    wanted = model.policy.preload and not model.preload_suppressed and not draining
    if (
        not wanted
        or model.unusable
        or model.state not in memory_plan.OFF_DEVICE
        or model.running
        or model.waiting
        or model.admin_request
    ):
        return math.inf
    return max(model.preload_not_before, model.retry_at + (1.0 if model.failures else 0.0))


def next_time(state: SchedulerState, now: float) -> float | None:
    """Return when to decide again if no command comes before; None where nothing becomes due."""
    patience = state.effective.queue.patience_seconds
    times: list[float] = []
    for model in state.models.values():
        queues = (model.servable, model.later)
        times.extend(queue.next_deadline(now) for queue in queues)
        if (oldest := model.servable.oldest) is not None:
            times.append(oldest.since + patience)
        times.append(stuck.long_lease_at(model))
        times.extend(_idle_times(model).values())
        times.append(standby_ends_at(model))
        times.append(ahead := preload_at(model, draining=state.draining))
        if ahead <= now and state.external_bytes:
            times.append(state.probed_at + external_usage.PRELOAD_PROBE_SECONDS)
        if model.waits_for is not None:
            times.append(state.probed_at + external_usage.PROBE_SECONDS)
            # Of an older waiter it isn't later, and who is refused already has left.
            firsts = [oldest for queue in queues if (oldest := queue.oldest) is not None]
            times.extend(external_usage.patience_ends(model, waiter, patience) for waiter in firsts)
    return min((time for time in times if now < time < math.inf), default=None)


def effective_idle(model: Model) -> Idle:
    """Return a model's idle times without those that its engine can't keep: what isn't offloaded stays ready, and where
    the end of the worker is the end of the weights, they go at whichever of the two times is sooner."""
    idle = model.policy.idle
    if not model.can_offload:
        idle = replace(idle, offload_after_seconds=NEVER)
    if not model.outlives_worker:
        times = (idle.exit_after_seconds, idle.release_after_seconds)
        sooner = min((each for each in times if each != NEVER), default=NEVER)
        idle = replace(idle, exit_after_seconds=NEVER, release_after_seconds=sooner)
    return idle


def _idle_times(model: Model) -> dict[Due, float]:
    """Return when an idle model's timers run out, of those with an effect in its state, the strongest effect first."""
    if model.running or model.leases or model.waiting or model.admin_request:
        return {}
    if model.policy.preload and not model.preload_suppressed:
        return {}
    idle = effective_idle(model)
    release = _after(model, idle.release_after_seconds)
    leave = _after(model, idle.exit_after_seconds)
    if model.state is State.READY:
        offload = min(leave, _after(model, idle.offload_after_seconds)) if model.can_offload else math.inf
        return {"unload": release, "offload": offload}
    if model.state is State.OFFLOADED:
        return {"unload": release, "exit": leave if model.worker is not None else math.inf}
    return {}


def _after(model: Model, seconds: float) -> float:
    return math.inf if seconds == NEVER else model.last_activity + seconds
