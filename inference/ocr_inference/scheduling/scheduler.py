"""Decides what happens next to models and requests: `decide(world, command, now) -> (world, effects)`.

A command changes what is known; then `_settle` looks at the whole world and does whatever is due, in this order:

1. Waiters who wait in vain are refused (`waiters`).
2. Memory, for the models that somebody waits for (`room`); what others hold of it is looked at before (`neighbours`).
3. Leases for waiters of ready models whose door is open, oldest first.
4. What administrators asked for, where the leases have ended.
5. Idle timers, each counted from the last activity (`timers`).
6. Loading ahead, only into memory that is free.
"""

import math
from collections.abc import Container
from dataclasses import replace

from ocr_inference.scheduling import external_usage, memory_plan, outcomes, timers, waiters
from ocr_inference.scheduling.lifecycle import Event, State
from ocr_inference.scheduling.state import (
    Acquire,
    Apply,
    Ask,
    Asked,
    Cancel,
    Close,
    Closed,
    Command,
    Effect,
    Finished,
    Grant,
    Look,
    Model,
    NoRoom,
    Observed,
    Progressed,
    Reason,
    Refusal,
    Reject,
    Release,
    Revoke,
    Settled,
    Tick,
    WakeAt,
    WorkerDied,
    World,
    Yield,
)
from ocr_inference.scheduling.transaction import Draft


def decide(  # noqa: C901 a branch for each command
    world: World, command: Command, now: float
) -> tuple[World, tuple[Effect, ...]]:
    """The world after `command`, and what the caller has to carry out, in order. Total: stale commands do nothing."""
    draft = Draft(world, now)
    match command:
        case Acquire():
            _acquire(draft, command)
        case Cancel(ticket) | Release(ticket):
            _give_back(draft, ticket)
        case Finished():
            _finished(draft, command)
        case Progressed():
            _progressed(draft, command)
        case WorkerDied():
            _worker_died(draft, command)
        case Ask():
            _ask(draft, command)
        case Yield():
            _make_way(draft, command)
        case Observed(others_bytes):
            _observed(draft, others_bytes)
        case Apply():
            _apply(draft, command)
        case Close():
            draft.world = replace(draft.world, draining=True)
        case Tick():
            pass
    _settle(draft)
    if isinstance(command, Acquire) and (refusal := waiters.overflow(draft.world, command)):
        draft.reject(draft.models[command.model], {command.ticket}, refusal)
    draft.effects.append(WakeAt(timers.next_time(draft.world, now)))
    return draft.world, tuple(draft.effects)


# --- commands -------------------------------------------------------------------------------------------------


def _acquire(draft: Draft, command: Acquire) -> None:
    match waiters.join(draft.world, command, draft.now):
        case Refusal() as refusal:
            draft.effects.append(Reject(command.ticket, refusal))
        case Model() as model:
            draft.put(model)


def _give_back(draft: Draft, ticket: int) -> None:
    for model in draft.each():
        if ticket in model.leases:
            draft.put(replace(model, leases=model.leases - {ticket}, last_activity=draft.now))
            return
        left = tuple(waiter for waiter in model.waiters if waiter.ticket != ticket)
        if len(left) != len(model.waiters):
            draft.put(replace(model, waiters=left))
            return


def _ask(draft: Draft, command: Ask) -> None:
    model = draft.models.get(command.model)
    if model is None or model.state is State.UNLOADED:
        draft.effects.append(Settled(command.ticket))
        return
    model = draft.put(replace(model, resting=True))
    offload = command.event is Event.OFFLOAD
    if offload and model.state is State.OFFLOADED:
        draft.effects.append(Settled(command.ticket))
    elif model.running and (
        model.state in (State.UNLOADING, State.FAILED) or (offload and model.state is State.OFFLOADING)
    ):
        running = replace(model.running, tickets=(*model.running.tickets, command.ticket))
        draft.put(replace(model, running=running))
    elif model.asked is None:
        draft.put(replace(model, asked=Asked(command.event, (command.ticket,), command.ticket)))
    else:
        event = model.asked.event if offload else command.event
        asked = replace(model.asked, event=event, tickets=(*model.asked.tickets, command.ticket))
        draft.put(replace(model, asked=asked))


