"""Stories of models that share the device's memory."""

from ocr_inference.config.settings import Queue
from ocr_inference.protocol.engine import Footprint
from ocr_inference.scheduling.commands import Release
from ocr_inference.scheduling.lifecycle import Event
from ocr_wire.states import State
from tests.support.story import Story, policy


def test_idle_models_make_room_at_once_least_recently_used_first() -> None:
    story = Story({name: policy() for name in "abc"}, budget=20)
    story.do(Release(story.make_ready("a")))
    story.now = 1
    story.do(Release(story.make_ready("b")))
    story.now = 2
    ticket = story.ask("c")
    assert story.started[-1] == "offload a"
    story.end("a")
    assert story.started[-1] == "load c", "only when the memory is free"
    story.end("c")
    assert story.granted(ticket)


def test_steady_traffic_cannot_starve_a_waiter_beyond_its_patience() -> None:
    story = Story({"a": policy(), "b": policy()}, budget=10, queue=Queue(64, 10, 300))
    holding = story.make_ready("a")
    story.now = 1
    starving = story.ask("b")
    for second in range(2, 11):
        story.wait_until(second)
        following = story.ask("a")
        assert story.granted(following), "before the patience ends, nobody pays"
        story.do(Release(holding))
        holding = following
    story.wait_until(11)
    late = story.ask("a")
    assert not story.granted(late), "the door is closed"
    story.do(Release(holding))
    assert story.started[-1] == "offload a"
    story.end("a")
    story.end("b")
    assert story.granted(starving)


def test_the_more_important_evicts_at_once_the_less_important_waits_its_patience() -> None:
    story = Story({"low": policy(), "high": policy(priority=1)}, budget=10)
    held = story.make_ready("low")
    story.ask("high")
    assert not story.granted(story.ask("low")), "the door closed for the higher one"
    story.do(Release(held))
    assert story.started[-1] == "offload low"
    story = Story({"low": policy(), "high": policy(priority=1)}, budget=10)
    story.do(Release(story.make_ready("high")))
    story.ask("low")
    story.wait_until(9.9)
    assert story.state("high") is State.READY
    story.wait_until(10)
    assert story.state("high") is State.OFFLOADING


def test_an_impatient_waiter_for_much_memory_is_not_overtaken_by_small_ones() -> None:
    story = Story({name: policy() for name in "abc"}, {"a": 10, "b": 20, "c": 10}, budget=20)
    holding = story.make_ready("a")
    story.ask("b")
    story.wait_until(10)
    story.ask("c")
    assert story.state("c") is State.UNLOADED, "c would fit, but the memory is b's"
    story.do(Release(holding))
    story.end("a")
    assert story.state("b") is State.LOADING


ASLEEP = Footprint(device_bytes=2, host_bytes=8)
"""Of an offloaded model whose engine keeps something on the device."""


def asleep(sizes: dict[str, int], budget: int) -> Story:
    """A story in which `a` sleeps, and holds 2 of the device."""
    story = Story({name: policy() for name in sizes}, sizes, budget, owned=sizes)
    story.do(Release(story.make_ready("a")))
    story.admin(Event.OFFLOAD, "a")
    story.end("a", ASLEEP)
    return story


def test_what_stays_of_a_sleeping_model_is_no_memory_of_others_and_not_needed_again() -> None:
    story = asleep({"a": 10}, budget=10)
    story.others = 0
    story.ask("a")
    assert story.started[-1] == "restore a"
    assert story.scheduler_state.models["a"].waits_for is None


def test_a_model_that_fits_beside_what_stays_leaves_the_sleeping_one_alone() -> None:
    story = asleep({"a": 10, "b": 8}, budget=10)
    story.ask("b")
    assert story.started[-1] == "load b"
    assert story.state("a") is State.OFFLOADED


def test_a_model_that_does_not_has_the_sleeping_one_unloaded_first() -> None:
    story = asleep({"a": 10, "b": 9}, budget=10)
    story.ask("b")
    assert story.started[-1] == "unload a"
    story.end("a")
    assert story.started[-1] == "load b", "only when the memory is free"
