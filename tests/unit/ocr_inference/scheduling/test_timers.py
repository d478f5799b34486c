"""Stories of time: idle models leave, preloaded ones come back."""

from dataclasses import replace

import pytest

from ocr_inference.config.settings import Idle
from ocr_inference.scheduling import timers
from ocr_inference.scheduling.commands import Apply, Release
from ocr_inference.scheduling.lifecycle import Event
from ocr_inference.scheduling.state import Model, StartCall
from ocr_wire.states import State
from tests.support.story import BROKEN, Story, policy


def test_each_idle_timer_counts_from_the_last_activity() -> None:
    story = Story({"a": policy(Idle(60, 300, 1800))})
    story.do(Release(story.make_ready()))
    story.wait_until(50)
    story.do(Release(story.ask()))
    story.wait_until(109)
    assert story.state() is State.READY
    story.wait_until(110)
    assert story.state() is State.OFFLOADING
    story.end()
    story.wait_until(349)
    assert story.scheduler_state.models["a"].worker is not None
    story.wait_until(350)
    assert story.started[-1] == "exit a"
    story.end()
    assert story.scheduler_state.models["a"].worker is None
    assert story.state() is State.OFFLOADED
    story.wait_until(1849)
    assert story.state() is State.OFFLOADED
    story.wait_until(1850)
    assert story.started == ["load a", "offload a", "exit a", "unload a"]


def test_timers_need_no_order() -> None:
    released_first = Story({"a": policy(Idle(60, 300, 5))})
    released_first.do(Release(released_first.make_ready()))
    released_first.wait_until(5)
    assert released_first.started[-1] == "unload a"
    exit_only = Story({"a": policy(Idle(-1, 7, -1))})
    exit_only.do(Release(exit_only.make_ready()))
    exit_only.wait_until(7)
    exit_only.end()
    assert exit_only.started == ["load a", "offload a", "exit a"]


def test_a_timer_of_zero_waits_for_the_queue_but_for_nothing_else() -> None:
    story = Story({"a": policy(Idle(0, -1, -1))}, max_pages=1)
    first, second = story.ask(), story.ask()
    story.end()
    story.do(Release(first))
    assert story.granted(second)
    story.do(Release(second))
    assert story.started == ["load a", "offload a"]


def test_a_lease_pins_the_model_however_long() -> None:
    story = Story({"a": policy(Idle(1, 2, 3))})
    story.make_ready()
    story.wait_until(1000)
    assert story.state() is State.READY


@pytest.mark.parametrize(("after", "when"), [(20.0, 20.0), (5.0, 10.0), (200.0, 200.0)])
def test_changed_timers_count_from_the_last_activity(after: float, when: float) -> None:
    story = Story({"a": policy(Idle(60, -1, -1))})
    story.do(Release(story.make_ready()))
    story.wait_until(10)
    story.do(Apply(replace(story.effective, models={"a": policy(Idle(after, -1, -1))})))
    if when > story.now:
        story.wait_until(when - 0.001)
        assert story.state() is State.READY
        story.wait_until(when)
    assert story.state() is State.OFFLOADING


def test_switching_timers_off_while_running() -> None:
    story = Story({"a": policy(Idle(60, 60, 60))})
    story.do(Release(story.make_ready()))
    story.do(Apply(replace(story.effective, models={"a": policy()})))
    assert story.wake_at is None


def test_an_exited_model_is_restored_by_a_new_worker() -> None:
    story = Story({"a": policy(Idle(0, 0, -1))})
    story.do(Release(story.make_ready()))
    story.end()
    ticket = story.ask()
    assert story.started[-1] == "exit a", "the worker that is on its way out isn't used"
    story.end()
    assert story.started[-1] == "restore a"
    story.end()
    assert story.granted(ticket)
    assert story.scheduler_state.models["a"].wakes == 1


def test_preload_loads_ahead_stays_and_comes_back_after_an_eviction() -> None:
    story = Story(
        {"a": policy(Idle(1, 2, 3), preload=True), "b": policy(Idle(5, -1, -1), priority=1)}, budget=10
    )
    assert story.started == ["load a"]
    story.end("a")
    story.wait_until(100)
    assert story.state("a") is State.READY
    ticket = story.ask("b")
    story.end("a")
    story.end("b")
    story.do(Release(ticket))
    story.wait_until(105)
    story.end("b")
    assert story.started[-1] == "restore a"


def test_a_preloaded_model_that_was_sent_away_comes_back_with_a_request() -> None:
    story = Story({"a": policy(preload=True)})
    story.end()
    story.admin(Event.UNLOAD)
    story.end()
    story.wait_until(1000)
    assert story.state() is State.UNLOADED
    story.ask()
    assert story.state() is State.LOADING


def test_preloading_that_fails_backs_off() -> None:
    story = Story({"a": policy(preload=True)})
    story.end(outcome=BROKEN)
    story.end()
    assert story.state() is State.UNLOADED
    assert story.wake_at == 1.0
    story.wait_until(1)
    assert story.state() is State.LOADING


def has_standby(story: Story, name: str = "a") -> bool:
    return timers.has_standby(story.scheduler_state.models[name], story.now)


def test_a_process_is_kept_ready_from_the_start_on() -> None:
    story = Story({"a": policy(Idle(-1, -1, -1, 10))})
    assert has_standby(story)
    story.wait_until(10)
    assert not has_standby(story)
    assert not timers.keeps_forkserver(story.scheduler_state.models["a"], story.now)


def test_the_end_of_a_standby_is_decided_when_it_is_due() -> None:
    story = Story({"a": policy(Idle(-1, -1, -1, 10))})
    story.do(Release(story.make_ready()))
    assert story.wake_at == story.now + 10


@pytest.mark.parametrize(("drop", "stands_by"), [(300, True), (-1, True), (7, False), (0, False)])
def test_an_exited_model_has_a_standby_until_its_time(drop: float, stands_by: bool) -> None:
    story = Story({"a": policy(Idle(5, 7, -1, drop))})
    story.do(Release(story.make_ready()))
    story.wait_until(5)
    story.end()
    story.wait_until(7)
    (exit_call,) = [each for each in story.effects if isinstance(each, StartCall) and each.call == "exit"]
    assert exit_call.stand_by is stands_by
    story.end()
    assert has_standby(story) is stands_by
    story.wait_until(299)
    assert has_standby(story) is stands_by
    story.wait_until(300)
    assert has_standby(story) is (drop == -1)


def test_a_worker_keeps_the_forkserver_that_it_may_be_a_child_of() -> None:
    story = Story({"a": policy(Idle(-1, -1, -1, 10))})
    story.do(Release(story.make_ready()))
    story.wait_until(1000)
    assert not has_standby(story)
    assert timers.keeps_forkserver(story.scheduler_state.models["a"], story.now)


def test_a_release_ends_what_is_kept_until_the_model_is_asked_again() -> None:
    story = Story({"a": policy(Idle(-1, -1, 5, -1))})
    story.do(Release(story.make_ready()))
    story.wait_until(5)
    story.end()
    assert story.state() is State.UNLOADED
    assert not has_standby(story)
    story.ask()
    assert has_standby(story)


def test_a_model_that_can_never_be_loaded_keeps_nothing() -> None:
    broken = Model("a", policy(), unusable="its engine is missing")
    assert not timers.has_standby(broken, 0.0)
