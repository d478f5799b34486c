"""Stories of calls that end well or badly, of workers that die, and of second tries."""

from dataclasses import replace

import pytest

from ocr_inference.config.settings import Idle, ModelPolicy
from ocr_inference.protocol.engine import Failure, FailureKind
from ocr_inference.scheduling import outcomes
from ocr_inference.scheduling.commands import Cancel, Finished, MemoryProbed, Release, WorkerDied
from ocr_inference.scheduling.lifecycle import Event
from ocr_inference.scheduling.state import LeaseLost, Reason, Reject
from ocr_wire.states import State
from tests.support.story import BROKEN, DIED, NO_ROOM, Story, asleep, policy


def test_the_revision_is_kept_once_it_was_loaded_and_forgotten_before() -> None:
    story = Story()
    story.ask()
    story.tell(0, "first")
    assert story.scheduler_state.models["a"].revision == "first"
    story.end(outcome=BROKEN)
    assert story.scheduler_state.models["a"].revision is None
    story.end()
    story.ask()
    story.tell(0, "second")
    story.tell(1)
    story.end()
    assert story.scheduler_state.models["a"].revision == "second"
    story.do(Release(2))
    story.admin(Event.UNLOAD)
    story.end()
    story.ask()
    story.end(outcome=BROKEN)
    assert story.scheduler_state.models["a"].revision == "second"


def test_a_model_remembers_how_long_its_last_load_and_wake_took() -> None:
    story = Story({"a": policy(Idle(0, -1, -1))})
    ticket = story.ask()
    story.now += 7
    story.end()
    assert story.granted(ticket)
    story.do(Release(ticket))
    story.end()
    story.ask()
    story.now += 2
    story.end()
    model = story.scheduler_state.models["a"]
    assert (model.last_load_seconds, model.last_wake_seconds) == (7, 2)


def test_a_failing_load_rejects_its_waiters_and_is_not_repeated_by_itself() -> None:
    story = Story()
    tickets = [story.ask(), story.ask()]
    story.end(outcome=BROKEN)
    assert [story.refused(ticket) for ticket in tickets] == [Reason.LOAD_FAILED] * 2
    story.end()
    story.wait_until(10_000)
    assert story.started == ["load a", "unload a"]
    failure = story.scheduler_state.models["a"].last_failure
    assert failure is not None
    assert (failure.reason, failure.message) == ("LoadFailed", "no such file")


def test_an_unload_that_fails_after_a_load_leaves_the_loads_failure() -> None:
    story = Story()
    story.ask()
    story.now += 1
    story.end(outcome=BROKEN)
    story.now += 1
    story.end(outcome=Failure(kind=FailureKind.FAILED, message="nothing to unload"))
    failure = story.scheduler_state.models["a"].last_failure
    assert failure is not None
    assert (failure.reason, failure.message) == ("LoadFailed", "no such file")


def test_an_unload_that_fails_by_itself_is_the_last_failure() -> None:
    story = Story()
    story.ask()
    story.end(outcome=BROKEN)
    story.end()
    story.now += 5
    ticket = story.make_ready()
    story.do(Release(ticket))
    story.now += 5
    story.admin(Event.UNLOAD)
    story.end(outcome=Failure(kind=FailureKind.FAILED, message="won't go"))
    failure = story.scheduler_state.models["a"].last_failure
    assert failure is not None
    assert (failure.reason, failure.message) == ("UnloadFailed", "won't go")


def test_a_model_whose_engine_is_missing_is_never_loaded() -> None:
    story = Story({"a": policy(preload=True)})
    missing = replace(story.scheduler_state.models["a"], unusable="engine x lacks y", state=State.UNLOADED)
    story.scheduler_state = replace(
        story.scheduler_state, models={"a": replace(missing, running=None, worker=None)}
    )
    story.started.clear()
    ticket = story.ask()
    assert story.refused(ticket) is Reason.ENGINE_MISSING
    answer = story.answers[ticket]
    assert isinstance(answer, Reject)
    assert answer.refusal.message == "model a can't be loaded: engine x lacks y"
    story.wait_until(10_000)
    assert story.started == []


def test_loads_that_go_on_failing_back_off() -> None:
    story = Story()
    for failures in range(1, 9):
        story.ask()
        assert story.state() is State.LOADING
        story.end(outcome=BROKEN)
        story.end()
        delay = outcomes.retry_delay(failures)
        if delay:
            refused = story.ask()
            assert story.refused(refused) is Reason.LOAD_FAILED
            answer = story.answers[refused]
            assert isinstance(answer, Reject)
            assert answer.refusal.retry_after_seconds == delay
        story.now += delay
    assert outcomes.retry_delay(1) == 0
    assert outcomes.retry_delay(100) == outcomes.MAX_RETRY_SECONDS


def test_success_forgets_failures() -> None:
    story = Story()
    story.ask()
    story.end(outcome=BROKEN)
    story.end()
    story.make_ready()
    assert story.scheduler_state.models["a"].failures == 0


