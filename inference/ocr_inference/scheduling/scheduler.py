"""Decides what happens next to models and requests: `decide(state, command, now) -> (state, effects)`.

A command changes the state; then `_do_what_is_due` goes through all of it in this order:

1. Refuse waiters that can't be served (`waiters`).
2. Give memory to models with waiters (`memory_plan`); external usage is probed before (`external_usage`).
3. Grant leases to waiters of ready models whose door is open, oldest first; then hand waiters over to helpers that
   are free (`helpers`).
4. Carry out requests of administrators, where the leases have ended.
5. Run idle timers, each counted from the last activity (`timers`).
6. Preload, only into memory that is free.
"""

import math
from collections.abc import Container
from dataclasses import replace

from ocr_inference.scheduling import external_usage, helpers, memory_plan, outcomes, stuck, timers, waiters
from ocr_inference.scheduling.commands import (
    Acquire,
    AdminRequest,
    Apply,
    Cancel,
    Close,
    Command,
    Finished,
    Help,
    HelpEnded,
    MemoryProbed,
    OffloadIfIdle,
    Progressed,
    Release,
    Tick,
    WorkerDied,
    WorkerSurvived,
)
from ocr_inference.scheduling.lifecycle import Event
from ocr_inference.scheduling.state import (
    Closed,
    Done,
    Effect,
    Grant,
    KillWorker,
    LeaseLost,
    Model,
    NotBegun,
    PendingRequest,
    ProbeMemory,
    Reason,
    Refusal,
    Reject,
    SchedulerState,
    WakeAt,
)
from ocr_inference.scheduling.transaction import Transaction
from ocr_wire.states import State


def decide(  # noqa: C901, PLR0912 a branch for each command
    state: SchedulerState, command: Command, now: float
) -> tuple[SchedulerState, tuple[Effect, ...]]:
    """Return the state after `command`, and the effects to carry out, in order. Stale commands change nothing."""
    transaction = Transaction(state, now)
    match command:
        case Acquire():
            _acquire(transaction, command)
        case Cancel(ticket) | Release(ticket):
            _give_back(transaction, ticket)
        case Finished():
            _finished(transaction, command)
        case Progressed():
            _progressed(transaction, command)
        case WorkerDied():
            _worker_died(transaction, command)
        case WorkerSurvived():
            _worker_survived(transaction, command)
        case AdminRequest():
            _admin_request(transaction, command)
        case OffloadIfIdle():
            _offload_if_idle(transaction, command)
        case MemoryProbed(external_bytes):
            _memory_probed(transaction, external_bytes)
        case Help() | HelpEnded():
            transaction.state = helpers.changed(transaction.state, command)
        case Apply():
            _apply(transaction, command)
        case Close():
            transaction.state = replace(transaction.state, draining=True)
        case Tick():
            pass
    _do_what_is_due(transaction)
    if isinstance(command, Acquire) and (refusal := waiters.overflow(transaction.state, command)):
        model = transaction.models[command.model]
        transaction.reject(model, [each for each in [waiters.find(model, command.ticket)] if each], refusal)
    transaction.effects.append(WakeAt(timers.next_time(transaction.state, now)))
    return transaction.state, tuple(transaction.effects)


# --- commands -------------------------------------------------------------------------------------------------


def _acquire(transaction: Transaction, command: Acquire) -> None:
    match waiters.join(transaction.state, command, transaction.now):
        case Refusal() as refusal:
            transaction.effects.append(Reject(command.ticket, refusal))
        case Model() as model:
            transaction.put(model)


def _give_back(transaction: Transaction, ticket: int) -> None:
    if (state := helpers.released(transaction.state, ticket)) is not None:
        transaction.state = state
        return
    for model in transaction.each():
        if ticket in model.leases:
            leases = {each: since for each, since in model.leases.items() if each != ticket}
            transaction.put(replace(model, leases=leases, last_activity=transaction.now))
            return
        if (waiter := waiters.find(model, ticket)) is not None:
            transaction.put(model.without([waiter]))
            return


def _admin_request(transaction: Transaction, command: AdminRequest) -> None:
    model = transaction.models.get(command.model)
    if model is None or model.state is State.UNLOADED:
        transaction.effects.append(Done(command.ticket))
        return
    model = transaction.put(replace(model, preload_suppressed=True))
    if command.force and model.worker is not None and (model.leases or model.running):
        transaction.effects.append(KillWorker(model.name))
    before = 0 if command.force else command.ticket
    wanted = model.freed_by(command.event)
    offload = wanted is Event.OFFLOAD
    if offload and model.state is State.OFFLOADED:
        transaction.effects.append(Done(command.ticket))
    elif model.running and (
        model.state in (State.UNLOADING, State.FAILED) or (offload and model.state is State.OFFLOADING)
    ):
        running = replace(model.running, tickets=(*model.running.tickets, command.ticket))
        transaction.put(replace(model, running=running))
    elif model.admin_request is None:
        transaction.put(model.with_request(PendingRequest(wanted, (command.ticket,), before)))
    else:
        event = model.admin_request.event if offload else wanted
        admin_request = replace(
            model.admin_request,
            event=event,
            tickets=(*model.admin_request.tickets, command.ticket),
            before=min(model.admin_request.before, before),
        )
        transaction.put(model.with_request(admin_request))


