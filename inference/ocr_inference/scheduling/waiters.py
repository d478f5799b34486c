"""Requests for a lease: who may queue, and who waits in vain. Pure; refuses nobody itself.

A waiter is refused when its deadline passes, when its model failed to load a moment ago or can never fit, and when
nobody gave back memory that others hold in time (`neighbours`).
"""

from dataclasses import replace

from ocr_inference.scheduling import external_usage, memory_plan, outcomes
from ocr_inference.scheduling.lifecycle import State
from ocr_inference.scheduling.state import Acquire, Model, Reason, Refusal, Waiter, World


def join(world: World, command: Acquire, now: float) -> Model | Refusal:
    """The model with the newcomer among its waiters, or why it isn't even queued."""
    model = world.models.get(command.model)
    if model is None:
        message = f"no model {command.model!r}; there are {', '.join(world.models)}"
        return Refusal(Reason.UNKNOWN_MODEL, message)
    if refusal := _refusal(world, command, model):
        return refusal
    since = now if command.since is None else command.since
    deadline = since + world.effective.queue.deadline_seconds
    if command.deadline is not None:
        deadline = min(deadline, command.deadline)
    waiter = Waiter(command.ticket, since, deadline)
    waiters = sorted((*model.waiters, waiter), key=lambda each: (each.since, each.ticket))
    return replace(model, waiters=tuple(waiters), resting=False)


def overflow(world: World, command: Acquire) -> Refusal | None:
    """Why a newcomer can't stay among the waiters: a closed door has left it in a queue that was full already."""
    model = world.models.get(command.model)
    if model is None or command.since is not None or _queued(world) <= world.effective.queue.limit:
        return None
    return _full(world) if any(each.ticket == command.ticket for each in model.waiters) else None


def in_vain(world: World, model: Model, waiter: Waiter, now: float) -> Refusal | None:
    """Why a waiter of the model waits no longer."""
    patience = world.effective.queue.patience_seconds
    if model.waits_for is not None and external_usage.help_ends(model, waiter, patience) <= now:
        return external_usage.refusal(model, world.others_bytes)
    if waiter.deadline <= now:
        message = f"the deadline passed while waiting for model {model.name} ({model.state})"
        return Refusal(Reason.DEADLINE, message)
    if now < model.retry_at and model.state in (*memory_plan.SLEEPING, State.UNLOADING, State.FAILED):
        return outcomes.load_failed(model, now)
    return _no_fit(world, model)


def _refusal(world: World, command: Acquire, model: Model) -> Refusal | None:
    if world.draining:
        return Refusal(Reason.DRAINING, "the server is shutting down", 1.0)
    if refusal := _no_fit(world, model):
        return refusal
    ready = model.state is State.READY and model.asked is None and not model.waiters
    grantable = ready and len(model.leases) < world.effective.batching.max_pages
    if command.since is None and not grantable and _queued(world) >= world.effective.queue.limit:
        return _full(world)
    return None


def _queued(world: World) -> int:
    return sum(len(model.waiters) for model in world.models.values())


def _full(world: World) -> Refusal:
    limit = world.effective.queue.limit
    return Refusal(Reason.QUEUE_FULL, f"{limit} requests are waiting, which is the limit", 1.0)


def _no_fit(world: World, model: Model) -> Refusal | None:
    budget = world.budget_bytes
    if budget is None or model.need_bytes <= budget:
        return None
    message = f"model {model.name} needs {model.need_bytes} bytes on the device, which has {budget}"
    return Refusal(Reason.NO_FIT, message)
