"""One decision in the making: the world while it changes, and the effects that go out, in order.

Whoever decides writes through this; it knows what has to happen together (a state with its call, a refused waiter
with its answer), not when or why.
"""

from collections.abc import Collection
from dataclasses import replace

from ocr_inference.scheduling import lifecycle
from ocr_inference.scheduling.lifecycle import CALLS, Event, State
from ocr_inference.scheduling.state import Effect, Model, Refusal, Reject, Running, Settled, StartCall, World


class Draft:
    """The only place where a world is mutable; `world` has what was put so far. Lives as long as one decision."""

    def __init__(self, world: World, now: float) -> None:
        self.models = dict(world.models)
        self.world = replace(world, models=self.models)
        self.now = now
        self.effects: list[Effect] = []

    def each(self) -> tuple[Model, ...]:
        """The models as they are now; steps over them may put others in their places."""
        return tuple(self.models.values())

    def put(self, model: Model) -> Model:
        self.models[model.name] = model
        return model

    def enter(self, model: Model, event: Event, why: str) -> Model:
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
            serial = self._next_serial()
            if state in (State.LOADING, State.RESTORING) and worker is None:
                worker = serial
            running = Running(CALLS[state], serial, self.now, tickets)
            self.effects.append(StartCall(model.name, running.call, serial, worker, why))
        else:
            self.effects.extend(Settled(ticket) for ticket in tickets)
        if state is State.UNLOADING:
            unloading_from = model.state
        model = replace(model, state=state, since=self.now, unloading_from=unloading_from, progress=None)
        return self.put(replace(model, running=running, worker=worker, asked=asked))

    def exit_worker(self, model: Model, why: str) -> None:
        """End the worker of a sleeping model, whose weights stay in host memory: no change of its state."""
        serial = self._next_serial()
        self.put(replace(model, running=Running("exit", serial, self.now)))
        self.effects.append(StartCall(model.name, "exit", serial, model.worker, why))

    def reject(self, model: Model, tickets: Collection[int], refusal: Refusal) -> Model:
        """Refuse those of the model's waiters."""
        rejected = [waiter for waiter in model.waiters if waiter.ticket in tickets]
        left = tuple(waiter for waiter in model.waiters if waiter.ticket not in tickets)
        self.effects.extend(Reject(waiter.ticket, refusal) for waiter in rejected)
        return self.put(replace(model, waiters=left))

    def _next_serial(self) -> int:
        self.world = replace(self.world, serial=self.world.serial + 1)
        return self.world.serial
