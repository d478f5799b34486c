"""The table of the life cycle: its stories, what it forbids, where weights are, and its picture in the docs."""

from itertools import product

import pytest

from ocr_inference.scheduling import lifecycle
from ocr_inference.scheduling.lifecycle import CALLS, TRANSITIONS, Event, IllegalTransition, advance
from ocr_wire.states import LOCATIONS_OF, STATES, Location, State
from tests.support.paths import DOCS

DOCUMENT = DOCS / "lifecycle.md"


def story(*events: Event) -> list[State]:
    states = [State.UNLOADED]
    for event in events:
        states.append(advance(states[-1], event))
    return states[1:]


def test_a_day_in_the_life() -> None:
    assert story(
        *(
            Event.DEMAND,
            Event.DONE,
            Event.OFFLOAD,
            Event.DONE,
            Event.DEMAND,
            Event.DONE,
            Event.UNLOAD,
            Event.DONE,
        )
    ) == [
        *(State.LOADING, State.READY, State.OFFLOADING, State.OFFLOADED, State.RESTORING, State.READY),
        *(State.UNLOADING, State.UNLOADED),
    ]


def test_what_fails_is_unloaded_and_what_cannot_be_unloaded_is_killed() -> None:
    assert story(Event.DEMAND, Event.FAIL, Event.FAIL, Event.DONE) == [
        *(State.LOADING, State.UNLOADING, State.FAILED, State.UNLOADED),
    ]


def test_every_arrow_is_the_published_one() -> None:
    arrows = {
        f"{s.name}: {e.name}→{after.name}" for s, events in TRANSITIONS.items() for e, after in events.items()
    }
    assert arrows == {
        "UNLOADED: DEMAND→LOADING",
        "LOADING: DONE→READY",
        "LOADING: UNDONE→UNLOADED",
        "LOADING: FAIL→UNLOADING",
        "READY: OFFLOAD→OFFLOADING",
        "READY: UNLOAD→UNLOADING",
        "READY: FAIL→UNLOADING",
        "OFFLOADING: DONE→OFFLOADED",
        "OFFLOADING: FAIL→UNLOADING",
        "OFFLOADED: DEMAND→RESTORING",
        "OFFLOADED: UNLOAD→UNLOADING",
        "RESTORING: DONE→READY",
        "RESTORING: UNDONE→OFFLOADED",
        "RESTORING: FAIL→UNLOADING",
        "UNLOADING: DONE→UNLOADED",
        "UNLOADING: FAIL→FAILED",
        "FAILED: DONE→UNLOADED",
    }


def test_exactly_the_states_with_a_call_wait_for_its_end() -> None:
    assert set(CALLS) == {state for state, events in TRANSITIONS.items() if Event.DONE in events}


@pytest.mark.parametrize(
    ("state", "event"), [p for p in product(STATES, Event) if p[1] not in TRANSITIONS[p[0]]]
)
def test_no_other_arrow_exists(state: State, event: Event) -> None:
    with pytest.raises(IllegalTransition, match=f"'{event.value}' in state '{state.value}'"):
        advance(state, event)


@pytest.mark.parametrize(
    ("state", "on_gpu", "on_cpu"),
    [
        (State.UNLOADED, Location.UNLOADED, Location.UNLOADED),
        (State.LOADING, Location.UNLOADED, Location.UNLOADED),
        (State.READY, Location.GPU, Location.CPU),
        (State.OFFLOADING, Location.GPU, Location.CPU),
        (State.OFFLOADED, Location.CPU, Location.CPU),
        (State.RESTORING, Location.CPU, Location.CPU),
        (State.FAILED, Location.UNLOADED, Location.UNLOADED),
    ],
)
def test_location(state: State, on_gpu: Location, on_cpu: Location) -> None:
    assert lifecycle.location(state, on_gpu=True) is on_gpu
    assert lifecycle.location(state, on_gpu=False) is on_cpu


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (State.LOADING, Location.UNLOADED),
        (State.READY, Location.GPU),
        (State.OFFLOADING, Location.GPU),
        (State.OFFLOADED, Location.CPU),
        (State.RESTORING, Location.CPU),
    ],
)
def test_while_unloading_the_weights_are_where_they_were(left: State, expected: Location) -> None:
    assert lifecycle.location(State.UNLOADING, on_gpu=True, unloading_from=left) is expected


def test_weights_are_where_the_wire_says_they_can_be() -> None:
    for state in STATES:
        for on_gpu in (True, False):
            assert lifecycle.location(state, on_gpu=on_gpu) in LOCATIONS_OF[state]


def test_the_document_shows_the_table() -> None:
    document = DOCUMENT.read_text()
    for generated in (lifecycle.markdown(), lifecycle.mermaid()):
        assert generated in document, f"docs/lifecycle.md lacks or outdates:\n{generated}"
