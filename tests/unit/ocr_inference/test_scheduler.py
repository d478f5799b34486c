"""Decisions: example stories first, then a machine that tries any order of commands."""

import math
from dataclasses import replace

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ocr_inference import neighbours, outcomes, scheduler
from ocr_inference.engine import Failure, FailureKind, Footprint, Progress
from ocr_inference.lifecycle import CALLS, Event, State
from ocr_inference.settings import Batching, Effective, Idle, ModelPolicy, Queue
from ocr_inference.world import (
    Acquire,
    Apply,
    Ask,
    Cancel,
    Close,
    Closed,
    Command,
    Effect,
    Finished,
    Grant,
    Look,
    Model,
    NoRoom,
    Observed,
    Progressed,
    Reason,
    Reject,
    Release,
    Revoke,
    Settled,
    StartCall,
    Tick,
    WaitsFor,
    WakeAt,
    WorkerDied,
    World,
    Yield,
)

DIED = Failure(kind=FailureKind.WORKER_DIED, message="killed", exit_code=-9)
BROKEN = Failure(kind=FailureKind.FAILED, message="no such file")
NO_ROOM = Failure(kind=FailureKind.OUT_OF_MEMORY, message="the device is full")
NEVER = Idle(-1, -1, -1)


def policy(idle: Idle = NEVER, priority: int = 0, preload: bool = False) -> ModelPolicy:
    return ModelPolicy(idle, priority, preload)


class Story:
    """A world in which engine calls take as long as the test wants."""

    def __init__(
        self,
        policies: dict[str, ModelPolicy] | None = None,
        sizes: dict[str, int] | None = None,
        budget: int | None = None,
        queue: Queue | None = None,
        max_pages: int = 2,
    ) -> None:
        policies = policies or {"a": policy()}
        self.effective = Effective(Batching(max_pages, 0), queue or Queue(64, 10, 300), "info", policies)
        models = {
            name: Model(name, each, declared_bytes=(sizes or {}).get(name, 10))
            for name, each in policies.items()
        }
        self.world = World(models, self.effective, budget)
        self.now = 0.0
        self.ticket = 0
        self.started: list[str] = []
        self.wake_at: float | None = None
        self.others = 0
        self.looks = 0
        self.answers: dict[int, Effect] = {}
        self.effects: list[Effect] = []
        self.do(Tick())

    def do(self, command: Command) -> list[Effect]:
        self.world, effects = scheduler.decide(self.world, command, self.now)
        for effect in effects:
            match effect:
                case StartCall(model, call):
                    self.started.append(f"{call} {model}")
                case Grant(ticket) | Reject(ticket) | Settled(ticket):
                    assert ticket not in self.answers, "answered twice"
                    self.answers[ticket] = effect
                case WakeAt(time):
                    assert time is None or time > self.now, "a timer in the past spins"
                    self.wake_at = time
        self.effects += effects
        if Look() in effects:
            self.looks += 1
            return [*effects, *self.do(Observed(self.others))]
        return list(effects)

    def ask(self, model: str = "a", deadline: float | None = None) -> int:
        self.ticket += 1
        self.do(Acquire(self.ticket, model, deadline))
        return self.ticket

    def admin(self, event: Event, model: str = "a") -> int:
        self.ticket += 1
        assert event is Event.OFFLOAD or event is Event.UNLOAD
        self.do(Ask(self.ticket, model, event))
        return self.ticket

    def make_way(self, model: str = "a", after: float = 0.0) -> int:
        self.ticket += 1
        self.do(Yield(self.ticket, model, after))
        return self.ticket

    def end(self, model: str = "a", outcome: Footprint | Failure | NoRoom | None = None) -> None:
        """The call in flight ends."""
        running = self.world.models[model].running
        assert running is not None
        held = (
            Footprint(device_bytes=10, host_bytes=10) if running.call in ("load", "restore") else Footprint()
        )
        self.do(Finished(model, running.serial, outcome or held))

    def wait_until(self, time: float) -> None:
        """Let the timers run, as the owner task would."""
        while self.wake_at is not None and self.wake_at <= time:
            self.now = self.wake_at
            self.do(Tick())
        self.now = time

    def granted(self, ticket: int) -> bool:
        return isinstance(self.answers.get(ticket), Grant)

    def refused(self, ticket: int) -> Reason | None:
        answer = self.answers.get(ticket)
        return answer.refusal.reason if isinstance(answer, Reject) else None

    def state(self, model: str = "a") -> State:
        return self.world.models[model].state

    def tell(
        self, done: int, revision: str | None = None, model: str = "a", serial: int | None = None
    ) -> None:
        """News of the call in flight."""
        if serial is None:
            running = self.world.models[model].running
            serial = running.serial if running else 0
        self.do(Progressed(model, serial, Progress(phase="downloading", done_bytes=done, revision=revision)))

    def make_ready(self, model: str = "a") -> int:
        ticket = self.ask(model)
        self.end(model)
        assert self.granted(ticket)
        return ticket


