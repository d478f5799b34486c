"""Decisions: stories of one model from its wake to the end, then a machine that tries any order of commands."""

import math
from collections.abc import Collection
from dataclasses import replace
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ocr_inference.config.settings import Batching, Idle, Queue
from ocr_inference.protocol.engine import Failure, Footprint
from ocr_inference.scheduling import external_usage
from ocr_inference.scheduling.commands import (
    Acquire,
    AdminRequest,
    Apply,
    Cancel,
    Close,
    Command,
    Finished,
    Help,
    HelpEnded,
    Release,
    Tick,
    WorkerDied,
)
from ocr_inference.scheduling.lifecycle import CALLS, Event
from ocr_inference.scheduling.state import (
    Closed,
    Done,
    Grant,
    HandOver,
    KillWorker,
    LeaseLost,
    NotBegun,
    Reason,
    StartCall,
)
from ocr_wire.states import State
from tests.support.story import BROKEN, DIED, NO_ROOM, Story, policy


def test_many_requests_to_a_sleeper_cause_one_wake() -> None:
    story = Story(max_pages=8)
    tickets = [story.ask() for _ in range(5)]
    assert story.started == ["load a"]
    story.end()
    assert all(story.granted(ticket) for ticket in tickets)
    assert story.started == ["load a"]


def test_progress_is_known_while_a_load_runs_and_of_that_load_only() -> None:
    story = Story()
    story.ask()
    story.tell(3)
    story.tell(4, serial=99)
    progress = story.scheduler_state.models["a"].progress
    assert progress is not None
    assert progress.done_bytes == 3
    story.end()
    assert story.scheduler_state.models["a"].progress is None
    story.tell(5)
    story.tell(5, model="stranger", serial=1)
    assert story.scheduler_state.models["a"].progress is None


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


def test_a_forced_request_kills_a_busy_worker_and_is_carried_out_before_all_waiters() -> None:
    story = Story(max_pages=1)
    held, before = story.ask(), story.ask()
    story.end()
    assert story.granted(held)
    asked = story.admin(Event.UNLOAD)
    forced = story.admin(Event.OFFLOAD, force=True)
    assert KillWorker("a") in story.effects
    worker = story.scheduler_state.models["a"].worker
    assert worker is not None
    story.do(WorkerDied("a", worker, DIED))
    story.end()
    assert {asked, forced} <= set(story.answers)
    assert not story.granted(before)
    story.end()
    assert story.granted(before)


def test_a_forced_request_kills_no_idle_worker() -> None:
    story = Story()
    story.do(Release(story.make_ready()))
    story.admin(Event.OFFLOAD, force=True)
    assert KillWorker("a") not in story.effects
    assert story.started[-1] == "offload a"


def test_one_that_has_to_be_alone_waits_for_leases_and_younger_ones_wait_for_it() -> None:
    story = Story(max_pages=4)
    first = story.make_ready()
    alone, younger = story.ask(alone=True), story.ask()
    assert not story.granted(alone)
    assert not story.granted(younger), "it might wait for ever"
    story.do(Release(first))
    assert story.granted(alone)
    assert not story.granted(younger)
    story.do(Release(alone))
    assert story.granted(younger)
    assert story.granted(story.ask()), "the next ones aren't alone"


def test_those_that_have_to_be_alone_are_served_one_after_the_other() -> None:
    story = Story(max_pages=4)
    before, *suspects = story.ask(), *(story.ask(alone=True) for _ in range(2))
    story.end()
    assert [story.granted(each) for each in (before, *suspects)] == [True, False, False]
    story.do(Release(before))
    assert [story.granted(each) for each in suspects] == [True, False]
    story.do(Release(suspects[0]))
    assert story.granted(suspects[1])


def test_a_worker_that_dies_with_a_lone_lease_leaves_no_closed_door() -> None:
    story = Story(max_pages=4)
    story.do(Release(story.make_ready()))
    alone = story.ask(alone=True)
    worker = story.scheduler_state.models["a"].worker
    assert worker is not None
    waiting = [story.ask(), story.ask()]
    story.do(WorkerDied("a", worker, DIED))
    assert LeaseLost(alone) in story.effects
    story.end()
    story.end()
    assert all(story.granted(each) for each in waiting)


def test_release_from_every_lasting_state() -> None:
    story = Story()
    assert isinstance(story.answers[story.admin(Event.UNLOAD)], Done)
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