def test_a_killed_worker_revokes_its_leases_and_waiters_load_again() -> None:
    story = Story(max_pages=1)
    held, waiting = story.ask(), story.ask()
    story.end()
    worker = story.scheduler_state.models["a"].worker
    assert worker is not None
    effects = story.do(WorkerDied("a", worker, DIED))
    assert LeaseLost(held) in effects
    assert story.started[-1] == "unload a"
    story.end()
    assert story.started[-1] == "load a"
    story.end()
    assert story.granted(waiting)
    failure = story.scheduler_state.models["a"].last_failure
    assert failure is not None
    assert (failure.reason, failure.exit_code) == ("WorkerDied", -9)


def test_a_worker_killed_in_its_sleep_leaves_the_weights_in_host_memory() -> None:
    story = Story()
    story.do(Release(story.make_ready()))
    story.admin(Event.OFFLOAD)
    story.end()
    worker = story.scheduler_state.models["a"].worker
    assert worker is not None
    story.do(WorkerDied("a", worker, DIED))
    assert story.state() is State.OFFLOADED
    assert story.scheduler_state.models["a"].worker is None
    story.ask()
    assert story.started[-1] == "restore a"


def test_news_of_an_older_worker_changes_nothing() -> None:
    story = Story()
    story.make_ready()
    before = story.scheduler_state
    story.do(WorkerDied("a", 999, DIED))
    story.do(Finished("a", 999, BROKEN))
    assert story.scheduler_state == before


def test_a_restore_without_room_has_others_make_way_and_is_tried_once_more() -> None:
    story = asleep("a", "b")
    ticket = story.ask("z")
    story.end("z", NO_ROOM)
    assert story.state("z") is State.OFFLOADED
    assert story.started[-1] == "exit z", "what the attempt left on the device goes with its worker"
    assert story.state("a") is State.READY
    story.end("z")
    assert story.started[-1] == "offload a", "the least recently used, and as many as are needed"
    assert story.state("z") is State.OFFLOADED
    story.end("a")
    assert story.started[-1] == "restore z"
    story.end("z")
    assert story.granted(ticket)
    assert story.scheduler_state.models["z"].blocked_on == frozenset()
    assert story.state("b") is State.READY
    failure = story.scheduler_state.models["z"].last_failure
    assert failure is not None
    assert failure.reason == "OutOfMemory"


def test_a_second_try_without_room_ends_the_worker_and_answers() -> None:
    story = asleep("a")
    ticket = story.ask("z")
    story.end("z", NO_ROOM)
    story.end("z")
    story.end("a")
    story.end("z", NO_ROOM)
    assert story.refused(ticket) is Reason.OUT_OF_MEMORY, "nothing holds memory that waiting would free"
    assert (story.state("z"), story.started[-1]) == (State.OFFLOADED, "exit z")
    story.end("z")
    assert story.scheduler_state.models["z"].worker is None
    story.ask("z")
    assert story.started[-1] == "restore z", "host memory still has the weights"


def test_host_memory_that_ran_out_may_be_free_later() -> None:
    """Nobody is told to free the GPU for it, and to ask again helps."""
    failure = Failure(kind=FailureKind.OUT_OF_MEMORY, message="out of host memory", of_host=True)
    story = Story()
    ticket = story.ask()
    story.end(outcome=failure)
    assert story.refused(ticket) is Reason.LOAD_FAILED


@pytest.mark.parametrize("other", [policy(priority=1), policy(preload=True)])
def test_whom_nobody_may_send_away_makes_no_way(other: ModelPolicy) -> None:
    story = asleep("a", a=other)
    ticket = story.ask("z")
    story.end("z", NO_ROOM)
    assert story.refused(ticket) is Reason.LOAD_FAILED
    story.end("z")
    assert story.state("a") is State.READY


def test_a_busy_model_makes_way_for_a_more_important_one_when_its_leases_end() -> None:
    story = asleep("a", z=policy(priority=1))
    held = story.ask("a")
    ticket = story.ask("z")
    story.end("z", NO_ROOM)
    story.end("z")
    behind = story.ask("a")
    assert not story.granted(behind), "the door is closed"
    story.do(Release(held))
    assert story.started[-1] == "offload a"
    story.end("a")
    story.end("z")
    assert story.granted(ticket)
    assert story.granted(behind) or story.state("a") is State.RESTORING


def test_a_load_without_room_is_tried_once_more_too() -> None:
    story = Story({"a": policy(), "z": policy()})
    story.do(Release(story.make_ready("a")))
    ticket = story.ask("z")
    story.end("z", NO_ROOM)
    assert story.started[-1] == "unload z"
    story.end("z")
    assert story.started[-1] == "offload a"
    story.end("a")
    assert story.started[-1] == "load z"
    story.end("z")
    assert story.granted(ticket)


def test_nobody_makes_way_for_a_model_that_nobody_waits_for_any_more() -> None:
    story = asleep("a")
    ticket = story.ask("z")
    story.end("z", NO_ROOM)
    story.do(Cancel(ticket))
    story.end("z")
    assert story.state("a") is State.READY
    assert story.scheduler_state.models["z"].blocked_on == frozenset()


def test_what_a_failed_attempt_held_is_not_taken_for_others() -> None:
    story = asleep("a")
    story.scheduler_state = replace(story.scheduler_state, budget_bytes=20)
    story.ask("z")
    story.do(MemoryProbed(9))
    story.end("z", NO_ROOM)
    story.end("z")
    assert story.scheduler_state.external_bytes == story.others == 0
    assert story.scheduler_state.models["z"].waits_for is None
