"""Decides when models of this process hold their GPU: the server's scheduler, and what a library adds to it.

`decide(sharing, command, now) -> (sharing, effects)` is pure, like the scheduler that it is made of: leases, queues,
eviction by priority, patience, idle timers and the second try after memory ran out are that scheduler's. Added are:

- Models come and go while the program runs (`Register`, `Remove`), and so do their policies.
- A use without an end (`OpenUse`): `get_model` returns a model and doesn't learn when its caller is done. It counts as
  a lease until the idle timeout has passed since the last such call, or until a call that says so.
- A lease beside one that its caller has (`Join`): granted at once, since the caller would otherwise wait for itself.
- A load says how large its model is (`Arrived`). One in host memory then gets its part of the GPU like any model that
  is restored; one that its load function put on the GPU leaves it again where the budget has no place for it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from ocr_inference.config.settings import Batching, Effective, Idle, ModelPolicy, Queue
from ocr_inference.protocol.engine import Footprint
from ocr_inference.scheduling import commands, scheduler, timers
from ocr_inference.scheduling.commands import Acquire, Apply, Cancel, Finished, MemoryProbed, Release, Tick
from ocr_inference.scheduling.lifecycle import Event
from ocr_inference.scheduling.state import (
    Effect,
    Grant,
    Model,
    ProbeMemory,
    Reject,
    SchedulerState,
    WakeAt,
)
from ocr_inference.scheduling.transaction import Transaction
from ocr_wire.settings import NEVER
from ocr_wire.states import State

_NO_LIMIT: Final = 1 << 30
"""Leases of a model, and waiters: the caller's program bounds both."""
PATIENCE_SECONDS: Final = 10.0
"""Age at which a waiting request is served next, whatever its priority; the server's default."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Settings of one manager, all of them live."""

    priority: int = 0
    idle_timeout: float | None = 60.0
    """Seconds since the last use until the weights leave the GPU; None: never, 0: with the end of the last lease."""
    release_timeout: float | None = None
    """Seconds since the last use until the model is dropped from host memory, too."""
    monitored: bool = True
    """Whether timeouts run."""

    @property
    def of_scheduler(self) -> ModelPolicy:
        offload, release = (
            _seconds(each) if self.monitored else NEVER for each in (self.idle_timeout, self.release_timeout)
        )
        idle = Idle(
            offload_after_seconds=offload,
            exit_after_seconds=NEVER,
            release_after_seconds=release,
            drop_standby_after_seconds=NEVER,
        )
        return ModelPolicy(idle=idle, priority=self.priority, preload=False)


def _seconds(timeout: float | None) -> float:
    return NEVER if timeout is None else timeout


@dataclass(frozen=True, slots=True)
class OpenUse:
    """Use of a model by `get_model`, whose end isn't known."""

    ticket: int
    """The lease that it holds."""
    since: float
    """Time of the last call."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """Everything that decisions depend on."""

    scheduler: SchedulerState
    policies: Mapping[str, Policy] = field(default_factory=dict)
    uses: Mapping[str, OpenUse] = field(default_factory=dict)
    opening: frozenset[int] = frozenset()
    """Tickets of waiters that become open uses."""


def initial(budget_bytes: int | None) -> Sharing:
    """Return the state without any model."""
    queue = Queue(limit=_NO_LIMIT, patience_seconds=PATIENCE_SECONDS)
    effective = Effective(Batching(max_pages=_NO_LIMIT), queue, "info", {})
    return Sharing(SchedulerState({}, effective, budget_bytes))


# --- commands, besides the scheduler's ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Register:
    """Add a model, or change the policy of one; `size_bytes` is the room that it needs, where that is known."""

    model: str
    policy: Policy
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """Forget a model that is unloaded and has no waiters; else nothing."""

    model: str


@dataclass(frozen=True, slots=True)
class Open:
    """Queue for a use whose end isn't known."""

    acquire: Acquire


@dataclass(frozen=True, slots=True)
class EndUse:
    """End the open use of a model, if there is one."""

    model: str