def _offload_if_idle(transaction: Transaction, command: OffloadIfIdle) -> None:
    model = transaction.models.get(command.model)
    refusal = None
    if model is not None and model.state in (State.LOADING, State.RESTORING):
        refusal = Refusal(Reason.MODEL_BUSY, f"model {model.name} is {model.state}: try again later", 1.0)
    elif model is not None and model.state is State.READY:
        refusal = external_usage.busy(model, command.min_resident_seconds, transaction.now)
        if refusal is None:
            transaction.enter(model, model.freed_by(Event.OFFLOAD), f"made way for {command.made_way_for}")
            preload_not_before = transaction.now + external_usage.PRELOAD_PAUSE_SECONDS
            model = transaction.put(
                replace(transaction.models[model.name], preload_not_before=preload_not_before)
            )
    if refusal is not None:
        transaction.effects.append(Reject(command.ticket, refusal))
    elif model is not None and model.running is not None and model.running.call != "exit":
        running = replace(model.running, tickets=(*model.running.tickets, command.ticket))
        transaction.put(replace(model, running=running))
    else:
        transaction.effects.append(Done(command.ticket))


def _memory_probed(transaction: Transaction, external_bytes: int) -> None:
    transaction.state = replace(
        transaction.state, external_bytes=max(0, external_bytes), probed_at=transaction.now, probing=False
    )


def _apply(transaction: Transaction, command: Apply) -> None:
    transaction.state = replace(transaction.state, effective=command.effective)
    for model in transaction.each():
        policy = command.effective.models[model.name]
        preload_suppressed = model.preload_suppressed and not (policy.preload and not model.policy.preload)
        transaction.put(replace(model, policy=policy, preload_suppressed=preload_suppressed))


def _finished(transaction: Transaction, command: Finished) -> None:
    model = transaction.models.get(command.model)
    if model is None or model.running is None or model.running.serial != command.serial:
        return
    # A probe during the call counted an unknown part of the call's memory as external: it is of no use now.
    transaction.state = replace(transaction.state, probed_at=-math.inf)
    if isinstance(command.outcome, NotBegun):
        _memory_probed(transaction, command.outcome.external_bytes)
    _end(transaction, outcomes.ended(transaction.state, model, command.outcome, transaction.now))


def _progressed(transaction: Transaction, command: Progressed) -> None:
    model = transaction.models.get(command.model)
    if model is not None and model.running is not None and model.running.serial == command.serial:
        revision = command.progress.revision or model.revision
        transaction.put(replace(model, progress=command.progress, revision=revision))


def _worker_died(transaction: Transaction, command: WorkerDied) -> None:
    model = transaction.models.get(command.model)
    if model is None or model.worker != command.worker:
        return
    end = outcomes.worker_died(model, command.failure, transaction.now)
    transaction.effects.extend(
        LeaseLost(ticket) for ticket in sorted(model.leases.keys() - end.model.leases.keys())
    )
    _end(transaction, end)


def _worker_survived(transaction: Transaction, command: WorkerSurvived) -> None:
    model = transaction.models.get(command.model)
    if model is not None and model.worker == command.worker:
        transaction.put(replace(model, survival=stuck.survived(model, command.seconds, transaction.now)))


def _end(transaction: Transaction, end: outcomes.End) -> None:
    model = transaction.put(end.model)
    if end.refusal is not None:
        model = transaction.reject(model, model.waiters, end.refusal)
    if end.event is not None:
        model = transaction.enter(model, end.event, end.why)
    if end.exits:
        _exit_worker(transaction, model, end.why)


# --- what is due ----------------------------------------------------------------------------------------------


def _do_what_is_due(transaction: Transaction) -> None:
    _refuse_waiters(transaction)
    known = _probe_memory(transaction)
    plan = _plan_memory(transaction, known=known)
    _grant(transaction, closed={step.model for step in plan.steps if step.action == "close"})
    helpers.hand_over(transaction)
    _carry_out_admin_requests(transaction)
    _run_idle_timers(transaction)
    if transaction.state.draining:
        _drain(transaction)
    elif known:
        _preload(transaction, plan.free_bytes)


