"""Stories of a device that others use, too."""

import pytest

from ocr_inference.config.settings import ModelPolicy, Queue
from ocr_inference.scheduling import external_usage
from ocr_inference.scheduling.commands import Finished, MemoryProbed, Release
from ocr_inference.scheduling.lifecycle import Event
from ocr_inference.scheduling.state import Done, NotBegun, Reason, Reject, WaitsFor
from ocr_wire.states import State
from tests.support.story import NO_ROOM, Story, policy


def crowded(others: int = 10, **policies: ModelPolicy) -> Story:
    """A story on a device of 20 of which others hold so much; every model takes 10."""
    story = Story({name: policies.get(name, policy()) for name in policies or ("a", "b")}, budget=20)
    story.others = others
    return story


def test_a_waiter_whose_memory_others_hold_waits_says_so_and_goes_on_when_it_is_free() -> None:
    story = crowded(others=15)
    ticket = story.ask("a")
    assert story.started == []
    assert story.scheduler_state.models["a"].waits_for == WaitsFor(needed_bytes=10, free_bytes=5, since=0.0)
    story.wait_until(0.55)
    assert story.scheduler_state.models["a"].waits_for == WaitsFor(10, 5, 0.0), "nothing ticks"
    story.others = 10
    story.wait_until(0.65)
    assert story.started == ["load a"], "it looks again by itself"
    assert story.scheduler_state.models["a"].waits_for is None
    story.end("a")
    assert story.granted(ticket)


def test_nobody_looks_at_the_others_while_nobody_waits() -> None:
    story = crowded(others=10)
    story.do(Release(story.make_ready("a")))
    probes = story.probes
    story.wait_until(100)
    story.do(Release(story.ask("a")))
    assert (story.probes, story.wake_at) == (probes, None)


def test_ones_own_idle_models_go_before_others_are_waited_for() -> None:
    story = crowded(others=10)
    story.do(Release(story.make_ready("a")))
    story.ask("b")
    assert story.started[-1] == "offload a"
    assert story.scheduler_state.models["b"].waits_for is None
    story = Story({"a": policy(), "b": policy()}, {"a": 5, "b": 15}, budget=20)
    story.do(Release(story.make_ready("a")))
    story.others = 10
    story.now = 1
    story.ask("b")
    assert story.started == ["load a"], "nobody goes in vain"
    assert story.scheduler_state.models["b"].waits_for == WaitsFor(15, 10, 1), (
        "5 are free, and 5 would be given by a"
    )


def test_who_waits_for_a_model_of_its_own_pod_waits_for_nobody_else() -> None:
    story = crowded(others=0)
    story.make_ready("a")
    second = story.ask("b")
    story.end("b")
    assert story.granted(second)
    story = Story({"a": policy(), "b": policy()}, budget=15)
    story.others = 3
    story.make_ready("a")
    story.ask("b")
    assert story.scheduler_state.models["b"].waits_for is None, "without others it wouldn't fit either"


@pytest.mark.parametrize(("patience", "when"), [(7.0, 7.0), (0.0, external_usage.MIN_HELP_SECONDS)])
def test_a_waiter_that_nobody_helps_is_refused_with_the_way_out(patience: float, when: float) -> None:
    story = Story({"a": policy()}, budget=20, queue=Queue(64, patience, 300))
    story.others = 15
    ticket = story.ask()
    story.wait_until(when - 0.01)
    assert ticket not in story.answers
    story.wait_until(when)
    answer = story.answers[ticket]
    assert isinstance(answer, Reject)
    assert answer.refusal.reason is Reason.GPU_MEMORY
    assert answer.refusal.retry_after_seconds is not None
    assert answer.refusal.message.startswith(
        "model a needs 10 bytes of GPU memory, 5 are free, and other processes hold 15: try again"
    )
    assert story.scheduler_state.models["a"].waits_for is None
    assert story.wake_at is None


def test_a_deadline_that_passes_while_others_hold_the_memory_says_that() -> None:
    story = crowded(others=15)
    ticket = story.ask("a", deadline=3)
    story.wait_until(3)
    assert story.refused(ticket) is Reason.GPU_MEMORY


def test_a_race_that_is_lost_moves_nothing_and_waits() -> None:
    story = crowded(others=10)
    ticket = story.ask("a")
    running = story.scheduler_state.models["a"].running
    assert running is not None
    story.others = 20
    story.do(Finished("a", running.serial, NotBegun(20)))
    model = story.scheduler_state.models["a"]
    assert (model.state, model.worker, model.failures, model.last_failure) == (State.UNLOADED, None, 0, None)
    assert model.waits_for is not None
    assert ticket not in story.answers
    story.others = 0
    story.wait_until(0.2)
    story.end("a")
    assert story.granted(ticket)


def test_a_lost_race_keeps_the_worker_that_was_there_and_the_weights_in_host_memory() -> None:
    story = crowded(others=0)
    story.do(Release(story.make_ready("a")))
    story.admin(Event.OFFLOAD)
    story.end("a")
    worker = story.scheduler_state.models["a"].worker
    story.now = 1
    story.ask("a")
    story.end("a", NotBegun(20))
    assert (story.state("a"), story.scheduler_state.models["a"].worker) == (State.OFFLOADED, worker)


def test_a_device_that_others_filled_meanwhile_costs_a_waiter_one_more_try() -> None:
    story = crowded(others=0)
    ticket = story.ask("a")
    story.others = 15
    story.do(MemoryProbed(15))
    story.end("a", NO_ROOM)
    assert ticket not in story.answers
    story.end("a")
    assert story.scheduler_state.models["a"].waits_for is not None
    story.others = 0
    story.wait_until(0.2)
    story.do(MemoryProbed(15))
    story.end("a", NO_ROOM)
    assert story.refused(ticket) is Reason.LOAD_FAILED


def test_an_idle_model_makes_way_and_a_busy_one_does_not() -> None:
    story = Story({"a": policy(), "b": policy()})
    held = story.make_ready("a")
    busy = story.offload_if_idle("a")
    assert story.refused(busy) is Reason.MODEL_BUSY
    story.do(Release(held))
    assert story.refused(story.offload_if_idle("a", after=5)) is Reason.MODEL_BUSY
    story.now = 5
    gone = story.offload_if_idle("a", after=5)
    also = story.offload_if_idle("a")
    assert story.started[-1] == "offload a"
    assert {gone, also}.isdisjoint(story.answers), "not before the memory is free"
    story.end("a")
    for ticket in (gone, also, story.offload_if_idle("a"), story.offload_if_idle("b")):
        assert isinstance(story.answers[ticket], Done)
    story.ask("b")
    assert story.refused(story.offload_if_idle("b")) is Reason.MODEL_BUSY


def test_a_preloaded_model_that_made_way_comes_back_later_into_free_memory() -> None:
    story = crowded(others=0, a=policy(preload=True))
    story.end("a")
    story.offload_if_idle("a")
    story.end("a")
    story.wait_until(external_usage.PRELOAD_PAUSE_SECONDS - 1)
    assert story.started == ["load a", "offload a"]
    story.others = 20
    story.wait_until(external_usage.PRELOAD_PAUSE_SECONDS + 3)
    probes = story.probes
    assert story.started == ["load a", "offload a"], "others hold the memory"
    story.wait_until(external_usage.PRELOAD_PAUSE_SECONDS + 23)
    assert story.probes - probes <= 20 / external_usage.PRELOAD_PROBE_SECONDS + 1
    story.others = 0
    story.wait_until(external_usage.PRELOAD_PAUSE_SECONDS + 30)
    assert story.started[-1] == "restore a"
