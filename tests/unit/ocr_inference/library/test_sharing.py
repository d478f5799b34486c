"""Decisions of a shared GPU: stories of what a library adds to the scheduler, then commands in any order."""

import math
from dataclasses import replace
from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ocr_inference.library import sharing
from ocr_inference.library.sharing import Arrived, EndUse, Join, Open, Policy, Register, Remove
from ocr_inference.protocol.engine import Failure, FailureKind, Footprint
from ocr_inference.scheduling.commands import Acquire, AdminRequest, Cancel, Finished, Release, Tick
from ocr_inference.scheduling.lifecycle import Event
from ocr_inference.scheduling.state import Done, Grant, Reject, StartCall
from ocr_wire.states import State

NO_PLACE = Failure(kind=FailureKind.OUT_OF_MEMORY, message="out of memory")
BROKEN = Failure(kind=FailureKind.FAILED, message="no such file")


class GPU:
    """A budget, models with their sizes, and calls that end when the test says so."""

    def __init__(
        self, budget: int | None = 100, *, born: Literal["host", "gpu"] = "host", **sizes: int
    ) -> None:
        self.state, self.now, self.born, self.sizes = sharing.initial(budget), 0.0, born, sizes
        self.tickets = 0
        self.calls: dict[str, StartCall] = {}
        self.started: list[str] = []
        self.answers: dict[int, Grant | Reject | Done] = {}
        self.on_gpu: set[str] = set()
        for name in sizes:
            self.do(Register(name, Policy()))

    def do(self, command: sharing.Command) -> None:
        self.state, effects = sharing.decide(self.state, command, self.now)
        for effect in effects:
            match effect:
                case StartCall(model=model, call=call):
                    assert model not in self.calls, "one call at a time"
                    self.calls[model] = effect
                    self.started.append(f"{call} {model}")
                case Grant() | Reject() | Done():
                    assert effect.ticket not in self.answers, "one answer"
                    self.answers[effect.ticket] = effect

    def policy(self, name: str, **changes: Any) -> None:
        self.do(Register(name, replace(self.state.policies[name], **changes)))

    def acquire(self, name: str, deadline: float = math.inf) -> Acquire:
        self.tickets += 1
        return Acquire(self.tickets, name, deadline)

    def ask(self, name: str) -> int:
        self.do(acquire := self.acquire(name))
        return acquire.ticket

    def use(self, name: str) -> int:
        self.do(Open(acquire := self.acquire(name)))
        return acquire.ticket

    def end(self, name: str, failure: Failure | None = None) -> None:
        """End the call of a model."""
        effect = self.calls.pop(name)
        size = self.sizes[name]
        if failure is not None:
            self.do(Finished(name, effect.serial, failure))
            return
        if effect.call in ("offload", "unload", "kill"):
            self.on_gpu.discard(name)
        elif effect.call == "restore" or (effect.call == "load" and self.born == "gpu"):
            self.on_gpu.add(name)
        if effect.call == "load":
            self.do(Arrived(name, effect.serial, size, size, on_device=self.born == "gpu"))
        else:
            footprint = Footprint(device_bytes=size if name in self.on_gpu else 0, host_bytes=size)
            self.do(Finished(name, effect.serial, footprint))

    def end_all(self) -> None:
        while self.calls:
            self.end(next(iter(self.calls)))

    def after(self, seconds: float) -> None:
        """Let time pass, deciding whenever something is due."""
        until = self.now + seconds
        while (at := sharing.next_time(self.state, self.now)) is not None and at <= until:
            self.now = at
            self.do(Tick())
        self.now = until
        self.do(Tick())

    def granted(self, ticket: int) -> bool:
        return isinstance(self.answers.get(ticket), Grant)

    def model(self, name: str) -> Any:
        return self.state.scheduler.models[name]


