"""Holds one decision while it is made: the state while it changes, and the effects, in order.

Deciders write through it: it keeps together what has to happen together (a state with its call, a refused waiter
with its answer), and doesn't know when or why.
"""

from collections.abc import Collection
from dataclasses import replace

from ocr_inference.scheduling import lifecycle
from ocr_inference.scheduling.lifecycle import CALLS, Event
from ocr_inference.scheduling.state import (
    Done,
    Effect,
    Model,
    Refusal,
    Reject,
    Running,
    SchedulerState,
    StartCall,
)
from ocr_inference.scheduling.waiter_queue import Waiter
from ocr_wire.states import State


class Transaction:
    """The only mutable scheduler state; `state` has what was put so far. Lives as long as one decision."""

    def __init__(self, state: SchedulerState, now: float) -> None:
        self.models = dict(state.models)
        self.state = replace(state, models=self.models)
        self.now = now
        self.effects: list[Effect] = []

    def each(self) -> tuple[Model, ...]:
        """Return the models as they are now; a loop over them may `put` changed ones."""
        return tuple(self.models.values())

    def put(self, model: Model) -> Model:
        self.models[model.name] = model
        return model

    def enter(self, model: Model, event: Event, why: str) -> Model:
        """Make a transition. A transient state starts its call; a lasting one answers the tickets that requested it."""
        entered = lifecycle.advance(model.state, event)
        tickets = model.running.tickets if model.running else ()
        admin_request = model.admin_request
        if admin_request and (
            entered is State.UNLOADING
            or (entered is State.OFFLOADING and admin_request.event is Event.OFFLOAD)
        ):
            tickets, admin_request = (*tickets, *admin_request.tickets), None
        unloading_from = model.unloading_from if entered is State.FAILED else None
        running, worker = None, model.worker
        if entered in CALLS:
            serial = self._next_serial()
            if entered in (State.LOADING, State.RESTORING) and worker is None:
                worker = serial
            running = Running(CALLS[entered], serial, self.now, tickets)
            self.effects.append(StartCall(model.name, running.call, serial, worker, why))
        else:
            self.effects.extend(Done(ticket) for ticket in tickets)
        if entered is State.UNLOADING:
            unloading_from = model.state
        if admin_request is not model.admin_request:
            model = model.with_request(admin_request)
        model = replace(model, state=entered, since=self.now, unloading_from=unloading_from, progress=None)
        return self.put(replace(model, running=running, worker=worker))

    def exit_worker(self, model: Model, why: str, *, stand_by: bool) -> None:
        """End the worker of an offloaded model, whose weights stay in host memory: its state doesn't change. With
        `stand_by` the next one is started."""
        serial = self._next_serial()
        self.put(replace(model, running=Running("exit", serial, self.now)))
        self.effects.append(StartCall(model.name, "exit", serial, model.worker, why, stand_by))

    def reject(self, model: Model, waiters: Collection[Waiter], refusal: Refusal) -> Model:
        """Refuse these waiters of the model."""
        self.effects.extend(Reject(waiter.ticket, refusal) for waiter in waiters)
        return self.put(model.without(waiters))

    def _next_serial(self) -> int:
        self.state = replace(self.state, serial=self.state.serial + 1)
        return self.state.serial
