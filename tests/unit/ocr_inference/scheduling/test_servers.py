"""Stories of models whose weights are in a server of their worker's: they can't be offloaded, or not outlive it."""

import pytest

from ocr_inference.config.settings import Idle
from ocr_inference.protocol.engine import Footprint
from ocr_inference.scheduling.commands import Release, WorkerDied
from ocr_inference.scheduling.lifecycle import Event
from ocr_inference.scheduling.state import Done
from ocr_wire.states import State
from tests.support.story import DIED, NO_ROOM, Story, policy


@pytest.mark.parametrize(
    ("idle", "when"), [(Idle(5, -1, -1), None), (Idle(5, 7, -1), 7), (Idle(5, 9, 8), 8), (Idle(-1, -1, 3), 3)]
)
def test_one_that_can_not_be_offloaded_stays_until_its_worker_or_its_weights_are_due(
    idle: Idle, when: float | None
) -> None:
    story = Story({"a": policy(idle)}, staying=["a"])
    story.do(Release(story.make_ready()))
    story.wait_until(1000 if when is None else when - 0.001)
    assert story.state() is State.READY
    if when is not None:
        story.wait_until(when)
        assert story.started == ["load a", "unload a"]


def test_the_end_of_a_worker_with_the_weights_is_an_unload() -> None:
    story = Story({"a": policy(Idle(5, 7, -1))}, owned=["a"])
    story.do(Release(story.make_ready()))
    story.wait_until(5)
    story.end()
    assert story.state() is State.OFFLOADED
    story.wait_until(7)
    assert story.started == ["load a", "offload a", "unload a"]


def test_a_worker_that_dies_takes_offloaded_weights_along() -> None:
    story = Story({"a": policy(Idle(5, -1, -1))}, owned=["a"])
    story.do(Release(story.make_ready()))
    story.wait_until(5)
    story.end()
    worker = story.scheduler_state.models["a"].worker
    assert worker is not None
    story.do(WorkerDied("a", worker, DIED))
    assert story.started[-1] == "unload a"
    story.end()
    assert story.state() is State.UNLOADED
    assert story.scheduler_state.models["a"].footprint == Footprint()
    ticket = story.ask()
    story.end()
    assert story.granted(ticket)
    assert story.started[-1] == "load a"


def test_a_wake_without_memory_ends_the_worker_and_with_it_the_weights() -> None:
    story = Story({"a": policy(Idle(5, -1, -1))}, owned=["a"])
    story.do(Release(story.make_ready()))
    story.wait_until(5)
    story.end()
    story.ask()
    story.end(outcome=NO_ROOM)
    assert story.started[-1] == "unload a"


def test_an_administrator_and_one_that_needs_the_memory_get_it_by_an_unload() -> None:
    story = Story({"a": policy(), "b": policy()}, budget=15, staying=["a"])
    story.do(Release(story.make_ready()))
    story.ask("b")
    assert story.started[-1] == "unload a"
    story.end("a")
    assert story.state("b") is State.LOADING
    story = Story(staying=["a"])
    story.do(Release(story.make_ready()))
    ticket = story.admin(Event.OFFLOAD)
    assert story.started[-1] == "unload a"
    story.end()
    assert isinstance(story.answers[ticket], Done)
    story.do(Release(story.make_ready()))
    story.offload_if_idle()
    assert story.started[-1] == "unload a"