def test_a_model_of_unknown_size_waits_in_host_memory_for_its_place() -> None:
    gpu = GPU(a=60, b=60)
    first = gpu.ask("a")
    gpu.end_all()
    waits = gpu.ask("b")
    gpu.end("b")
    assert gpu.model("b").state is State.OFFLOADED
    assert gpu.started[-1] == "load b"
    assert not gpu.granted(waits)
    gpu.do(Release(first))
    assert gpu.started[-1] == "offload a", "it is idle, and of the same priority"
    gpu.end_all()
    assert gpu.granted(waits)
    assert gpu.on_gpu == {"b"}


def test_a_model_that_came_on_the_gpu_leaves_it_where_the_budget_has_no_place() -> None:
    gpu = GPU(born="gpu", a=60, b=60)
    gpu.ask("a")
    gpu.end_all()
    waits = gpu.ask("b")
    gpu.end("b")
    assert gpu.started[-1] == "offload b"
    assert not gpu.granted(waits)
    gpu.end("b")
    assert gpu.on_gpu == {"a"}
    assert gpu.granted(1)


def test_a_known_size_is_a_claim_before_the_load() -> None:
    gpu = GPU(a=60)
    gpu.ask("a")
    gpu.end_all()
    gpu.sizes["b"] = 60
    gpu.do(Register("b", Policy(), size_bytes=60))
    gpu.ask("b")
    assert "load b" not in gpu.started


def test_a_model_larger_than_the_budget_is_refused() -> None:
    gpu = GPU(a=120)
    ticket = gpu.ask("a")
    gpu.end_all()
    answer = gpu.answers[ticket]
    assert isinstance(answer, Reject)
    assert "needs 120 bytes on the device, which has 100" in answer.refusal.message


def test_idle_models_of_lower_priority_make_way_and_models_in_use_do_not() -> None:
    gpu = GPU(low=60, high=60)
    gpu.policy("high", priority=5)
    held = gpu.ask("low")
    gpu.end_all()
    waits = gpu.ask("high")
    gpu.end("high")
    gpu.after(3600)
    assert "offload low" not in gpu.started
    gpu.do(Release(held))
    gpu.end_all()
    assert gpu.granted(waits)
    again = gpu.ask("low")
    gpu.do(Release(waits))
    assert gpu.started[-1] == "restore high", (
        "idle, but of higher priority: it stays until the waiter is impatient"
    )
    assert not gpu.granted(again)
    gpu.after(sharing.PATIENCE_SECONDS)
    gpu.end_all()
    assert gpu.granted(again)


def test_a_use_without_an_end_lasts_for_the_timeout_since_the_last_one() -> None:
    gpu = GPU(a=60)
    gpu.use("a")
    gpu.end_all()
    gpu.after(50)
    gpu.use("a")
    gpu.after(50)
    assert gpu.model("a").state is State.READY
    gpu.after(10)
    assert gpu.started[-1] == "offload a", "once the timeout has passed, not once more"


def test_a_use_without_an_end_is_not_evicted_while_it_may_last() -> None:
    gpu = GPU(a=60, b=60)
    gpu.use("a")
    gpu.end_all()
    waits = gpu.ask("b")
    gpu.end("b")
    gpu.after(59)
    assert not gpu.granted(waits)
    gpu.do(EndUse("a"))
    gpu.end_all()
    assert gpu.granted(waits)


def test_timeouts_change_while_they_run() -> None:
    gpu = GPU(a=60)
    held = gpu.ask("a")
    gpu.end_all()
    gpu.do(Release(held))
    gpu.after(30)
    gpu.policy("a", idle_timeout=300)
    gpu.after(200)
    assert gpu.model("a").state is State.READY
    gpu.policy("a", idle_timeout=5)
    assert gpu.started[-1] == "offload a", "230 s idle, and 5 are allowed now"


def test_a_use_of_a_model_without_a_timeout_lasts_until_it_is_ended() -> None:
    gpu = GPU(a=60)
    gpu.policy("a", idle_timeout=0)
    gpu.use("a")
    gpu.end_all()
    gpu.after(10_000)
    assert gpu.model("a").state is State.READY
    gpu.do(EndUse("a"))
    assert gpu.started[-1] == "offload a"