def _make_way(draft: Draft, command: Yield) -> None:
    model = draft.models.get(command.model)
    refusal = None
    if model is not None and model.state in (State.LOADING, State.RESTORING):
        refusal = Refusal(Reason.MODEL_BUSY, f"model {model.name} is {model.state}: ask again later", 1.0)
    elif model is not None and model.state is State.READY:
        refusal = external_usage.busy(model, command.min_resident_seconds, draft.now)
        if refusal is None:
            draft.enter(model, Event.OFFLOAD, "made way for another pod")
            ahead_from = draft.now + external_usage.YIELDED_SECONDS
            model = draft.put(replace(draft.models[model.name], ahead_from=ahead_from))
    if refusal is not None:
        draft.effects.append(Reject(command.ticket, refusal))
    elif model is not None and model.running is not None and model.running.call != "exit":
        running = replace(model.running, tickets=(*model.running.tickets, command.ticket))
        draft.put(replace(model, running=running))
    else:
        draft.effects.append(Settled(command.ticket))


def _observed(draft: Draft, others_bytes: int) -> None:
    draft.world = replace(
        draft.world, others_bytes=max(0, others_bytes), observed_at=draft.now, looking=False
    )


def _apply(draft: Draft, command: Apply) -> None:
    draft.world = replace(draft.world, effective=command.effective)
    for model in draft.each():
        policy = command.effective.models[model.name]
        resting = model.resting and not (policy.preload and not model.policy.preload)
        draft.put(replace(model, policy=policy, resting=resting))


def _finished(draft: Draft, command: Finished) -> None:
    model = draft.models.get(command.model)
    if model is None or model.running is None or model.running.serial != command.serial:
        return
    # What was seen of others while the call held who knows what says nothing any more.
    draft.world = replace(draft.world, observed_at=-math.inf)
    if isinstance(command.outcome, NoRoom):
        _observed(draft, command.outcome.others_bytes)
    _end(draft, outcomes.ended(draft.world, model, command.outcome, draft.now))


def _progressed(draft: Draft, command: Progressed) -> None:
    model = draft.models.get(command.model)
    if model is not None and model.running is not None and model.running.serial == command.serial:
        revision = command.progress.revision or model.revision
        draft.put(replace(model, progress=command.progress, revision=revision))


def _worker_died(draft: Draft, command: WorkerDied) -> None:
    model = draft.models.get(command.model)
    if model is None or model.worker != command.worker:
        return
    end = outcomes.worker_died(model, command.failure, draft.now)
    draft.effects.extend(Revoke(ticket) for ticket in sorted(model.leases - end.model.leases))
    _end(draft, end)


def _end(draft: Draft, end: outcomes.End) -> None:
    model = draft.put(end.model)
    if end.refusal is not None:
        model = draft.reject(model, {waiter.ticket for waiter in model.waiters}, end.refusal)
    if end.event is not None:
        model = draft.enter(model, end.event, end.why)
    if end.exits:
        draft.exit_worker(model, end.why)


# --- what is due ----------------------------------------------------------------------------------------------


def _settle(draft: Draft) -> None:
    _refuse_hopeless(draft)
    seen = _look(draft)
    plan = _make_room(draft, seen=seen)
    _grant(draft, closed={step.model for step in plan.steps if step.action == "close"})
    _carry_out_asks(draft)
    _run_idle_timers(draft)
    if draft.world.draining:
        _drain(draft)
    elif seen:
        _load_ahead(draft, plan.free_bytes)


def _refuse_hopeless(draft: Draft) -> None:
    for model in draft.each():
        left = model
        for waiter in model.waiters:
            if refusal := waiters.in_vain(draft.world, model, waiter, draft.now):
                left = draft.reject(left, {waiter.ticket}, refusal)
        if left.after and not left.servable:
            draft.put(replace(left, after=frozenset()))


