"""Stories of models that share the device's memory."""

from ocr_inference.config.settings import Queue
from ocr_inference.scheduling.commands import Release
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