@dataclass(frozen=True, slots=True)
class Join:
    """Give a lease beside `beside`, if that one lasts; else queue for one."""

    acquire: Acquire
    beside: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """Report the end of a load, and how much of the GPU its model needs."""

    model: str
    serial: int
    size_bytes: int
    host_bytes: int = 0
    on_device: bool = False
    """Whether the load function put it on the GPU."""


Command = commands.Command | Register | Remove | Open | EndUse | Join | Arrived


def decide(sharing: Sharing, command: Command, now: float) -> tuple[Sharing, tuple[Effect, ...]]:
    """Return the state after `command`, and the effects to carry out, in order; the last is the only `WakeAt`."""
    deciding = _Deciding(sharing, now)
    deciding.end_uses()
    deciding.carry_out(command)
    deciding.end_uses()
    return deciding.sharing, (*deciding.effects, WakeAt(next_time(deciding.sharing, now)))


def next_time(sharing: Sharing, now: float) -> float | None:
    """Return when to decide again if no command comes before; None where nothing becomes due."""
    times = [until for name in sharing.uses if now < (until := use_ends(sharing, name)) < math.inf]
    due = timers.next_time(sharing.scheduler, now)
    return min(times if due is None else [*times, due], default=None)


def use_ends(sharing: Sharing, model: str) -> float:
    """Return when the open use of a model ends by itself. With a timeout of 0 it doesn't: the end of the use is what
    isn't known."""
    policy = sharing.policies[model]
    if not policy.monitored or not policy.idle_timeout:
        return math.inf
    return sharing.uses[model].since + policy.idle_timeout