def test_many_requests_to_a_sleeper_cause_one_wake() -> None:
    story = Story(max_pages=8)
    tickets = [story.ask() for _ in range(5)]
    assert story.started == ["load a"]
    story.end()
    assert all(story.granted(ticket) for ticket in tickets)
    assert story.started == ["load a"]


def test_leases_are_granted_up_to_the_batch_and_then_in_order() -> None:
    story = Story(max_pages=2)
    first, second, third, fourth = (story.ask() for _ in range(4))
    story.end()
    assert [story.granted(ticket) for ticket in (first, second, third, fourth)] == [True, True, False, False]
    story.do(Release(second))
    assert story.granted(third)
    assert not story.granted(fourth)


def test_progress_is_known_while_a_load_runs_and_of_that_load_only() -> None:
    story = Story()
    story.ask()
    story.tell(3)
    story.tell(4, serial=99)
    progress = story.world.models["a"].progress
    assert progress is not None
    assert progress.done_bytes == 3
    story.end()
    assert story.world.models["a"].progress is None
    story.tell(5)
    story.tell(5, model="stranger", serial=1)
    assert story.world.models["a"].progress is None


def test_the_revision_is_kept_once_it_was_loaded_and_forgotten_before() -> None:
    story = Story()
    story.ask()
    story.tell(0, "first")
    assert story.world.models["a"].revision == "first"
    story.end(outcome=BROKEN)
    assert story.world.models["a"].revision is None
    story.end()
    story.ask()
    story.tell(0, "second")
    story.tell(1)
    story.end()
    assert story.world.models["a"].revision == "second"
    story.do(Release(2))
    story.admin(Event.UNLOAD)
    story.end()
    story.ask()
    story.end(outcome=BROKEN)
    assert story.world.models["a"].revision == "second"


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
    assert story.world.models["a"].leases == frozenset()


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
    assert story.world.models["a"].worker is not None
    story.wait_until(350)
    assert story.started[-1] == "exit a"
    story.end()
    assert story.world.models["a"].worker is None
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
    assert story.world.models["a"].wakes == 1


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
    model = story.world.models["a"]
    assert (model.last_load_seconds, model.last_wake_seconds) == (7, 2)


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


def test_offload_waits_for_leases_and_serves_those_who_queued_before() -> None:
    story = Story(max_pages=1)
    first, before = story.ask(), story.ask()
    story.end()
    asked = story.admin(Event.OFFLOAD)
    after = story.ask()
    story.do(Release(first))
    assert story.granted(before)
    assert asked not in story.answers
    story.do(Release(before))
    assert story.started[-1] == "offload a"
    assert not story.granted(after)
    story.end()
    assert asked in story.answers
    assert story.started[-1] == "restore a", "who came later wakes it again"
    story.end()
    assert story.granted(after)


def test_release_from_every_lasting_state() -> None:
    story = Story()
    assert isinstance(story.answers[story.admin(Event.UNLOAD)], Settled)
    story.do(Release(story.make_ready()))
    offloaded = story.admin(Event.OFFLOAD)
    story.end()
    assert offloaded in story.answers
    released, again = story.admin(Event.UNLOAD), story.admin(Event.UNLOAD)
    assert released not in story.answers
    story.end()
    assert {released, again} <= set(story.answers)
    assert story.state() is State.UNLOADED


def test_a_question_during_loading_is_settled_after_the_load() -> None:
    story = Story()
    ticket = story.ask()
    asked = story.admin(Event.OFFLOAD)
    story.end()
    assert story.granted(ticket)
    story.do(Release(ticket))
    story.end()
    assert asked in story.answers
    assert story.state() is State.OFFLOADED