def test_timers_stand_still_without_a_monitor() -> None:
    gpu = GPU(a=60)
    gpu.policy("a", monitored=False)
    gpu.use("a")
    gpu.end_all()
    gpu.after(10_000)
    assert gpu.model("a").state is State.READY
    gpu.policy("a", monitored=True)
    assert gpu.started[-1] == "offload a"


def test_a_lease_beside_ones_own_passes_a_door_that_is_closed() -> None:
    gpu = GPU(a=60)
    held = gpu.ask("a")
    gpu.end_all()
    gpu.do(AdminRequest(90, "a", Event.OFFLOAD))
    gpu.do(Join(beside := gpu.acquire("a"), held))
    assert gpu.granted(beside.ticket)
    gpu.do(Release(held))
    assert "offload a" not in gpu.started
    gpu.do(Release(beside.ticket))
    assert gpu.started[-1] == "offload a"
    gpu.do(Join(late := gpu.acquire("a"), held))
    gpu.end_all()
    assert gpu.granted(late.ticket), "beside one that has ended it's a lease like any"


def test_out_of_memory_evicts_idle_models_and_tries_once_more() -> None:
    gpu = GPU(None, a=60, b=60)
    held = gpu.ask("a")
    gpu.end_all()
    gpu.do(Release(held))
    waits = gpu.ask("b")
    gpu.end("b")
    gpu.end("b", NO_PLACE)
    while "a" in gpu.calls or gpu.started[-1] != "restore b":
        gpu.end(next(iter(gpu.calls)))
    assert gpu.on_gpu == set()
    gpu.end("b", NO_PLACE)
    gpu.end_all()
    assert isinstance(gpu.answers[waits], Reject)
    assert gpu.started.count("restore b") == 2
    assert gpu.granted(held)


def test_a_load_that_failed_is_tried_again_by_the_next_request() -> None:
    gpu = GPU(a=60)
    for count in range(1, 5):
        ticket = gpu.ask("a")
        gpu.end("a", BROKEN)
        gpu.end_all()
        assert isinstance(gpu.answers[ticket], Reject)
        assert gpu.started.count("load a") == count


def test_a_model_is_forgotten_when_it_is_unloaded_and_not_before() -> None:
    gpu = GPU(a=60)
    held = gpu.ask("a")
    gpu.end_all()
    gpu.do(Remove("a"))
    assert gpu.model("a")
    gpu.do(Release(held))
    gpu.do(AdminRequest(90, "a", Event.UNLOAD))
    gpu.end_all()
    gpu.do(Remove("a"))
    assert gpu.state.scheduler.models == {}
    gpu.do(Join(late := gpu.acquire("a"), held))
    assert isinstance(gpu.answers[late.ticket], Reject)


NAMES = st.sampled_from("abc")