def _refuse_waiters(transaction: Transaction) -> None:
    for model in transaction.each():
        left = model
        for waiter, refusal in waiters.refused(transaction.state, model, transaction.now):
            left = transaction.reject(left, [waiter], refusal)
        if left.blocked_on and not left.servable:
            transaction.put(replace(left, blocked_on=frozenset()))


def _probe_memory(transaction: Transaction) -> bool:
    """Request a probe where a call is about to start on the device; return whether external usage is known."""
    wanted = any(
        model.state in memory_plan.OFF_DEVICE
        and model.running is None
        and (
            model.servable or timers.preload_at(model, draining=transaction.state.draining) <= transaction.now
        )
        for model in transaction.each()
    )
    known = external_usage.known(transaction.state, transaction.now)
    if wanted and not known and not transaction.state.probing:
        transaction.state = replace(transaction.state, probing=True)
        transaction.effects.append(ProbeMemory())
    return known


def _plan_memory(transaction: Transaction, *, known: bool) -> memory_plan.Plan:
    """Start the plan's calls where external usage is `known`; `_grant` heeds the doors that it closes."""
    state, patience = transaction.state, transaction.state.effective.queue.patience_seconds
    plan = memory_plan.plan(state.models, state.budget_bytes, patience, transaction.now, state.external_bytes)
    for step in plan.steps if known else ():
        match step.action:
            case "start":
                transaction.enter(transaction.models[step.model], Event.DEMAND, step.why)
            case "evict":
                victim = transaction.models[step.model]
                # What an offload has left on the device goes with the rest.
                asleep = victim.state is State.OFFLOADED
                event = Event.UNLOAD if asleep else victim.freed_by(Event.OFFLOAD)
                transaction.enter(victim, event, step.why)
            case "close":
                pass
    for model in transaction.each():
        lack = external_usage.lack(model, plan.short.get(model.name), transaction.now, known=known)
        if lack != model.waits_for:
            transaction.put(replace(model, waits_for=lack))
    return plan


def _grant(transaction: Transaction, closed: Container[str]) -> None:
    for model in transaction.each():
        if model.state is not State.READY or model.name in closed:
            continue
        assert model.worker is not None
        granted = waiters.next_ones(model, transaction.state.effective.batching.max_pages)
        if not granted:
            continue
        transaction.effects.extend(Grant(waiter.ticket, model.name, model.worker) for waiter in granted)
        leases = {**model.leases, **{waiter.ticket: transaction.now for waiter in granted}}
        leased = replace(model.without(granted), leases=leases, alone=granted[0].alone)
        transaction.put(replace(leased, last_activity=transaction.now, last_granted=transaction.now))


def _carry_out_admin_requests(transaction: Transaction) -> None:
    for model in transaction.each():
        admin_request = model.admin_request
        if admin_request is None or model.running or model.leases or model.servable:
            continue
        if model.state is State.READY or (
            model.state is State.OFFLOADED and admin_request.event is Event.UNLOAD
        ):
            transaction.enter(model, admin_request.event, "requested by an administrator")
        else:
            transaction.put(model.with_request(None))
            transaction.effects.extend(Done(ticket) for ticket in admin_request.tickets)


def _run_idle_timers(transaction: Transaction) -> None:
    for model in transaction.each():
        match timers.idle_due(model, transaction.now):
            case "unload":
                transaction.enter(model, Event.UNLOAD, "idle")
            case "offload":
                transaction.enter(model, Event.OFFLOAD, "idle")
            case "exit":
                _exit_worker(transaction, model, "idle")


def _exit_worker(transaction: Transaction, model: Model, why: str) -> None:
    transaction.exit_worker(model, why, stand_by=transaction.now < timers.standby_ends_at(model))


def _preload(transaction: Transaction, free_bytes: float) -> None:
    for model in sorted(transaction.each(), key=lambda each: -each.policy.priority):
        due = timers.preload_at(model, draining=False) <= transaction.now
        if due and model.lacking_bytes <= max(free_bytes, 0):
            free_bytes -= model.lacking_bytes
            transaction.enter(model, Event.DEMAND, "preload")


def _drain(transaction: Transaction) -> None:
    for model in transaction.each():
        lasting = model.state in (State.READY, State.OFFLOADED)
        if lasting and not (model.running or model.leases or model.waiting or model.admin_request):
            transaction.enter(model, Event.UNLOAD, "shutting down")
    empty = all(each.state is State.UNLOADED and not each.waiting for each in transaction.each())
    if empty and not helpers.reading(transaction.state) and not transaction.state.closed:
        transaction.state = replace(transaction.state, closed=True)
        transaction.effects.append(Closed())