def test_a_question_is_settled_also_when_the_call_fails() -> None:
    story = Story()
    story.do(Release(story.make_ready()))
    asked = story.admin(Event.OFFLOAD)
    story.end(outcome=BROKEN)
    assert story.state() is State.UNLOADING
    story.end(outcome=BROKEN)
    assert story.state() is State.FAILED
    story.end()
    assert story.state() is State.UNLOADED
    assert asked in story.answers


def test_a_failing_load_rejects_its_waiters_and_is_not_repeated_by_itself() -> None:
    story = Story()
    tickets = [story.ask(), story.ask()]
    story.end(outcome=BROKEN)
    assert [story.refused(ticket) for ticket in tickets] == [Reason.LOAD_FAILED] * 2
    story.end()
    story.wait_until(10_000)
    assert story.started == ["load a", "unload a"]
    failure = story.world.models["a"].last_failure
    assert failure is not None
    assert (failure.reason, failure.message) == ("LoadFailed", "no such file")


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
    assert story.world.models["a"].failures == 0


def test_a_killed_worker_revokes_its_leases_and_waiters_load_again() -> None:
    story = Story(max_pages=1)
    held, waiting = story.ask(), story.ask()
    story.end()
    worker = story.world.models["a"].worker
    assert worker is not None
    effects = story.do(WorkerDied("a", worker, DIED))
    assert Revoke(held) in effects
    assert story.started[-1] == "unload a"
    story.end()
    assert story.started[-1] == "load a"
    story.end()
    assert story.granted(waiting)
    failure = story.world.models["a"].last_failure
    assert failure is not None
    assert (failure.reason, failure.exit_code) == ("WorkerDied", -9)


def test_a_worker_killed_in_its_sleep_leaves_the_weights_in_host_memory() -> None:
    story = Story()
    story.do(Release(story.make_ready()))
    story.admin(Event.OFFLOAD)
    story.end()
    worker = story.world.models["a"].worker
    assert worker is not None
    story.do(WorkerDied("a", worker, DIED))
    assert story.state() is State.OFFLOADED
    assert story.world.models["a"].worker is None
    story.ask()
    assert story.started[-1] == "restore a"


def test_news_of_an_older_worker_changes_nothing() -> None:
    story = Story()
    story.make_ready()
    before = story.world
    story.do(WorkerDied("a", 999, DIED))
    story.do(Finished("a", 999, BROKEN))
    assert story.world == before


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


def test_close_refuses_the_new_serves_the_old_and_unloads() -> None:
    story = Story({"a": policy(), "b": policy()}, max_pages=1)
    held, queued = story.ask(), story.ask()
    story.end("a")
    story.do(Close())
    assert story.refused(story.ask("b")) is Reason.DRAINING
    story.do(Release(held))
    assert story.granted(queued)
    story.do(Release(queued))
    assert story.started[-1] == "unload a"
    assert Closed() not in story.effects
    story.end("a")
    assert story.effects.count(Closed()) == 1


def asleep(*names: str, **policies: ModelPolicy) -> Story:
    """A story in which these models are ready and idle and `z` is offloaded, with room for all by the books."""
    story = Story({name: policies.get(name, policy()) for name in (*names, "z")}, max_pages=1)
    for name in (*names, "z"):
        story.now += 1
        story.do(Release(story.make_ready(name)))
    story.admin(Event.OFFLOAD, "z")
    story.end("z")
    return story


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
    assert story.world.models["z"].after == frozenset()
    assert story.state("b") is State.READY
    failure = story.world.models["z"].last_failure
    assert failure is not None
    assert failure.reason == "OutOfMemory"


def test_a_second_try_without_room_ends_the_worker_and_answers() -> None:
    story = asleep("a")
    ticket = story.ask("z")
    story.end("z", NO_ROOM)
    story.end("z")
    story.end("a")
    story.end("z", NO_ROOM)
    assert story.refused(ticket) is Reason.LOAD_FAILED
    assert (story.state("z"), story.started[-1]) == (State.OFFLOADED, "exit z")
    story.end("z")
    assert story.world.models["z"].worker is None
    story.ask("z")
    assert story.started[-1] == "restore z", "host memory still has the weights"


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
    assert story.world.models["z"].after == frozenset()


