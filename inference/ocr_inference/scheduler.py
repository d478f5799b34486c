"""Decides what happens next to models and requests: `decide(world, command, now) -> (world, effects)`.

A command changes what is known; then `_settle` looks at the whole world and does whatever is due, in this order:

1. Waiters past their deadline are refused, and those of a model that failed to load a moment ago, or that waited
   long enough for memory that others hold (`neighbours`).
2. Memory, for the models that somebody waits for (`room`); what others hold of it is looked at before.
3. Leases for waiters of ready models whose door is open, oldest first.
4. What administrators asked for, where the leases have ended.
5. Idle timers, each counted from the last activity.
6. Loading ahead, only into memory that is free.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from ocr_inference import lifecycle, neighbours, room
from ocr_inference.engine import Failure, FailureKind, Footprint
from ocr_inference.lifecycle import CALLS, Event, State
from ocr_inference.settings import NEVER, Effective
from ocr_inference.world import (
    Acquire,
    Apply,
    Ask,
    Asked,
    Cancel,
    Close,
    Closed,
    Command,
    Effect,
    FailureRecord,
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
    Running,
    Settled,
    StartCall,
    Tick,
    Waiter,
    WaitsFor,
    WakeAt,
    WorkerDied,
    World,
    Yield,
)

MAX_RETRY_SECONDS = 60.0
"""Bound of the back-off between loads that fail: long enough to be no load, short enough for an on-call person."""


def decide(  # noqa: C901 a branch for each command
    world: World, command: Command, now: float
) -> tuple[World, tuple[Effect, ...]]:
    """The world after `command`, and what the caller has to carry out, in order. Total: stale commands do nothing."""
    draft = _Draft(world, now)
    match command:
        case Acquire():
            draft.acquire(command)
        case Cancel(ticket) | Release(ticket):
            draft.give_back(ticket)
        case Finished():
            draft.finished(command)
        case Progressed():
            draft.progressed(command)
        case WorkerDied():
            draft.worker_died(command)
        case Ask():
            draft.ask(command)
        case Yield():
            draft.make_way(command)
        case Observed(others_bytes):
            draft.observed(others_bytes)
        case Apply(effective):
            draft.apply(effective)
        case Close():
            draft.world = replace(draft.world, draining=True)
        case Tick():
            pass
    draft.settle()
    if isinstance(command, Acquire):
        draft.bound_queue(command)
    return draft.done()


def retry_delay(failures: int) -> float:
    """Seconds until a model may be loaded again: none after the first failure, then 1, 2, 4 … the maximum."""
    return 0.0 if failures <= 1 else min(MAX_RETRY_SECONDS, 2.0 ** (failures - 2))


class _Draft:
    """One decision in the making: the only place where the world is mutable."""

    def __init__(self, world: World, now: float) -> None:
        self.world = world
        self.models = dict(world.models)
        self.now = now
        self.effects: list[Effect] = []
        self.closed_doors: set[str] = set()
        self.free: float = math.inf
        self.seen = True
        """It is known what others hold; else nothing is begun on the device in this decision."""

    def done(self) -> tuple[World, tuple[Effect, ...]]:
        self.effects.append(WakeAt(self.next_time()))
        return replace(self.world, models=self.models), tuple(self.effects)

    def put(self, model: Model) -> Model:
        self.models[model.name] = model
        return model

    # --- commands ---------------------------------------------------------------------------------------------

    def acquire(self, command: Acquire) -> None:
        model = self.models.get(command.model)
        if refusal := self.refusal(command, model):
            self.effects.append(Reject(command.ticket, refusal))
            return
        assert model is not None
        since = self.now if command.since is None else command.since
        deadline = since + self.world.effective.queue.deadline_seconds
        if command.deadline is not None:
            deadline = min(deadline, command.deadline)
        waiter = Waiter(command.ticket, since, deadline)
        waiters = sorted((*model.waiters, waiter), key=lambda each: (each.since, each.ticket))
        self.put(replace(model, waiters=tuple(waiters), resting=False))

    def refusal(self, command: Acquire, model: Model | None) -> Refusal | None:
        """Why this request isn't even queued."""
        if model is None:
            return Refusal(
                Reason.UNKNOWN_MODEL, f"no model {command.model!r}; there are {', '.join(self.models)}"
            )
        if self.world.draining:
            return Refusal(Reason.DRAINING, "the server is shutting down", 1.0)
        budget = self.world.budget_bytes
        if budget is not None and model.need_bytes > budget:
            return _no_fit(model, budget)
        ready = model.state is State.READY and model.asked is None and not model.waiters
        grantable = ready and len(model.leases) < self.world.effective.batching.max_pages
        if command.since is None and not grantable and self.queued() >= self.world.effective.queue.limit:
            return self.queue_full()
        return None

    def queued(self) -> int:
        return sum(len(model.waiters) for model in self.models.values())

    def queue_full(self) -> Refusal:
        limit = self.world.effective.queue.limit
        return Refusal(Reason.QUEUE_FULL, f"{limit} requests are waiting, which is the limit", 1.0)

    def bound_queue(self, command: Acquire) -> None:
        """Refuse the newcomer if a closed door has left it in a queue that was full already."""
        model = self.models.get(command.model)
        if model is None or command.since is not None or self.queued() <= self.world.effective.queue.limit:
            return
        if any(waiter.ticket == command.ticket for waiter in model.waiters):
            self.reject(model, lambda waiter: waiter.ticket == command.ticket, self.queue_full())

    def give_back(self, ticket: int) -> None:
        for model in list(self.models.values()):
            if ticket in model.leases:
                self.put(replace(model, leases=model.leases - {ticket}, last_activity=self.now))
                return
            waiters = tuple(waiter for waiter in model.waiters if waiter.ticket != ticket)
            if len(waiters) != len(model.waiters):
                self.put(replace(model, waiters=waiters))
                return

    def ask(self, command: Ask) -> None:
        model = self.models.get(command.model)
        if model is None or model.state is State.UNLOADED:
            self.effects.append(Settled(command.ticket))
            return
        model = self.put(replace(model, resting=True))
        offload = command.event is Event.OFFLOAD
        if offload and model.state is State.OFFLOADED:
            self.effects.append(Settled(command.ticket))
        elif model.running and (
            model.state in (State.UNLOADING, State.FAILED) or (offload and model.state is State.OFFLOADING)
        ):
            running = replace(model.running, tickets=(*model.running.tickets, command.ticket))
            self.put(replace(model, running=running))
        elif model.asked is None:
            self.put(replace(model, asked=Asked(command.event, (command.ticket,), command.ticket)))
        else:
            event = model.asked.event if offload else command.event
            asked = replace(model.asked, event=event, tickets=(*model.asked.tickets, command.ticket))
            self.put(replace(model, asked=asked))

    def make_way(self, command: Yield) -> None:
        model = self.models.get(command.model)
        refusal = None
        if model is not None and model.state in (State.LOADING, State.RESTORING):
            refusal = Refusal(Reason.MODEL_BUSY, f"model {model.name} is {model.state}: ask again later", 1.0)
        elif model is not None and model.state is State.READY:
            refusal = neighbours.busy(model, command.min_resident_seconds, self.now)
            if refusal is None:
                self.enter(model, Event.OFFLOAD, "made way for another pod")
                ahead_from = self.now + neighbours.YIELDED_SECONDS
                model = self.put(replace(self.models[model.name], ahead_from=ahead_from))
        if refusal is not None:
            self.effects.append(Reject(command.ticket, refusal))
        elif model is not None and model.running is not None and model.running.call != "exit":
            running = replace(model.running, tickets=(*model.running.tickets, command.ticket))
            self.put(replace(model, running=running))
        else:
            self.effects.append(Settled(command.ticket))

    def observed(self, others_bytes: int) -> None:
        self.world = replace(
            self.world, others_bytes=max(0, others_bytes), observed_at=self.now, looking=False
        )

    def apply(self, effective: Effective) -> None:
        self.world = replace(self.world, effective=effective)
        for model in list(self.models.values()):
            policy = effective.models[model.name]
            resting = model.resting and not (policy.preload and not model.policy.preload)
            self.put(replace(model, policy=policy, resting=resting))

    def finished(self, command: Finished) -> None:
        model, outcome = self.models.get(command.model), command.outcome
        if model is None or model.running is None or model.running.serial != command.serial:
            return
        call, seconds = model.running.call, self.now - model.running.since
        # What was seen of others while the call held who knows what says nothing any more.
        self.world = replace(self.world, observed_at=-math.inf)
        if isinstance(outcome, NoRoom):
            self.observed(outcome.others_bytes)
            worker = None if model.worker == command.serial else model.worker
            self.enter(replace(model, worker=worker), Event.UNDONE, "others hold the memory")
            return
        if call in ("load", "restore") and model.worker is None and not isinstance(outcome, Failure):
            # Its worker died between the answer and now.
            outcome = Failure(kind=FailureKind.WORKER_DIED, message=f"the worker died right after the {call}")
        if call == "exit":
            self.put(replace(model, running=None, worker=None))
        elif isinstance(outcome, Failure):
            self.call_failed(model, call, outcome)
        else:
            footprint = outcome or Footprint()
            model = replace(model, footprint=footprint)
            if call in ("load", "restore"):
                model = self.became_ready(model, call, seconds)
            elif call in ("unload", "kill"):
                model = replace(model, worker=None)
            self.enter(model, Event.DONE, "")

    def call_failed(self, model: Model, call: str, failure: Failure) -> None:
        model = self.put(replace(model, last_failure=self.record(call, failure)))
        if call in ("load", "restore"):
            no_room = failure.kind is FailureKind.OUT_OF_MEMORY
            if not (no_room and (self.try_again(model) or self.others_came(model))):
                failures = model.failures + 1
                retry_at = self.now + retry_delay(failures)
                # A branch that gave a checkpoint that can't be loaded is asked again: it may have moved on.
                revision = model.revision if model.loads else None
                model = replace(
                    model, failures=failures, retry_at=retry_at, revision=revision, after=frozenset()
                )
                self.reject(self.put(model), lambda _: True, self.load_failed(model))
            if no_room and call == "restore":
                # Whatever the attempt left on the device goes with its worker; host memory it doesn't write to.
                self.enter(self.models[model.name], Event.UNDONE, "no room on the device")
                self.exit_worker(self.models[model.name], "no room on the device")
                return
        self.enter(self.models[model.name], Event.FAIL, f"{call} failed")

    def try_again(self, model: Model) -> bool:
        """Have others make way for a model that the device had no room for, once."""
        if model.after or not model.servable or self.world.draining:
            return False
        patience = self.world.effective.queue.patience_seconds
        after = room.make_way(self.models, model.name, patience, self.now)
        self.put(replace(model, after=after))
        return bool(after)

    def others_came(self, model: Model) -> bool:
        """Whether a model that the device had no room for waits for others once, since they have taken it."""
        budget = self.world.budget_bytes
        if budget is None or model.failures or not model.servable or self.world.draining:
            return False
        ours = sum(each.charged_bytes for each in self.models.values())
        if ours + self.world.others_bytes <= budget:
            return False
        self.put(replace(model, failures=1))
        return True

    def became_ready(self, model: Model, call: str, seconds: float) -> Model:
        model = replace(model, last_activity=self.now, last_granted=self.now, failures=0, retry_at=0.0)
        model = replace(model, measured_bytes=model.footprint.device_bytes, after=frozenset())
        if call == "load":
            return replace(model, loads=model.loads + 1, last_load_seconds=seconds)
        return replace(model, wakes=model.wakes + 1, last_wake_seconds=seconds)

    def progressed(self, command: Progressed) -> None:
        model = self.models.get(command.model)
        if model is not None and model.running is not None and model.running.serial == command.serial:
            revision = command.progress.revision or model.revision
            self.put(replace(model, progress=command.progress, revision=revision))

    def worker_died(self, command: WorkerDied) -> None:
        model = self.models.get(command.model)
        if model is None or model.worker != command.worker:
            return
        model = self.put(replace(model, worker=None))
        if model.running is not None:
            return  # its call ends with a failure, or was about to end the worker anyway
        model = self.put(replace(model, last_failure=self.record("infer", command.failure)))
        if model.state is State.READY:
            self.effects.extend(Revoke(ticket) for ticket in sorted(model.leases))
            footprint = Footprint(host_bytes=model.footprint.host_bytes)
            model = replace(model, leases=frozenset(), last_activity=self.now, footprint=footprint)
            self.enter(model, Event.FAIL, "worker died")

    # --- steps ------------------------------------------------------------------------------------------------

    def enter(self, model: Model, event: Event, why: str) -> None:
        """Advance the state; a transient one starts its call, a lasting one answers who asked for it."""
        state = lifecycle.advance(model.state, event)
        tickets = model.running.tickets if model.running else ()
        asked = model.asked
        if asked and (
            state is State.UNLOADING or (state is State.OFFLOADING and asked.event is Event.OFFLOAD)
        ):
            tickets, asked = (*tickets, *asked.tickets), None
        unloading_from = model.unloading_from if state is State.FAILED else None
        running, worker = None, model.worker
        if state in CALLS:
            serial = self.world.serial + 1
            self.world = replace(self.world, serial=serial)
            if state in (State.LOADING, State.RESTORING) and worker is None:
                worker = serial
            running = Running(CALLS[state], serial, self.now, tickets)
            self.effects.append(StartCall(model.name, running.call, serial, worker, why))
        else:
            self.effects.extend(Settled(ticket) for ticket in tickets)
        if state is State.UNLOADING:
            unloading_from = model.state
        model = replace(model, state=state, since=self.now, unloading_from=unloading_from, progress=None)
        self.put(replace(model, running=running, worker=worker, asked=asked))

    def exit_worker(self, model: Model, why: str) -> None:
        serial = self.world.serial + 1
        self.world = replace(self.world, serial=serial)
        self.put(replace(model, running=Running("exit", serial, self.now)))
        self.effects.append(StartCall(model.name, "exit", serial, model.worker, why))

    def reject(self, model: Model, which: Callable[[Waiter], bool], refusal: Refusal) -> None:
        rejected = [waiter for waiter in model.waiters if which(waiter)]
        if rejected:
            left = tuple(waiter for waiter in model.waiters if not which(waiter))
            self.put(replace(model, waiters=left))
            self.effects.extend(Reject(waiter.ticket, refusal) for waiter in rejected)

    def load_failed(self, model: Model) -> Refusal:
        assert model.last_failure is not None
        message = f"model {model.name} could not be loaded: {model.last_failure.message}"
        return Refusal(Reason.LOAD_FAILED, message, max(1.0, model.retry_at - self.now))

    def record(self, call: str, failure: Failure) -> FailureRecord:
        reason = _REASONS.get(failure.kind) or f"{call.capitalize()}Failed"
        return FailureRecord(reason, failure.message, self.now, failure.exit_code)

    def settle(self) -> None:
        self.refuse_hopeless()
        self.make_room()
        self.grant()
        self.carry_out_asks()
        self.run_idle_timers()
        if self.world.draining:
            self.drain()
        else:
            self.load_ahead()

    def refuse_hopeless(self) -> None:
        budget, patience = self.world.budget_bytes, self.world.effective.queue.patience_seconds
        for name in self.models:
            if (model := self.models[name]).waits_for is not None:
                self.reject(
                    model,
                    _unhelped(model, patience, self.now),
                    neighbours.refusal(model, self.world.others_bytes),
                )
            if any(waiter.deadline <= self.now for waiter in self.models[name].waiters):
                message = f"the deadline passed while waiting for model {name} ({self.models[name].state})"
                late = Refusal(Reason.DEADLINE, message)
                self.reject(self.models[name], lambda waiter: waiter.deadline <= self.now, late)
            model = self.models[name]
            waiting = model.state in (*room.SLEEPING, State.UNLOADING, State.FAILED)
            if model.waiters and waiting and self.now < model.retry_at:
                self.reject(model, lambda _: True, self.load_failed(model))
            elif model.waiters and budget is not None and model.need_bytes > budget:
                self.reject(model, lambda _: True, _no_fit(model, budget))
            if model.after and not self.models[name].servable:
                self.put(replace(self.models[name], after=frozenset()))

    def make_room(self) -> None:
        self.look()
        world, patience = self.world, self.world.effective.queue.patience_seconds
        plan = room.plan(self.models, world.budget_bytes, patience, self.now, world.others_bytes)
        for step in plan.steps:
            match step.action:
                case "close":
                    self.closed_doors.add(step.model)
                case _ if not self.seen:
                    pass
                case "start":
                    self.enter(self.models[step.model], Event.DEMAND, step.why)
                case "evict":
                    self.enter(self.models[step.model], Event.OFFLOAD, step.why)
        self.free = plan.free_bytes
        for model in list(self.models.values()):
            lack = self.lack(model, plan.short.get(model.name))
            if lack != model.waits_for:
                self.put(replace(model, waits_for=lack))

    def look(self) -> None:
        """Before something is begun on the device, what others hold of it must be known."""
        wanted = any(
            model.state in room.SLEEPING
            and model.running is None
            and (model.servable or self.ahead_at(model) <= self.now)
            for model in self.models.values()
        )
        self.seen = neighbours.seen(self.world, self.now)
        if wanted and not self.seen and not self.world.looking:
            self.world = replace(self.world, looking=True)
            self.effects.append(Look())

    def lack(self, model: Model, free_bytes: int | None) -> WaitsFor | None:
        """What the model waits for, by what is known now, or was while it isn't."""
        if model.state not in room.SLEEPING or not model.servable:
            return None
        if not self.seen:
            return model.waits_for
        if free_bytes is None:
            return None
        since = model.waits_for.since if model.waits_for else self.now
        return WaitsFor(model.need_bytes, free_bytes, since)

    def grant(self) -> None:
        for model in list(self.models.values()):
            if model.state is not State.READY or model.name in self.closed_doors:
                continue
            assert model.worker is not None
            room = max(0, self.world.effective.batching.max_pages - len(model.leases))
            granted = model.servable[:room]
            if not granted:
                continue
            tickets = frozenset(waiter.ticket for waiter in granted)
            self.effects.extend(Grant(waiter.ticket, model.name, model.worker) for waiter in granted)
            waiters = tuple(waiter for waiter in model.waiters if waiter.ticket not in tickets)
            leased = replace(model, waiters=waiters, leases=model.leases | tickets)
            self.put(replace(leased, last_activity=self.now, last_granted=self.now))

    def carry_out_asks(self) -> None:
        for model in list(self.models.values()):
            asked = model.asked
            if asked is None or model.running or model.leases or model.servable:
                continue
            if model.state is State.READY or (model.state is State.OFFLOADED and asked.event is Event.UNLOAD):
                self.enter(model, asked.event, "asked for")
            else:
                self.put(replace(model, asked=None))
                self.effects.extend(Settled(ticket) for ticket in asked.tickets)

    def idle_times(self, model: Model) -> dict[str, float]:
        """When an idle model's timers run out: of those that mean something in its state."""
        if model.running or model.leases or model.waiters or model.asked:
            return {}
        if model.policy.preload and not model.resting:
            return {}
        idle = model.policy.idle
        release = self.after(model, idle.release_after_seconds)
        leave = self.after(model, idle.exit_after_seconds)
        if model.state is State.READY:
            return {"unload": release, "offload": min(leave, self.after(model, idle.offload_after_seconds))}
        if model.state is State.OFFLOADED:
            return {"unload": release, "exit": leave if model.worker is not None else math.inf}
        return {}

    def after(self, model: Model, seconds: float) -> float:
        return math.inf if seconds == NEVER else model.last_activity + seconds

    def run_idle_timers(self) -> None:
        for model in list(self.models.values()):
            due = [what for what, time in self.idle_times(model).items() if time <= self.now]
            if not due:
                continue
            match due[0]:
                case "unload":
                    self.enter(model, Event.UNLOAD, "idle")
                case "offload":
                    self.enter(model, Event.OFFLOAD, "idle")
                case "exit":
                    self.exit_worker(model, "idle")

    def load_ahead(self) -> None:
        if not self.seen:
            return
        free = self.free
        for model in sorted(self.models.values(), key=lambda each: -each.policy.priority):
            if self.ahead_at(model) <= self.now and model.need_bytes <= max(free, 0):
                free -= model.need_bytes
                self.enter(model, Event.DEMAND, "loaded ahead")

    def ahead_at(self, model: Model) -> float:
        """When a model that is to stay loaded is loaded ahead (again); infinity where it isn't."""
        wanted = model.policy.preload and not model.resting and not self.world.draining
        if not wanted or model.state not in room.SLEEPING or model.running or model.waiters or model.asked:
            return math.inf
        return max(model.ahead_from, model.retry_at + (1.0 if model.failures else 0.0))

    def drain(self) -> None:
        for model in list(self.models.values()):
            lasting = model.state in (State.READY, State.OFFLOADED)
            if lasting and not (model.running or model.leases or model.waiters or model.asked):
                self.enter(model, Event.UNLOAD, "shutting down")
        empty = all(m.state is State.UNLOADED and not m.waiters for m in self.models.values())
        if empty and not self.world.closed:
            self.world = replace(self.world, closed=True)
            self.effects.append(Closed())

    def next_time(self) -> float | None:
        """When something becomes due without anything happening before."""
        patience = self.world.effective.queue.patience_seconds
        times: list[float] = []
        for model in self.models.values():
            times.extend(waiter.deadline for waiter in model.waiters)
            if model.servable:
                times.append(model.servable[0].since + patience)
            times.extend(self.idle_times(model).values())
            times.append(ahead := self.ahead_at(model))
            if ahead <= self.now and self.world.others_bytes:
                times.append(self.world.observed_at + neighbours.AHEAD_SECONDS)
            if model.waits_for is not None:
                times.append(self.world.observed_at + neighbours.LOOK_SECONDS)
                times.extend(neighbours.help_ends(model, waiter, patience) for waiter in model.waiters)
        later = [time for time in times if self.now < time < math.inf]
        return min(later, default=None)


_REASONS = {
    FailureKind.WORKER_DIED: "WorkerDied",
    FailureKind.OUT_OF_MEMORY: "OutOfMemory",
    FailureKind.SOURCE_UNAVAILABLE: "SourceUnavailable",
    FailureKind.INVALID_CHECKPOINT: "InvalidCheckpoint",
    FailureKind.DISK_FULL: "DiskFull",
}


def _unhelped(model: Model, patience: float, now: float) -> Callable[[Waiter], bool]:
    return lambda waiter: neighbours.help_ends(model, waiter, patience) <= now


def _no_fit(model: Model, budget: int) -> Refusal:
    message = f"model {model.name} needs {model.need_bytes} bytes on the device, which has {budget}"
    return Refusal(Reason.NO_FIT, message)
