"""Stories of requests: who queues, who gets a lease, who is refused."""

from ocr_inference.config.settings import Queue
from ocr_inference.scheduling.commands import Cancel, Release
from ocr_inference.scheduling.state import Reason
from tests.support.story import Story, policy


def test_leases_are_granted_up_to_the_batch_and_then_in_order() -> None:
    story = Story(max_pages=2)
    first, second, third, fourth = (story.ask() for _ in range(4))
    story.end()
    assert [story.granted(ticket) for ticket in (first, second, third, fourth)] == [True, True, False, False]
    story.do(Release(second))
    assert story.granted(third)
    assert not story.granted(fourth)


def test_a_full_queue_refuses_and_a_ready_model_does_not_queue() -> None:
    story = Story({"a": policy(), "b": policy()}, queue=Queue(2, 10, 300))
    story.make_ready("a")
    waiting = [story.ask("b"), story.ask("b")]
    assert story.refused(story.ask("b")) is Reason.QUEUE_FULL
    assert story.granted(story.ask("a")), "nothing waits for a"
    assert story.refused(story.ask("a")) is Reason.QUEUE_FULL
    story.end("b")
    assert all(story.granted(ticket) for ticket in waiting)


def test_a_waiter_that_left_is_forgotten_and_one_that_was_granted_gives_back() -> None:
    story = Story()
    gone = story.ask()
    story.do(Cancel(gone))
    story.end()
    assert gone not in story.answers
    late = story.ask()
    story.do(Cancel(late))
    assert story.scheduler_state.models["a"].leases == {}


def test_deadlines_refuse_the_late_only() -> None:
    story = Story()
    early, patient = story.ask(deadline=5), story.ask()
    story.wait_until(5)
    assert story.refused(early) is Reason.DEADLINE
    assert patient not in story.answers
    story.wait_until(300)
    assert story.refused(patient) is Reason.DEADLINE


def test_unknown_models_and_models_that_never_fit_are_refused_at_once() -> None:
    story = Story(sizes={"a": 11}, budget=10)
    assert story.refused(story.ask("x")) is Reason.UNKNOWN_MODEL
    assert story.refused(story.ask("a")) is Reason.NO_FIT
    assert story.started == []