def crowded(others: int = 10, **policies: ModelPolicy) -> Story:
    """A story on a device of 20 of which others hold so much; every model takes 10."""
    story = Story({name: policies.get(name, policy()) for name in policies or ("a", "b")}, budget=20)
    story.others = others
    return story


def test_a_waiter_whose_memory_others_hold_waits_says_so_and_goes_on_when_it_is_free() -> None:
    story = crowded(others=15)
    ticket = story.ask("a")
    assert story.started == []
    assert story.world.models["a"].waits_for == WaitsFor(needed_bytes=10, free_bytes=5, since=0.0)
    story.wait_until(0.55)
    assert story.world.models["a"].waits_for == WaitsFor(10, 5, 0.0), "nothing ticks"
    story.others = 10
    story.wait_until(0.65)
    assert story.started == ["load a"], "it looks again by itself"
    assert story.world.models["a"].waits_for is None
    story.end("a")
    assert story.granted(ticket)


def test_nobody_looks_at_the_others_while_nobody_waits() -> None:
    story = crowded(others=10)
    story.do(Release(story.make_ready("a")))
    looks = story.looks
    story.wait_until(100)
    story.do(Release(story.ask("a")))
    assert (story.looks, story.wake_at) == (looks, None)


def test_ones_own_idle_models_go_before_others_are_waited_for() -> None:
    story = crowded(others=10)
    story.do(Release(story.make_ready("a")))
    story.ask("b")
    assert story.started[-1] == "offload a"
    assert story.world.models["b"].waits_for is None
    story = Story({"a": policy(), "b": policy()}, {"a": 5, "b": 15}, budget=20)
    story.do(Release(story.make_ready("a")))
    story.others = 10
    story.now = 1
    story.ask("b")
    assert story.started == ["load a"], "nobody goes in vain"
    assert story.world.models["b"].waits_for == WaitsFor(15, 10, 1), "5 are free, and 5 would be given by a"


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
    assert story.world.models["b"].waits_for is None, "without others it wouldn't fit either"


@pytest.mark.parametrize(("patience", "when"), [(7.0, 7.0), (0.0, neighbours.HELP_SECONDS)])
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
    assert story.world.models["a"].waits_for is None
    assert story.wake_at is None


def test_a_deadline_that_passes_while_others_hold_the_memory_says_that() -> None:
    story = crowded(others=15)
    ticket = story.ask("a", deadline=3)
    story.wait_until(3)
    assert story.refused(ticket) is Reason.GPU_MEMORY


def test_a_race_that_is_lost_moves_nothing_and_waits() -> None:
    story = crowded(others=10)
    ticket = story.ask("a")
    running = story.world.models["a"].running
    assert running is not None
    story.others = 20
    story.do(Finished("a", running.serial, NoRoom(20)))
    model = story.world.models["a"]
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
    worker = story.world.models["a"].worker
    story.now = 1
    story.ask("a")
    story.end("a", NoRoom(20))
    assert (story.state("a"), story.world.models["a"].worker) == (State.OFFLOADED, worker)


def test_a_device_that_others_filled_meanwhile_costs_a_waiter_one_more_try() -> None:
    story = crowded(others=0)
    ticket = story.ask("a")
    story.others = 15
    story.do(Observed(15))
    story.end("a", NO_ROOM)
    assert ticket not in story.answers
    story.end("a")
    assert story.world.models["a"].waits_for is not None
    story.others = 0
    story.wait_until(0.2)
    story.do(Observed(15))
    story.end("a", NO_ROOM)
    assert story.refused(ticket) is Reason.LOAD_FAILED


def test_what_a_failed_attempt_held_is_not_taken_for_others() -> None:
    story = asleep("a")
    story.world = replace(story.world, budget_bytes=20)
    story.ask("z")
    story.do(Observed(9))
    story.end("z", NO_ROOM)
    story.end("z")
    assert story.world.others_bytes == story.others == 0
    assert story.world.models["z"].waits_for is None


def test_an_idle_model_makes_way_and_a_busy_one_does_not() -> None:
    story = Story({"a": policy(), "b": policy()})
    held = story.make_ready("a")
    busy = story.make_way("a")
    assert story.refused(busy) is Reason.MODEL_BUSY
    story.do(Release(held))
    assert story.refused(story.make_way("a", after=5)) is Reason.MODEL_BUSY
    story.now = 5
    gone = story.make_way("a", after=5)
    also = story.make_way("a")
    assert story.started[-1] == "offload a"
    assert {gone, also}.isdisjoint(story.answers), "not before the memory is free"
    story.end("a")
    for ticket in (gone, also, story.make_way("a"), story.make_way("b")):
        assert isinstance(story.answers[ticket], Settled)
    story.ask("b")
    assert story.refused(story.make_way("b")) is Reason.MODEL_BUSY