class _Deciding:
    """One decision while it is made."""

    def __init__(self, sharing: Sharing, now: float) -> None:
        self.sharing = sharing
        self.now = now
        self.effects: list[Effect] = []

    def carry_out(self, command: Command) -> None:
        match command:
            case Register():
                self._register(command)
            case Remove(model):
                self._remove(model)
            case Open(acquire):
                self.sharing = replace(self.sharing, opening=self.sharing.opening | {acquire.ticket})
                self._step(acquire)
            case EndUse(model):
                self._end_use(model)
            case Join(acquire, beside):
                self._join(acquire, beside)
            case Arrived():
                self._arrived(command)
            case Finished():
                self._step(command)
                self._forgive(command.model)
            case Cancel(ticket):
                self.sharing = replace(self.sharing, opening=self.sharing.opening - {ticket})
                self._step(command)
            case _:
                self._step(command)

    def end_uses(self) -> None:
        for model in tuple(self.sharing.uses):
            if use_ends(self.sharing, model) <= self.now:
                self._end_use(model)

    def _step(self, command: commands.Command) -> None:
        state, effects = scheduler.decide(self.sharing.scheduler, command, self.now)
        self.sharing = replace(self.sharing, scheduler=state)
        for effect in effects:
            if isinstance(effect, WakeAt):
                continue
            if isinstance(effect, ProbeMemory):
                # What other processes hold is no part of the budget: they are other programs' business.
                self._step(MemoryProbed(0))
                continue
            self.effects.append(effect)
            if isinstance(effect, Grant | Reject) and effect.ticket in self.sharing.opening:
                self.sharing = replace(self.sharing, opening=self.sharing.opening - {effect.ticket})
                if isinstance(effect, Grant):
                    self._opened(effect.model, effect.ticket)

    def _put(self, model: Model) -> None:
        state = self.sharing.scheduler
        self.sharing = replace(
            self.sharing, scheduler=replace(state, models={**state.models, model.name: model})
        )

    def _opened(self, model: str, ticket: int) -> None:
        """Let the newest call's lease stand for all calls of `get_model`."""
        before = self.sharing.uses.get(model)
        uses = {**self.sharing.uses, model: OpenUse(ticket, self.now)}
        self.sharing = replace(self.sharing, uses=uses)
        if before is not None:
            self._step(Release(before.ticket))

    def _end_use(self, name: str) -> None:
        use = self.sharing.uses.get(name)
        if use is None:
            return
        uses = {model: each for model, each in self.sharing.uses.items() if model != name}
        self.sharing = replace(self.sharing, uses=uses)
        # Idle since it was used last, not since that was found out: its timer is due at once.
        model = self.sharing.scheduler.models[name]
        leases = {ticket: since for ticket, since in model.leases.items() if ticket != use.ticket}
        self._put(replace(model, leases=leases))
        self._step(Tick())

    def _register(self, command: Register) -> None:
        known = self.sharing.scheduler.models.get(command.model)
        policy = command.policy.of_scheduler
        policies = {**self.sharing.policies, command.model: command.policy}
        self.sharing = replace(self.sharing, policies=policies)
        if known is None:
            known = Model(command.model, policy, command.size_bytes, since=self.now, last_activity=self.now)
        self._put(replace(known, policy=policy))
        effective = self.sharing.scheduler.effective
        of_all = {**effective.models, command.model: policy}
        self._step(Apply(replace(effective, models=of_all)))

    def _remove(self, name: str) -> None:
        model = self.sharing.scheduler.models.get(name)
        if model is None or model.state is not State.UNLOADED or model.waiting or model.running:
            return
        state = self.sharing.scheduler
        models = {each: known for each, known in state.models.items() if each != name}
        effective = replace(
            state.effective,
            models={each: known for each, known in state.effective.models.items() if each != name},
        )
        policies = {each: known for each, known in self.sharing.policies.items() if each != name}
        state = replace(state, models=models, effective=effective)
        self.sharing = replace(self.sharing, scheduler=state, policies=policies)

    def _join(self, acquire: Acquire, beside: int) -> None:
        model = self.sharing.scheduler.models.get(acquire.model)
        if model is None or beside not in model.leases:
            self._step(acquire)
            return
        self._put(replace(model, leases={**model.leases, acquire.ticket: self.now}, last_activity=self.now))
        assert model.worker is not None
        self.effects.append(Grant(acquire.ticket, model.name, model.worker))

    def _arrived(self, command: Arrived) -> None:
        model = self.sharing.scheduler.models.get(command.model)
        if model is None or model.running is None or model.running.serial != command.serial:
            return
        fits = self._free_bytes(without=model) >= command.size_bytes
        if not command.size_bytes or (command.on_device and fits):
            footprint = Footprint(device_bytes=command.size_bytes, host_bytes=command.host_bytes)
            self.carry_out(Finished(command.model, command.serial, footprint))
            return
        model = replace(
            model,
            state=State.READY if command.on_device else State.OFFLOADED,
            since=self.now,
            running=None,
            declared_bytes=None,
            measured_bytes=command.size_bytes,
            footprint=Footprint(host_bytes=command.host_bytes),
            last_activity=self.now,
            loads=model.loads + 1,
            last_load_seconds=self.now - model.running.since,
        )
        transaction = Transaction(self.sharing.scheduler, self.now)
        transaction.put(model)
        if command.on_device:
            transaction.enter(model, Event.OFFLOAD, "the budget has no place for it yet")
        self.sharing = replace(self.sharing, scheduler=transaction.state)
        self.effects.extend(transaction.effects)
        self._step(Tick())

    def _free_bytes(self, without: Model) -> float:
        state = self.sharing.scheduler
        if state.budget_bytes is None:
            return math.inf
        return state.budget_bytes - sum(
            each.charged_bytes for each in state.models.values() if each.name != without.name
        )

    def _forgive(self, name: str) -> None:
        """Let the next request try again at once: the caller's program decides how often it calls a load function that
        fails. A size is believed until it is measured."""
        model = self.sharing.scheduler.models.get(name)
        if model is None:
            return
        measured = None if model.measured_bytes else model.declared_bytes
        if (model.failures, model.retry_at, model.declared_bytes) != (0, 0.0, measured):
            self._put(replace(model, failures=0, retry_at=0.0, declared_bytes=measured))
