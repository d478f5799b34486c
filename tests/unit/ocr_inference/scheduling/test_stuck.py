"""Stories of workers that don't end when they are killed, and of leases that are held for long."""

from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.config.settings import Idle
from ocr_inference.protocol.engine import Footprint
from ocr_inference.scheduling import stuck
from ocr_inference.scheduling.commands import Close, Finished, Release, WorkerDied, WorkerSurvived
from ocr_inference.scheduling.lifecycle import Event
from ocr_inference.scheduling.state import Model, Reason
from ocr_wire.states import State
from tests.support.story import BROKEN, DIED, Story, policy

HOPELESS = 100.0


def model(story: Story) -> Model:
    return story.scheduler_state.models["a"]


def unhealthy(story: Story) -> str | None:
    return stuck.unhealthy_reason(story.scheduler_state, HOPELESS)


def survive(story: Story, seconds: float) -> None:
    worker = model(story).worker
    assert worker is not None
    story.do(WorkerSurvived("a", worker, seconds))


def test_a_worker_that_does_not_end_is_stuck_since_it_was_killed() -> None:
    story = Story()
    story.make_ready()
    story.now = 50.0
    survive(story, 15.0)
    assert stuck.since(model(story)) == 35.0
    assert unhealthy(story) is None
    story.now = 500.0
    survive(story, HOPELESS)
    assert stuck.since(model(story)) == 35.0, "the machine was suspended meanwhile"
    assert stuck.ages(model(story), 501.0).stuck == 466.0
    assert "the worker of model a hasn't ended 100 seconds after it was killed" in str(unhealthy(story))


def test_its_end_heals_and_another_worker_of_the_model_is_not_stuck() -> None:
    story = Story()
    story.make_ready()
    survive(story, HOPELESS)
    dead = model(story).worker
    assert dead is not None
    story.do(WorkerDied("a", dead, DIED))
    assert (stuck.since(model(story)), unhealthy(story)) == (None, None)
    story.end()
    assert story.state() is State.UNLOADED
    story.make_ready()
    story.do(WorkerSurvived("a", dead, HOPELESS))
    assert (stuck.since(model(story)), unhealthy(story)) == (None, None)


def test_a_load_that_failed_keeps_its_stuck_worker_in_sight() -> None:
    story = Story()
    story.ask()
    story.end(outcome=BROKEN)
    story.end(outcome=BROKEN)
    assert story.state() is State.FAILED
    survive(story, HOPELESS)
    assert unhealthy(story)
    running = model(story).running
    assert running is not None
    story.do(Finished("a", running.serial, Footprint()))
    assert (stuck.since(model(story)), unhealthy(story)) == (None, None)


def test_requests_to_a_model_whose_worker_does_not_end_are_refused_until_it_has() -> None:
    story = Story(max_pages=1)
    story.make_ready()
    waiting = story.ask()
    survive(story, 15.0)
    assert story.refused(waiting) is Reason.LOAD_FAILED
    assert story.refused(story.ask()) is Reason.LOAD_FAILED
    dead = model(story).worker
    assert dead is not None
    story.do(WorkerDied("a", dead, DIED))
    story.end()
    assert story.granted(story.make_ready())


def test_a_server_that_drains_is_not_unhealthy() -> None:
    story = Story()
    story.make_ready()
    survive(story, HOPELESS)
    story.do(Close())
    assert unhealthy(story) is None


def test_long_loads_and_leases_do_not_make_a_server_unhealthy() -> None:
    story = Story()
    story.ask()
    story.wait_until(3600)
    assert unhealthy(story) is None
    story.make_ready()
    story.wait_until(7200)
    assert unhealthy(story) is None


def test_a_lease_is_reported_when_it_is_held_for_long() -> None:
    story = Story(max_pages=2)
    first = story.make_ready()
    story.now = 4.0
    second = story.ask()
    assert stuck.long_lease(model(story), 9.9) is None
    assert story.wake_at == 10.0, "then observers are to know"
    story.wait_until(10.0)
    assert stuck.long_lease(model(story), 10.0) == 0.0
    assert stuck.ages(model(story), 12.0) == stuck.Ages(oldest_lease=12.0, stuck=0.0)
    story.do(Release(first))
    assert stuck.long_lease(model(story), 12.0) is None
    assert story.wake_at == 14.0
    story.do(Release(second))
    assert stuck.oldest_lease(model(story)) is None


@given(st.lists(st.sampled_from(["survive", "hopeless", "die", "ask", "end", "fail", "release", "time"])))
def test_only_the_worker_that_a_model_has_is_stuck(steps: list[str]) -> None:
    story = Story({"a": policy(Idle(3, 5, 20))})
    for step in steps:
        now = model(story)
        match step:
            case "survive" | "hopeless" if now.worker is not None:
                survive(story, 15.0 if step == "survive" else HOPELESS)
            case "die" if now.worker is not None:
                story.do(WorkerDied("a", now.worker, DIED))
            case "ask":
                story.ask()
            case "end" | "fail" if now.running is not None:
                story.end(
                    outcome=BROKEN if step == "fail" and now.running.call not in ("kill", "exit") else None
                )
            case "release":
                story.admin(Event.UNLOAD)
            case _:
                story.wait_until(story.now + 7.0)
        since = stuck.since(model(story))
        assert since is None or (model(story).worker is not None and since <= story.now)
        assert unhealthy(story) is None or since is not None