class AnyOrder(RuleBasedStateMachine):
    """Whatever the order of commands, ends of calls, deaths and time: the promises hold after each step.

    Others come and go on the same device, which never holds more than it has: what they want beyond that they don't
    get, and a call of ours for which they left no room since it was last looked at ends without having begun.
    """

    staying: ClassVar[Collection[str]] = ()
    owned: ClassVar[Collection[str]] = ()

    def __init__(self) -> None:
        super().__init__()
        policies = {
            "a": policy(Idle(5, 9, 20)),
            "b": policy(Idle(0, -1, 3), priority=1),
            "c": policy(Idle(-1, 2, 1), preload=True),
        }
        self.story = Story(
            policies,
            {"a": 6, "b": 5, "c": 4},
            budget=10,
            queue=Queue(6, 4, 30),
            max_pages=2,
            staying=self.staying,
            owned=self.owned,
        )
        self.asked: set[int] = set()
        self.cancelled: set[int] = set()
        self.leases: set[int] = set()
        self.alone: set[int] = set()
        self.movable: set[int] = set()
        self.elsewhere: dict[int, str] = {}
        """Helpers that read a page, by its ticket."""
        self.closed = False

    def do(self, command: Command) -> None:
        before = set(self.story.answers)
        effects = self.story.do(command)
        for effect in effects:
            if isinstance(effect, Grant):
                assert effect.ticket in self.asked - self.cancelled
                self.leases.add(effect.ticket)
            elif isinstance(effect, HandOver):
                assert effect.ticket in self.movable - self.cancelled - self.alone
                self.elsewhere[effect.ticket] = effect.helper
            elif isinstance(effect, LeaseLost):
                assert effect.ticket in self.leases
                self.leases.discard(effect.ticket)
        assert len(self.story.answers) >= len(before)
        begun = [each for each in effects if isinstance(each, StartCall) and each.call in ("load", "restore")]
        while begun and self.charged() + self.story.others > 10:
            lost = begun.pop()
            self.do(Finished(lost.model, lost.serial, NotBegun(self.story.others)))

    @rule(
        model=st.sampled_from("abc"),
        deadline=st.none() | st.floats(0.1, 50),
        alone=st.sampled_from([False, False, True]),
        movable=st.booleans(),
    )
    def acquire(self, model: str, deadline: float | None, alone: bool, movable: bool) -> None:
        self.story.ticket += 1
        self.asked.add(self.story.ticket)
        if alone:
            self.alone.add(self.story.ticket)
        if movable:
            self.movable.add(self.story.ticket)
        until = self.story.now + (deadline or 30)
        self.do(Acquire(self.story.ticket, model, until, alone=alone, movable=movable))

    @rule(helper=st.sampled_from("xy"), model=st.sampled_from("abcz"), pages=st.integers(1, 3))
    def help(self, helper: str, model: str, pages: int) -> None:
        self.do(Help(helper, model, pages))

    @rule(helper=st.sampled_from("xy"))
    def lose_helper(self, helper: str) -> None:
        """What it had queues again, as leases do."""
        lost = sorted(ticket for ticket, name in self.elsewhere.items() if name == helper)
        self.do(HelpEnded(helper))
        for ticket in lost:
            del self.elsewhere[ticket]
            self.do(Release(ticket))
            self.story.ticket += 1
            self.asked.add(self.story.ticket)
            self.do(Acquire(self.story.ticket, "a", self.story.now + 30, self.story.now))

    @precondition(lambda self: self.elsewhere)
    @rule(data=st.data())
    def read_elsewhere(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.elsewhere)))
        del self.elsewhere[ticket]
        self.do(Release(ticket))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        waiting = sorted(w.ticket for m in self.story.scheduler_state.models.values() for w in m.waiters)
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
        running = self.story.scheduler_state.models[model].running
        if running is not None:
            failing = failure is not None and running.call not in ("kill", "exit")
            outcome = failure if failing else Footprint(device_bytes=1, host_bytes=1)
            self.do(Finished(model, running.serial, outcome))

    @rule(size=st.integers(0, 10))
    def others_hold(self, size: int) -> None:
        self.story.others = min(size, 10 - self.charged())

    @rule(model=st.sampled_from("abc"), seconds=st.sampled_from([0.0, 5.0]))
    def offload_if_idle(self, model: str, seconds: float) -> None:
        before = self.story.scheduler_state.models[model]
        ticket = self.story.offload_if_idle(model, seconds)
        if before.leases or before.servable:
            assert self.story.state(model) is before.state or not before.leases
            if before.state is State.READY:
                assert self.story.refused(ticket) is Reason.MODEL_BUSY

    @rule(model=st.sampled_from("abc"))
    def die(self, model: str) -> None:
        worker = self.story.scheduler_state.models[model].worker
        if worker is not None:
            self.do(WorkerDied(model, worker, DIED))

    @rule(
        model=st.sampled_from("abc"),
        event=st.sampled_from([Event.OFFLOAD, Event.UNLOAD]),
        force=st.sampled_from([False, False, True]),
    )
    def admin(self, model: str, event: Event, force: bool) -> None:
        self.story.ticket += 1
        assert event is Event.OFFLOAD or event is Event.UNLOAD
        self.do(AdminRequest(self.story.ticket, model, event, force))

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
        return sum(model.charged_bytes for model in self.story.scheduler_state.models.values())

    @invariant()
    def who_lacks_memory_is_waited_for_and_could_have_it_without_others(self) -> None:
        for model in self.story.scheduler_state.models.values():
            if (lack := model.waits_for) is not None:
                assert model.servable
                assert model.state in (State.UNLOADED, State.OFFLOADED)
                assert 0 <= lack.free_bytes < lack.needed_bytes == model.lacking_bytes
                assert self.story.wake_at is not None
                assert self.story.wake_at <= self.story.now + external_usage.PROBE_SECONDS + 1e-9

    @invariant()
    def a_lease_implies_ready(self) -> None:
        for model in self.story.scheduler_state.models.values():
            assert not model.leases or model.state is State.READY
        held = {ticket for model in self.story.scheduler_state.models.values() for ticket in model.leases}
        assert held == self.leases

    @invariant()
    def a_helper_reads_what_was_handed_to_it(self) -> None:
        helpers = self.story.scheduler_state.helpers
        known = {ticket: name for name, helper in helpers.items() for ticket in helper.tickets}
        assert known == {ticket: name for ticket, name in self.elsewhere.items() if ticket in known}
        for helper in helpers.values():
            waits = self.story.scheduler_state.models[helper.model].waiting
            assert helper.tickets or waits, "one that has nothing to read is forgotten"

    @invariant()
    def a_lone_lease_is_the_only_one_of_its_model(self) -> None:
        for model in self.story.scheduler_state.models.values():
            assert not model.leases.keys() & self.alone or len(model.leases) == 1

    @invariant()
    def transient_states_have_their_one_call(self) -> None:
        for model in self.story.scheduler_state.models.values():
            call = model.running.call if model.running else None
            assert call == CALLS.get(model.state) or (call == "exit" and model.state is State.OFFLOADED)
            assert model.state is not State.READY or model.worker is not None

    @invariant()
    def weights_are_where_they_can_be(self) -> None:
        for model in self.story.scheduler_state.models.values():
            there = model.state in (State.OFFLOADING, State.OFFLOADED, State.RESTORING)
            assert model.can_offload or not there
            # While a call runs, its end says what has become of the worker.
            assert model.outlives_worker or not there or model.running or model.worker is not None

    @invariant()
    def every_ticket_waits_or_is_answered(self) -> None:
        waiting = {w.ticket for m in self.story.scheduler_state.models.values() for w in m.waiters}
        assert waiting | self.cancelled | set(self.story.answers) >= self.asked
        assert not waiting & set(self.story.answers)
        assert len(waiting) <= 6

    @invariant()
    def who_waits_waits_for_something(self) -> None:
        """A lease, a call in flight or a timer: else nobody would ever look again."""
        scheduler_state = self.story.scheduler_state
        if any(model.waiters or model.admin_request for model in scheduler_state.models.values()):
            moving = any(model.leases or model.running for model in scheduler_state.models.values())
            moving = moving or bool(self.elsewhere)
            assert moving or (self.story.wake_at is not None and self.story.wake_at < math.inf)

    def teardown(self) -> None:
        """Left alone, with calls that end and leases that are given back, everything settles: waiters of models whose
        memory others never give back are refused, too."""
        for _ in range(300):
            scheduler_state = self.story.scheduler_state
            busy = [m for m in scheduler_state.models.values() if m.running]
            if busy:
                self.finish(busy[0].name, None)
            elif self.elsewhere:
                ticket = min(self.elsewhere)
                del self.elsewhere[ticket]
                self.do(Release(ticket))
            elif self.leases:
                ticket = min(self.leases)
                self.leases.discard(ticket)
                self.do(Release(ticket))
            elif any(m.waiters or m.admin_request for m in scheduler_state.models.values()):
                assert self.story.wake_at is not None
                self.story.now = self.story.wake_at
                self.do(Tick())
            else:
                break
        scheduler_state = self.story.scheduler_state
        assert not any(m.waiters or m.admin_request or m.leases for m in scheduler_state.models.values())
        if self.closed:
            assert scheduler_state.closed


class AnyOrderOfServers(AnyOrder):
    """Models whose weights are in servers of their workers: one on a CPU, one on a GPU, beside one of the others."""

    staying = ("a",)
    owned = ("b",)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrderOfServers = AnyOrderOfServers.TestCase
