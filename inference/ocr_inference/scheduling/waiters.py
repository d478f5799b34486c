"""Decides which requests may queue for a lease, and which waiters are refused.

A request for a model whose engine isn't installed is never queued. A waiter is refused when its deadline passes, when
its model failed to load a moment ago or can never fit, and when other processes didn't free memory in time
(`external_usage`), or while its worker doesn't end (`stuck`).
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ocr_inference.scheduling import external_usage, memory_ladder, memory_plan, outcomes, stuck
from ocr_inference.scheduling.commands import Acquire
from ocr_inference.scheduling.state import Model, Reason, Refusal, SchedulerState
from ocr_inference.scheduling.waiter_queue import Waiter
from ocr_wire.states import State


def join(state: SchedulerState, command: Acquire, now: float) -> Model | Refusal:
    """Return the model with the new request among its waiters, or why the request isn't queued."""
    model = state.models.get(command.model)
    if model is None:
        message = f"no model {command.model!r}; there are {', '.join(state.models)}"
        return Refusal(Reason.UNKNOWN_MODEL, message)
    if refused := _refused_at_once(state, command, model):
        return refused
    since = now if command.since is None else command.since
    waiter = Waiter(command.ticket, since, command.deadline, command.alone, command.movable)
    joined = model.joined(waiter)
    return replace(joined, preload_suppressed=False) if joined.preload_suppressed else joined


def overflow(state: SchedulerState, command: Acquire) -> Refusal | None:
    """Return why a new request can't stay in the queue: its model's door is closed, and the queue was full already."""
    model = state.models.get(command.model)
    if model is None or command.since is not None or _queued(state) <= state.effective.queue.limit:
        return None
    return None if find(model, command.ticket) is None else _queue_full(state)


def find(model: Model, ticket: int) -> Waiter | None:
    """Return the model's waiter with this ticket."""
    return model.servable.get(ticket) or model.later.get(ticket)


def next_ones(model: Model, max_leases: int) -> tuple[Waiter, ...]:
    """Return the waiters of a ready model that get leases now, oldest first. One that has to be alone waits until no
    lease is left, and younger ones wait for its end: else it might wait for ever."""
    if model.alone and model.leases:
        return ()
    found = tuple(itertools.islice(model.servable, max(0, max_leases - len(model.leases))))
    if found and found[0].alone:
        return () if model.leases else found[:1]
    return tuple(itertools.takewhile(lambda each: not each.alone, found))


def refused(state: SchedulerState, model: Model, now: float) -> Iterator[tuple[Waiter, Refusal]]:
    """Yield the waiters of the model that are refused now, oldest first, each with the reason."""
    for waiter in _candidates(state, model, now):
        if refused := refusal(state, model, waiter, now):
            yield waiter, refused


def _candidates(state: SchedulerState, model: Model, now: float) -> Iterable[Waiter]:
    """Return all that may have to be refused, without a look at the others."""
    if not model.waiting:
        return ()
    if stuck.since(model) is not None or _load_failed(model, now) or _no_fit(state, model):
        return model.waiters
    queues = (model.servable, model.later)
    found = {waiter.ticket: waiter for queue in queues for waiter in queue.late(now)}
    if model.waits_for is not None:
        patience = state.effective.queue.patience_seconds
        for queue in queues:
            for waiter in queue:
                if external_usage.patience_ends(model, waiter, patience) > now:
                    break
                found[waiter.ticket] = waiter
    return sorted(found.values(), key=lambda each: (each.since, each.ticket))


def refusal(state: SchedulerState, model: Model, waiter: Waiter, now: float) -> Refusal | None:
    """Return why a waiter of the model is refused now; None where it waits on."""
    patience = state.effective.queue.patience_seconds
    if model.waits_for is not None and external_usage.refused_at(model, waiter, patience) <= now:
        return external_usage.refusal(model, state.external_bytes)
    if waiter.deadline <= now:
        message = f"the deadline passed while waiting for model {model.name} ({model.state})"
        return Refusal(Reason.DEADLINE, message)
    if stuck.since(model) is not None:
        return stuck.refusal(model)
    if _load_failed(model, now):
        return outcomes.load_failed(model, now)
    return _no_fit(state, model)


def _load_failed(model: Model, now: float) -> bool:
    """Whether the model failed to load a moment ago."""
    off = model.state in (*memory_plan.OFF_DEVICE, State.UNLOADING, State.FAILED)
    return off and now < model.retry_at


def full(state: SchedulerState) -> Refusal | None:
    """Return why no more requests may queue; None where they may."""
    return _queue_full(state) if _queued(state) >= state.effective.queue.limit else None


def _refused_at_once(state: SchedulerState, command: Acquire, model: Model) -> Refusal | None:
    if state.draining:
        return Refusal(Reason.DRAINING, "the server is shutting down", 1.0)
    if model.unusable:
        return Refusal(Reason.ENGINE_MISSING, f"model {model.name} can't be loaded: {model.unusable}")
    if too_large := _no_fit(state, model):
        return too_large
    ready = model.state is State.READY and model.admin_request is None and not model.waiting
    grantable = ready and len(model.leases) < state.effective.batching.max_pages
    return full(state) if command.since is None and not grantable else None


def _queued(state: SchedulerState) -> int:
    return sum(model.waiting for model in state.models.values())


def _queue_full(state: SchedulerState) -> Refusal:
    limit = state.effective.queue.limit
    return Refusal(Reason.QUEUE_FULL, f"queue full: {limit} requests are waiting, which is the limit", 1.0)


def _no_fit(state: SchedulerState, model: Model) -> Refusal | None:
    budget = state.budget_bytes
    if budget is None or model.need_bytes <= budget:
        return None
    message = f"model {model.name} needs {model.need_bytes} bytes on the device, which has {budget}"
    return Refusal(Reason.NO_FIT, message, suggestions=memory_ladder.NO_FIT_SUGGESTIONS)
