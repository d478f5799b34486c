"""Table of the states that one model's weights pass through.

Every transition is in `TRANSITIONS`; this module knows neither time nor memory nor requests.
An event names what is requested of the model or how its call ended, not why: the reason (idle, eviction, an
administrator, a crash) travels beside it.

Entering a transient state (`CALLS`) starts exactly one call, whose end is the next event: `DONE`, `FAIL`
or `UNDONE`.
`FAILED` is transient too: its call kills the worker, which frees the device whatever state the weights were in.
"""

from enum import StrEnum
from typing import Literal

from ocr_wire.states import Location, State


class Event(StrEnum):
    DEMAND = "demand"
    """A waiter needs the model, or it is preloaded."""
    OFFLOAD = "offload"
    UNLOAD = "unload"
    DONE = "done"
    """The state's call succeeded."""
    FAIL = "fail"
    """The state's call failed, or the worker died."""
    UNDONE = "undone"
    """The state's call failed because memory was lacking, and the weights are where they were."""


CallName = Literal["load", "offload", "restore", "unload", "kill"]

TRANSITIONS: dict[State, dict[Event, State]] = {
    State.UNLOADED: {Event.DEMAND: State.LOADING},
    State.LOADING: {Event.DONE: State.READY, Event.UNDONE: State.UNLOADED, Event.FAIL: State.UNLOADING},
    State.READY: {
        Event.OFFLOAD: State.OFFLOADING,
        Event.UNLOAD: State.UNLOADING,
        Event.FAIL: State.UNLOADING,
    },
    State.OFFLOADING: {Event.DONE: State.OFFLOADED, Event.FAIL: State.UNLOADING},
    State.OFFLOADED: {Event.DEMAND: State.RESTORING, Event.UNLOAD: State.UNLOADING},
    State.RESTORING: {
        Event.DONE: State.READY,
        Event.UNDONE: State.OFFLOADED,
        Event.FAIL: State.UNLOADING,
    },
    State.UNLOADING: {Event.DONE: State.UNLOADED, Event.FAIL: State.FAILED},
    State.FAILED: {Event.DONE: State.UNLOADED},
}

CALLS: dict[State, CallName] = {
    State.LOADING: "load",
    State.OFFLOADING: "offload",
    State.RESTORING: "restore",
    State.UNLOADING: "unload",
    State.FAILED: "kill",
}
"""The one call that entering a transient state starts."""


class IllegalTransition(Exception):
    """Event that the table doesn't have in this state; nothing has changed."""


def advance(state: State, event: Event) -> State:
    """Return the state after `event`; raises `IllegalTransition` where the table has no arrow."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        known = ", ".join(TRANSITIONS[state])
        raise IllegalTransition(f"{event.value!r} in state {state.value!r}; it knows {known}") from None


def location(state: State, *, on_gpu: bool, unloading_from: State | None = None) -> Location:
    """Return where the weights are; in a transient state, where they still are.

    `on_gpu` is whether a ready model occupies a GPU (real or simulated) or host memory. `unloading_from` is
    the state in which the unloading began, since that decides what is still there.
    """
    ready = Location.GPU if on_gpu else Location.CPU
    match state:
        case State.UNLOADED | State.LOADING | State.FAILED:
            return Location.UNLOADED
        case State.UNKNOWN:
            return Location.UNKNOWN  # a word of readers: no model here is in it
        case State.READY | State.OFFLOADING:
            return ready
        case State.OFFLOADED | State.RESTORING:
            return Location.CPU
        case State.UNLOADING:
            if unloading_from is None or unloading_from is State.UNLOADING:
                return ready
            return location(unloading_from, on_gpu=on_gpu)


def mermaid() -> str:
    """Render the table as a Mermaid state diagram for the documentation."""
    arrows = [
        f"    {state.value} --> {after.value}: {event.value}"
        for state, events in TRANSITIONS.items()
        for event, after in events.items()
    ]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.UNLOADED.value}", *arrows])


def markdown() -> str:
    """Render the table as a Markdown table for the documentation."""
    rows = ["| state | its call | events |", "| --- | --- | --- |"]
    for state, events in TRANSITIONS.items():
        arrows = ", ".join(f"{event.value} → {after.value}" for event, after in events.items())
        rows.append(f"| `{state.value}` | {CALLS.get(state, '')} | {arrows} |")
    return "\n".join(rows)