def _look(draft: Draft) -> bool:
    """Before something is begun on the device, what others hold of it must be known. Whether it is."""
    wanted = any(
        model.state in memory_plan.SLEEPING
        and model.running is None
        and (model.servable or timers.ahead_at(model, draining=draft.world.draining) <= draft.now)
        for model in draft.each()
    )
    seen = external_usage.seen(draft.world, draft.now)
    if wanted and not seen and not draft.world.looking:
        draft.world = replace(draft.world, looking=True)
        draft.effects.append(Look())
    return seen


def _make_room(draft: Draft, *, seen: bool) -> memory_plan.Plan:
    """Begin what the plan says, unless it isn't `seen` what others hold; doors are for who grants leases."""
    world, patience = draft.world, draft.world.effective.queue.patience_seconds
    plan = memory_plan.plan(world.models, world.budget_bytes, patience, draft.now, world.others_bytes)
    for step in plan.steps if seen else ():
        match step.action:
            case "start":
                draft.enter(draft.models[step.model], Event.DEMAND, step.why)
            case "evict":
                draft.enter(draft.models[step.model], Event.OFFLOAD, step.why)
            case "close":
                pass
    for model in draft.each():
        lack = external_usage.lack(model, plan.short.get(model.name), draft.now, seen=seen)
        if lack != model.waits_for:
            draft.put(replace(model, waits_for=lack))
    return plan


def _grant(draft: Draft, closed: Container[str]) -> None:
    for model in draft.each():
        if model.state is not State.READY or model.name in closed:
            continue
        assert model.worker is not None
        places = max(0, draft.world.effective.batching.max_pages - len(model.leases))
        granted = model.servable[:places]
        if not granted:
            continue
        tickets = frozenset(waiter.ticket for waiter in granted)
        draft.effects.extend(Grant(waiter.ticket, model.name, model.worker) for waiter in granted)
        left = tuple(waiter for waiter in model.waiters if waiter.ticket not in tickets)
        leased = replace(model, waiters=left, leases=model.leases | tickets)
        draft.put(replace(leased, last_activity=draft.now, last_granted=draft.now))


def _carry_out_asks(draft: Draft) -> None:
    for model in draft.each():
        asked = model.asked
        if asked is None or model.running or model.leases or model.servable:
            continue
        if model.state is State.READY or (model.state is State.OFFLOADED and asked.event is Event.UNLOAD):
            draft.enter(model, asked.event, "asked for")
        else:
            draft.put(replace(model, asked=None))
            draft.effects.extend(Settled(ticket) for ticket in asked.tickets)


def _run_idle_timers(draft: Draft) -> None:
    for model in draft.each():
        match timers.idle_due(model, draft.now):
            case "unload":
                draft.enter(model, Event.UNLOAD, "idle")
            case "offload":
                draft.enter(model, Event.OFFLOAD, "idle")
            case "exit":
                draft.exit_worker(model, "idle")


def _load_ahead(draft: Draft, free_bytes: float) -> None:
    for model in sorted(draft.each(), key=lambda each: -each.policy.priority):
        due = timers.ahead_at(model, draining=False) <= draft.now
        if due and model.need_bytes <= max(free_bytes, 0):
            free_bytes -= model.need_bytes
            draft.enter(model, Event.DEMAND, "loaded ahead")


def _drain(draft: Draft) -> None:
    for model in draft.each():
        lasting = model.state in (State.READY, State.OFFLOADED)
        if lasting and not (model.running or model.leases or model.waiters or model.asked):
            draft.enter(model, Event.UNLOAD, "shutting down")
    empty = all(each.state is State.UNLOADED and not each.waiters for each in draft.each())
    if empty and not draft.world.closed:
        draft.world = replace(draft.world, closed=True)
        draft.effects.append(Closed())