def test_a_preloaded_model_that_made_way_comes_back_later_into_free_memory() -> None:
    story = crowded(others=0, a=policy(preload=True))
    story.end("a")
    story.make_way("a")
    story.end("a")
    story.wait_until(neighbours.YIELDED_SECONDS - 1)
    assert story.started == ["load a", "offload a"]
    story.others = 20
    story.wait_until(neighbours.YIELDED_SECONDS + 3)
    looks = story.looks
    assert story.started == ["load a", "offload a"], "others hold the memory"
    story.wait_until(neighbours.YIELDED_SECONDS + 23)
    assert story.looks - looks <= 20 / neighbours.AHEAD_SECONDS + 1
    story.others = 0
    story.wait_until(neighbours.YIELDED_SECONDS + 30)
    assert story.started[-1] == "restore a"


class AnyOrder(RuleBasedStateMachine):
    """Whatever the order of commands, ends of calls, deaths and time: the promises hold after each step.

    Others come and go on the same device, which never holds more than it has: what they want beyond that they don't
    get, and a call of ours for which they left no room since it was last looked at ends without having begun.
    """

    def __init__(self) -> None:
        super().__init__()
        policies = {
            "a": policy(Idle(5, 9, 20)),
            "b": policy(Idle(0, -1, 3), priority=1),
            "c": policy(Idle(-1, 2, 1), preload=True),
        }
        self.story = Story(policies, {"a": 6, "b": 5, "c": 4}, budget=10, queue=Queue(6, 4, 30), max_pages=2)
        self.asked: set[int] = set()
        self.cancelled: set[int] = set()
        self.leases: set[int] = set()
        self.closed = False

    def do(self, command: Command) -> None:
        before = set(self.story.answers)
        effects = self.story.do(command)
        for effect in effects:
            if isinstance(effect, Grant):
                assert effect.ticket in self.asked - self.cancelled
                self.leases.add(effect.ticket)
            elif isinstance(effect, Revoke):
                assert effect.ticket in self.leases
                self.leases.discard(effect.ticket)
        assert len(self.story.answers) >= len(before)
        begun = [each for each in effects if isinstance(each, StartCall) and each.call in ("load", "restore")]
        while begun and self.charged() + self.story.others > 10:
            lost = begun.pop()
            self.do(Finished(lost.model, lost.serial, NoRoom(self.story.others)))

    @rule(model=st.sampled_from("abc"), deadline=st.none() | st.floats(0.1, 50))
    def acquire(self, model: str, deadline: float | None) -> None:
        self.story.ticket += 1
        self.asked.add(self.story.ticket)
        self.do(Acquire(self.story.ticket, model, None if deadline is None else self.story.now + deadline))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        waiting = sorted(w.ticket for m in self.story.world.models.values() for w in m.waiters)
        if waiting:
            ticket = data.draw(st.sampled_from(waiting))
            self.cancelled.add(ticket)
            self.do(Cancel(ticket))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.leases)))
        self.leases.discard(ticket)
        self.do(Release(ticket))

    @rule(model=st.sampled_from("abc"), failure=st.sampled_from([None, None, None, BROKEN, NO_ROOM]))
    def finish(self, model: str, failure: Failure | None) -> None:
        running = self.story.world.models[model].running
        if running is not None:
            failing = failure is not None and running.call not in ("kill", "exit")
            outcome = failure if failing else Footprint(device_bytes=1, host_bytes=1)
            self.do(Finished(model, running.serial, outcome))

    @rule(size=st.integers(0, 10))
    def others_hold(self, size: int) -> None:
        self.story.others = min(size, 10 - self.charged())

    @rule(model=st.sampled_from("abc"), seconds=st.sampled_from([0.0, 5.0]))
    def make_way(self, model: str, seconds: float) -> None:
        before = self.story.world.models[model]
        ticket = self.story.make_way(model, seconds)
        if before.leases or before.servable:
            assert self.story.state(model) is before.state or not before.leases
            if before.state is State.READY:
                assert self.story.refused(ticket) is Reason.MODEL_BUSY

    @rule(model=st.sampled_from("abc"))
    def die(self, model: str) -> None:
        worker = self.story.world.models[model].worker
        if worker is not None:
            self.do(WorkerDied(model, worker, DIED))

    @rule(model=st.sampled_from("abc"), event=st.sampled_from([Event.OFFLOAD, Event.UNLOAD]))
    def admin(self, model: str, event: Event) -> None:
        self.story.ticket += 1
        assert event is Event.OFFLOAD or event is Event.UNLOAD
        self.do(Ask(self.story.ticket, model, event))

    @rule(seconds=st.floats(0.1, 12))
    def pass_time(self, seconds: float) -> None:
        end = self.story.now + seconds
        while self.story.wake_at is not None and self.story.wake_at <= end:
            self.story.now = self.story.wake_at
            self.do(Tick())
        self.story.now = end

    @rule(idle=st.builds(Idle, *(st.sampled_from([-1.0, 0.0, 1.0, 7.0]),) * 3), pages=st.integers(1, 3))
    def apply(self, idle: Idle, pages: int) -> None:
        models = {name: replace(each, idle=idle) for name, each in self.story.effective.models.items()}
        self.do(Apply(replace(self.story.effective, models=models, batching=Batching(pages, 0))))

    @rule()
    @precondition(lambda self: self.story.now > 60)
    def close(self) -> None:
        self.closed = True
        self.do(Close())

    @invariant()
    def memory_is_within_the_budget(self) -> None:
        assert self.charged() + self.story.others <= 10

    def charged(self) -> int:
        return sum(model.charged_bytes for model in self.story.world.models.values())

    @invariant()
    def who_lacks_memory_is_waited_for_and_could_have_it_without_others(self) -> None:
        for model in self.story.world.models.values():
            if (lack := model.waits_for) is not None:
                assert model.servable
                assert model.state in (State.UNLOADED, State.OFFLOADED)
                assert 0 <= lack.free_bytes < lack.needed_bytes == model.need_bytes
                assert self.story.wake_at is not None
                assert self.story.wake_at <= self.story.now + neighbours.LOOK_SECONDS + 1e-9

    @invariant()
    def a_lease_implies_ready(self) -> None:
        for model in self.story.world.models.values():
            assert not model.leases or model.state is State.READY
        held = {ticket for model in self.story.world.models.values() for ticket in model.leases}
        assert held == self.leases

    @invariant()
    def transient_states_have_their_one_call(self) -> None:
        for model in self.story.world.models.values():
            call = model.running.call if model.running else None
            assert call == CALLS.get(model.state) or (call == "exit" and model.state is State.OFFLOADED)
            assert model.state is not State.READY or model.worker is not None

    @invariant()
    def every_ticket_waits_or_is_answered(self) -> None:
        waiting = {w.ticket for m in self.story.world.models.values() for w in m.waiters}
        assert waiting | self.cancelled | set(self.story.answers) >= self.asked
        assert not waiting & set(self.story.answers)
        assert len(waiting) <= 6

    @invariant()
    def who_waits_waits_for_something(self) -> None:
        """A lease, a call in flight or a timer: else nobody would ever look again."""
        world = self.story.world
        if any(model.waiters or model.asked for model in world.models.values()):
            moving = any(model.leases or model.running for model in world.models.values())
            assert moving or (self.story.wake_at is not None and self.story.wake_at < math.inf)

    def teardown(self) -> None:
        """Left alone, with calls that end and leases that are given back, everything settles: waiters of models whose
        memory others never give back are refused, too."""
        for _ in range(300):
            world = self.story.world
            busy = [m for m in world.models.values() if m.running]
            if busy:
                self.finish(busy[0].name, None)
            elif self.leases:
                ticket = min(self.leases)
                self.leases.discard(ticket)
                self.do(Release(ticket))
            elif any(m.waiters or m.asked for m in world.models.values()):
                assert self.story.wake_at is not None
                self.story.now = self.story.wake_at
                self.do(Tick())
            else:
                break
        world = self.story.world
        assert not any(m.waiters or m.asked or m.leases for m in world.models.values())
        if self.closed:
            assert world.closed


AnyOrder.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=50, deadline=None)
TestAnyOrder = AnyOrder.TestCase