class AnyOrder(RuleBasedStateMachine):
    """Managers of one GPU, used and moved in any order."""

    @initialize(
        budget=st.sampled_from([None, 100, 150]),
        born=st.sampled_from(["host", "gpu"]),
        sizes=st.tuples(*[st.sampled_from([0, 30, 60, 100])] * 3),
    )
    def begin(self, budget: int | None, born: Literal["host", "gpu"], sizes: tuple[int, int, int]) -> None:
        self.gpu = GPU(budget, born=born, **dict(zip("abc", sizes, strict=True)))
        self.budget = budget
        self.leases: dict[int, str] = {}
        """Tickets that were neither given back nor refused, with their models."""

    @rule(name=NAMES, seconds=st.sampled_from([1.0, 30.0, math.inf]))
    def ask(self, name: str, seconds: float) -> None:
        acquire = self.gpu.acquire(name, self.gpu.now + seconds)
        self.leases[acquire.ticket] = name
        self.do(acquire)

    @rule(name=NAMES)
    def use(self, name: str) -> None:
        self.do(Open(self.gpu.acquire(name)))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), how=st.sampled_from(["release", "cancel", "join"]))
    def lease(self, data: st.DataObject, how: str) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.leases)))
        name = self.leases[ticket]
        if how == "join":
            acquire = self.gpu.acquire(name)
            self.leases[acquire.ticket] = name
            held = self.gpu.granted(ticket)
            self.do(Join(acquire, ticket))
            assert self.gpu.granted(acquire.ticket) or not held
        else:
            del self.leases[ticket]
            self.do(Release(ticket) if how == "release" else Cancel(ticket))

    @rule(name=NAMES, event=st.sampled_from([Event.OFFLOAD, Event.UNLOAD]))
    def force(self, name: str, event: Literal[Event.OFFLOAD, Event.UNLOAD]) -> None:
        self.do(EndUse(name))
        self.gpu.tickets += 1
        self.do(AdminRequest(self.gpu.tickets, name, event))

    @precondition(lambda self: self.gpu.calls)
    @rule(data=st.data(), failure=st.sampled_from([None, None, None, NO_PLACE, BROKEN]))
    def end(self, data: st.DataObject, failure: Failure | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.gpu.calls)))
        gone = self.gpu.calls[name].call in ("offload", "unload", "kill", "exit")
        self.check(lambda: self.gpu.end(name, None if gone else failure))

    @precondition(lambda self: self.gpu.calls)
    @rule()
    def end_all(self) -> None:
        self.check(self.gpu.end_all)

    @rule(seconds=st.sampled_from([0.5, 5.0, 61.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.check(lambda: self.gpu.after(seconds))

    @rule(
        name=NAMES,
        timeout=st.sampled_from([None, 0, 5, 60, 300]),
        release=st.sampled_from([None, 100]),
        priority=st.sampled_from([0, 5]),
        monitored=st.booleans(),
    )
    def change(self, **policy: Any) -> None:
        name = policy.pop("name")
        release = policy.pop("release")
        policy = {"idle_timeout": policy.pop("timeout"), "release_timeout": release, **policy}
        self.check(lambda: self.gpu.policy(name, **policy))

    def do(self, command: sharing.Command) -> None:
        self.check(lambda: self.gpu.do(command))

    def check(self, act: Any) -> None:
        """Act, and look at the calls that were started by it."""
        before = len(self.gpu.started)
        waiting = {name: each.waiting for name, each in self.gpu.state.scheduler.models.items()}
        act()
        for call in self.gpu.started[before:]:
            what, _, name = call.partition(" ")
            if what in ("load", "restore"):
                assert waiting[name] or self.gpu.model(name).waiting or self.gpu.model(name).blocked_on, (
                    f"{call}, which no request waits for"
                )
        for ticket in [each for each in self.leases if isinstance(self.gpu.answers.get(each), Reject)]:
            del self.leases[ticket]

    @invariant()
    def what_is_leased_is_ready(self) -> None:
        for ticket, name in self.leases.items():
            if self.gpu.granted(ticket):
                assert self.gpu.model(name).state is State.READY
                assert ticket in self.gpu.model(name).leases
                assert name not in self.gpu.calls
                assert name in self.gpu.on_gpu or not self.gpu.sizes[name]

    @invariant()
    def the_budget_is_kept(self) -> None:
        arriving = {name for name, call in self.gpu.calls.items() if call.call == "offload"}
        resident = self.gpu.on_gpu - (arriving if self.gpu.born == "gpu" else set())
        assert sum(self.gpu.sizes[name] for name in resident) <= (self.budget or math.inf)

    @invariant()
    def no_lease_is_left_over(self) -> None:
        for name, model in self.gpu.state.scheduler.models.items():
            use = self.gpu.state.uses.get(name)
            for ticket in model.leases:
                assert ticket in self.leases or (use is not None and ticket == use.ticket)

    @invariant()
    def idle_models_leave_in_time(self) -> None:
        for name, policy in self.gpu.state.policies.items():
            model = self.gpu.model(name)
            idle = model.state is State.READY and not (model.leases or model.waiting or model.running)
            if idle and policy.monitored and policy.idle_timeout is not None:
                assert self.gpu.now < model.last_activity + policy.idle_timeout

    @invariant()
    def something_is_due_later_only(self) -> None:
        at = sharing.next_time(self.gpu.state, self.gpu.now)
        assert at is None or at > self.gpu.now


TestAnyOrder = AnyOrder.TestCase
