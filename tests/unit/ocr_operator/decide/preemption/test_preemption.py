"""Who makes way for whom: examples first, then what holds for any GPU, any words of pods and any order."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import preemption
from ocr_operator.decide.preemption import (
    Asked,
    Copy,
    Outcome,
    Plan,
    ReportedPod,
    Resident,
    Rules,
    Waiter,
    messages,
    policies,
)
from ocr_operator.resources import observed
from ocr_wire import names
from ocr_wire import state as podstate
from ocr_wire.state import PodState
from tests.support.observations import raw_pod, raw_state
from tests.support.paths import DOCS

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
GIB = 2**30
RULES = Rules(min_resident_seconds=5, asks_per_minute=20)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def copy(name: str, model: str = "m") -> Copy:
    return Copy(key=("default", name), pod=f"{name}-1", uid=f"uid-{name}", model=model)


def waiter(name: str = "receipts", lack: float = 8, **change: Any) -> Waiter:
    reported: dict[str, Any] = {"gpu": "GPU-1", "since": ago(0.2), "priority": 0, "reserved": False}
    return Waiter(copy=copy(name), lack_bytes=int(lack * GIB), **(reported | change))


def resident(
    name: str, held: float = 12, idle: float | None = 60, ready: float = 600, **change: Any
) -> Resident:
    reported: dict[str, Any] = {"gpu": "GPU-1", "priority": 0, "preload": False, "reserved": False}
    return Resident(
        copy=copy(name),
        held_bytes=int(held * GIB),
        ready_since=ago(ready),
        idle_since=None if idle is None else ago(idle),
        **(reported | change),
    )


def asked(
    victim: Resident, seconds: float, outcome: Outcome | None = Outcome.OFFLOADED, took: float = 0.1
) -> Asked:
    at = ago(seconds)
    ended = at + timedelta(seconds=took) if outcome else None
    return Asked(
        victim=victim.copy, waiter=copy("receipts"), gpu="GPU-1", at=at, ended=ended, outcome=outcome
    )


def plan(
    waiters: Iterable[Waiter],
    residents: Iterable[Resident],
    recent: Iterable[Asked] = (),
    rules: Rules = RULES,
    now: datetime = NOW,
) -> Plan:
    return preemption.plan(waiters, residents, recent, rules, now)


def chosen(answer: Plan) -> list[str]:
    return [ask.victim.copy.key[1] for ask in answer.asks]


def test_the_lowest_priority_goes_first_then_who_is_idle_the_longest() -> None:
    others = [resident("old", idle=90), resident("low", idle=10, priority=-1), resident("new", idle=20)]
    answer = plan([waiter()], others)
    assert chosen(answer) == ["low"]
    assert answer.asks[0].why == (
        "m of default/low-1 makes way on GPU-1 (12Gi, priority -1) for m of default/receipts-1, which lacks 8Gi: "
        "the idlest of the lowest priority that suffices"
    )
    assert chosen(plan([waiter()], others[::2])) == ["old"]


def test_as_few_go_as_suffice() -> None:
    others = [
        resident("a", 3, 90),
        resident("b", 4, 80),
        resident("c", 9, 70),
        resident("d", 20, 60, priority=1),
    ]
    assert chosen(plan([waiter(lack=8)], others)) == ["c"]
    assert chosen(plan([waiter(lack=12)], others)) == ["a", "c"], "the idlest of those that suffice with it"
    assert chosen(plan([waiter(lack=16)], others)) == ["a", "b", "c"], (
        "nobody of a higher priority than needed"
    )
    assert chosen(plan([waiter(lack=17)], others)) == [], "of higher priority than the waiter"
    assert chosen(plan([waiter(lack=17, priority=1)], others)) == ["d"]


@pytest.mark.parametrize(
    ("change", "bar"),
    [
        ({"idle": None}, messages.IN_USE),
        ({"priority": 1}, messages.HIGHER),
        ({"preload": True}, messages.PRELOADED),
        ({"reserved": True}, messages.PROMISED),
        ({"ready": 4}, messages.SOON),
        ({"held": 7}, messages.SOON),
    ],
)
def test_who_may_not_go_is_not_asked_and_the_reason_is_told(change: dict[str, Any], bar: str) -> None:
    answer = plan([waiter(since=ago(3))], [resident("other", **change)])
    assert not answer.asks
    assert (
        answer.no_victims[0].why == f"m of default/receipts-1 lacks 8Gi on GPU-1: of 1 model there 1 is {bar}"
    )


def test_nobody_there_but_strangers() -> None:
    answer = plan([waiter(since=ago(3))], [])
    assert "no pod of an OcrDeployment holds memory there" in answer.no_victims[0].why
    assert answer.retry_seconds is None


def test_a_wait_is_told_about_only_when_it_is_long() -> None:
    answer = plan([waiter(since=ago(0.4))], [])
    assert not answer.no_victims
    assert answer.retry_seconds == pytest.approx(0.6)


def test_a_higher_priority_sends_preloaded_models_away() -> None:
    assert chosen(plan([waiter(priority=1)], [resident("other", preload=True)])) == ["other"]


def test_what_placement_promised_stands_above_priorities() -> None:
    others = [resident("other", priority=5, preload=True)]
    assert chosen(plan([waiter(reserved=True)], others)) == ["other"]
    both = [waiter("high", priority=9), waiter("promised", reserved=True)]
    [ask] = plan(both, [resident("other")]).asks
    assert ask.waiter.copy == copy("promised")


def test_a_model_stays_for_its_minimum_and_the_end_of_that_is_known() -> None:
    answer = plan([waiter()], [resident("other", ready=3)])
    assert not answer.asks
    assert answer.retry_seconds == pytest.approx(0.8), "who waits for a second is told about"
    assert plan([waiter(since=ago(2))], [resident("other", ready=3)]).retry_seconds == pytest.approx(2)
    assert chosen(plan([waiter()], [resident("other", ready=5)])) == ["other"]


def test_models_of_the_waiters_own_pod_are_its_servers_business() -> None:
    own = replace(resident("receipts"), copy=copy("receipts", "second"))
    assert not plan([waiter()], [own]).asks


def test_another_gpu_is_another_matter() -> None:
    assert not plan([waiter()], [resident("other", gpu="GPU-2")]).asks
    waiters = [waiter("x"), waiter("y", gpu="GPU-2")]
    assert chosen(plan(waiters, [resident("a"), resident("b", gpu="GPU-2")])) == ["a", "b"]


def test_an_ask_in_flight_is_not_repeated() -> None:
    other = resident("other")
    assert plan([waiter()], [other, resident("third")], [asked(other, 0.1, None)]) == Plan()


def test_after_an_offload_the_waiter_gets_time_to_take_the_memory() -> None:
    gone, third = resident("other"), resident("third")
    answer = plan([waiter()], [third], [asked(gone, 0.2, took=0.1)])
    assert not answer.asks
    assert answer.retry_seconds == pytest.approx(0.2)
    assert chosen(plan([waiter()], [third], [asked(gone, 0.5, took=0.1)])) == ["third"]


@pytest.mark.parametrize(("outcome", "seconds"), [(Outcome.BUSY, 2.0), (Outcome.FAILED, 10.0)])
def test_who_said_no_is_left_alone_for_a_while_and_others_are_asked(outcome: Outcome, seconds: float) -> None:
    other, third = resident("other", idle=90), resident("third", idle=10)
    recent = [asked(other, seconds - 0.5, outcome, took=0)]
    assert chosen(plan([waiter()], [other, third], recent)) == ["third"]
    answer = plan([waiter(since=ago(5))], [other], recent)
    assert not answer.asks
    assert answer.retry_seconds == pytest.approx(0.5)
    assert chosen(plan([waiter()], [other], [asked(other, seconds, outcome, took=0)])) == ["other"]


def test_asks_are_bounded_per_minute_and_gpu() -> None:
    rules = Rules(min_resident_seconds=0, asks_per_minute=3)
    others = [resident("a", 4), resident("b", 4)]
    recent = [asked(resident("gone"), seconds) for seconds in (59, 30)]
    answer = plan([waiter(since=ago(5))], others, recent, rules)
    assert not answer.asks, "two are needed, one is left"
    assert "3 asks a minute are the limit there" in answer.no_victims[0].why
    assert answer.retry_seconds == pytest.approx(1)
    assert len(plan([waiter()], others, [asked(resident("gone"), 60), recent[1]], rules).asks) == 2
    assert plan([waiter()], others, rules=Rules(asks_per_minute=0)) == Plan()


def test_who_was_helped_lately_comes_after_who_was_not() -> None:
    greedy, honest = waiter("receipts", since=ago(9)), waiter("letters", since=ago(1))
    other = resident("other")
    assert [ask.waiter for ask in plan([greedy, honest], [other]).asks] == [greedy]
    assert [ask.waiter for ask in plan([greedy, honest], [other], [asked(resident("gone"), 9)]).asks] == [
        honest
    ]


def test_a_waiter_that_cannot_be_helped_does_not_keep_the_next_one() -> None:
    waiters = [waiter("big", 40, since=ago(3), priority=1), waiter("small", 2)]
    answer = plan(waiters, [resident("other")])
    assert [ask.waiter.copy.key[1] for ask in answer.asks] == ["small"]
    assert [no_victims.waiter.copy.key[1] for no_victims in answer.no_victims] == ["big"]


def test_the_worked_example_of_the_page_is_what_happens() -> None:
    page = " ".join((DOCS / "preemption.md").read_text(encoding="utf-8").split())

    def named(each: Any, pod: str) -> Any:
        return replace(each, copy=replace(each.copy, pod=pod, model="ocr"))

    letters = named(waiter("letters", 15, priority=1, since=ago(1)), "letters-5d4-xyz")
    invoices = named(resident("invoices", 16, 40), "invoices-7c9-abc")
    others = [
        resident("receipts", 8, 90),
        resident("drawings", 12, 3600, priority=2),
        resident("forms", 4, None, priority=-1),
    ]
    [ask] = plan([letters], [invoices, *others]).asks
    assert ask.why in page
    [no_victims] = plan([letters], [replace(invoices, idle_since=None), *others]).no_victims
    assert no_victims.why in page


# --- what pods say --------------------------------------------------------------------------------------------

LACK = {"needed_bytes": 12 * GIB, "free_bytes": 4 * GIB, "since": "2026-11-23T07:59:59Z"}


def reported(
    name: str = "receipts",
    *,
    model: Mapping[str, Any] | None = None,
    pin: str = "GPU-1",
    on_demand: bool = True,
    live: Mapping[str, Any] | None = None,
    declared: Mapping[str, int] | None = None,
    **state: Any,
) -> ReportedPod:
    annotations = {
        names.ANNOTATION_PLACEMENT: json.dumps({"node": "gpu-a", "memoryBytes": 12 * GIB}),
        names.ANNOTATION_GPU_UUIDS: pin,
        names.ANNOTATION_MEMORY_POLICY: "onDemand" if on_demand else "reserved",
    }
    raw = raw_state(f"{name}-1", models={"m": ("unloaded", "unloaded")}, **state)
    raw["models"][0] |= model or {}
    parsed = podstate.parse(raw)
    assert isinstance(parsed, PodState), parsed
    return ReportedPod(
        key=("default", name),
        pod=observed.pod(raw_pod(f"{name}-1", deployment=name, annotations=annotations)),
        state=parsed,
        live=live or {"models": {"m": {"priority": 3, "preload": True}}},
        declared=declared or {"m": 12 * GIB},
    )


HOLDS = {"state": "ready", "location": "gpu", "memory_bytes": 9 * GIB, "idle_since": "2026-11-23T07:00:00Z"}


def test_who_waits_and_who_holds_is_what_the_pods_say() -> None:
    waiters, residents = preemption.view(
        [reported(model={"waits_for": LACK}), reported("invoices", model=HOLDS)], NOW
    )
    [waits], [holds] = waiters, residents
    assert (waits.lack_bytes, waits.priority, waits.gpu, waits.reserved) == (8 * GIB, 3, "GPU-1", False)
    assert (holds.held_bytes, holds.preload, holds.idle_since) == (9 * GIB, True, ago(3600))
    assert str(waits.copy) == "m of default/receipts-1"


@pytest.mark.parametrize(
    "change",
    [
        {"pin": "GPU-2"},
        {"pin": ""},
        {"uuid": None},
        {"kind": "cpu", "uuid": None},
        {"declared": {"other": GIB}},
        {"declared": {"m": 0}},
        {"model": {"waits_for": {**LACK, "free_bytes": 2**62}}},
        {"model": {"waits_for": LACK, **HOLDS}},
        {"model": {"waits_for": LACK, "state": "loading"}},
    ],
    ids=str,
)
def test_a_lie_causes_no_ask(change: dict[str, Any]) -> None:
    each = reported(**({"model": {"waits_for": LACK}} | change))
    assert preemption.view([each], NOW)[0] == ()


def test_a_lie_about_amounts_counts_for_no_more_than_is_declared() -> None:
    huge = {"needed_bytes": 2**62, "free_bytes": 0, "since": "1970-01-01T00:00:00Z"}
    [waits], _ = preemption.view([reported(model={"waits_for": huge})], NOW)
    assert waits.lack_bytes == 12 * GIB
    _, [holds] = preemption.view([reported(model={**HOLDS, "memory_bytes": 2**62})], NOW)
    assert holds.held_bytes == 12 * GIB


def test_times_from_the_future_are_now() -> None:
    later = {"since": "2027-01-01T00:00:00Z"}
    [waits], _ = preemption.view([reported(model={"waits_for": {**LACK, **later}})], NOW)
    _, [holds] = preemption.view([reported(model={**HOLDS, **later, "idle_since": later["since"]})], NOW)
    assert waits.since == holds.ready_since == holds.idle_since == NOW


@pytest.mark.parametrize("use", [{"in_flight": 1}, {"waiting": 1}, {"idle_since": None}])
def test_a_model_in_use_is_known_to_be_so(use: dict[str, Any]) -> None:
    _, [holds] = preemption.view([reported(model={**HOLDS, **use})], NOW)
    assert holds.idle_since is None


def test_pods_that_go_and_pods_of_the_older_server_take_no_part() -> None:
    gone = reported(model={"waits_for": LACK})
    assert preemption.view([replace(gone, pod=replace(gone.pod, terminating=True))], NOW) == ((), ())
    draining = msgspec.structs.replace(gone.state, draining=True)
    assert preemption.view([replace(gone, state=draining)], NOW) == ((), ())
    _, [holds] = preemption.view(
        [reported(model={key: HOLDS[key] for key in HOLDS if key != "idle_since"})], NOW
    )
    assert holds.idle_since is None, "never asked"


# --- for any input --------------------------------------------------------------------------------------------

SECONDS = st.sampled_from([0.0, 1.0, 4.9, 5.0, 30.0, 90.0])
PRIORITIES = st.integers(-1, 1)
GPUS = st.sampled_from(["GPU-1", "GPU-1", "GPU-2"])
OUTCOMES = st.sampled_from([*Outcome, *Outcome, *Outcome, None])
COPIES = [copy(name, model) for name in "abcde" for model in ("m", "n")]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Waiter], list[Resident], list[Asked]]:
    copies = draw(st.permutations(COPIES))
    split, end = draw(st.integers(1, 4)), draw(st.integers(6, 10))
    waiters = [
        Waiter(
            copy=each,
            gpu=draw(GPUS),
            lack_bytes=draw(st.integers(1, 6)),
            since=ago(draw(SECONDS)),
            priority=draw(PRIORITIES),
            reserved=draw(st.booleans()),
        )
        for each in copies[:split]
    ]
    residents = [
        Resident(
            copy=each,
            gpu=draw(GPUS),
            held_bytes=draw(st.integers(1, 8)),
            priority=draw(PRIORITIES),
            preload=draw(st.booleans()),
            reserved=draw(st.integers(0, 4)) == 0,
            ready_since=ago(draw(SECONDS)),
            idle_since=ago(draw(SECONDS)) if draw(st.integers(0, 2)) else None,
        )
        for each in copies[split:end]
    ]
    recent = [
        Asked(
            victim=draw(st.sampled_from(COPIES)),
            waiter=draw(st.sampled_from(COPIES)),
            gpu=draw(GPUS),
            at=(at := ago(draw(SECONDS))),
            ended=None if outcome is None else min(NOW, at + timedelta(seconds=0.2)),
            outcome=outcome,
        )
        for outcome in draw(st.just([]) | st.lists(OUTCOMES, max_size=4))
    ]
    return waiters, residents, recent


@given(worlds(), st.randoms(use_true_random=False), st.integers(0, 8))
def test_any_plan_keeps_the_promises(
    cluster: tuple[list[Waiter], list[Resident], list[Asked]], random: Any, limit: int
) -> None:
    waiters, residents, recent = cluster
    rules = Rules(min_resident_seconds=5, asks_per_minute=limit)
    answer = plan(waiters, residents, recent, rules)
    for each in (waiters, residents, recent):
        random.shuffle(each)
    assert plan(waiters, residents, recent, rules) == answer, "the order is irrelevant"
    for gpu in ("GPU-1", "GPU-2"):
        asks = [ask for ask in answer.asks if ask.waiter.gpu == gpu]
        here = [each for each in recent if each.gpu == gpu and NOW - each.at < preemption.WINDOW]
        assert len({ask.waiter.copy for ask in asks}) <= 1
        assert not asks or len(asks) + len(here) <= limit
        assert not (asks and any(each.ended is None for each in here))
    for ask in answer.asks:
        victim, waits = ask.victim, ask.waiter
        assert victim.gpu == waits.gpu
        assert victim.copy.uid != waits.copy.uid
        assert victim.idle_since is not None
        assert victim.ready_since is not None
        assert NOW - victim.ready_since >= timedelta(seconds=5)
        assert not victim.reserved
        assert waits.reserved or victim.priority <= waits.priority
        assert waits.reserved or not victim.preload or victim.priority < waits.priority
    assert answer.retry_seconds is None or answer.retry_seconds > 0


@given(worlds(), st.integers(1, 30))
def test_the_victims_are_the_fewest_that_suffice(
    cluster: tuple[list[Waiter], list[Resident], list[Asked]], lack: int
) -> None:
    _, residents, _ = cluster
    answer = policies.DEFAULT.choose(lack, residents)
    if not answer:
        assert sum(each.held_bytes for each in residents) < lack
        return
    assert sum(each.held_bytes for each in answer) >= lack
    ceiling = max(each.priority for each in answer)
    pool = [each for each in residents if each.priority <= ceiling]
    fewer = combinations(pool, len(answer) - 1)
    assert all(sum(each.held_bytes for each in some) < lack for some in fewer)
    below = [each for each in residents if each.priority < ceiling]
    assert sum(each.held_bytes for each in below) < lack, "no higher a priority than needed"


@given(worlds())
def test_two_resources_cannot_thrash(cluster: tuple[list[Waiter], list[Resident], list[Asked]]) -> None:
    """Waiters that are never content: whatever the plans are, the asks of each minute stay within the bound."""
    waiters, residents, _ = cluster
    rules = Rules(min_resident_seconds=0, asks_per_minute=4)
    recent: list[Asked] = []
    for step in range(90):
        now = NOW + timedelta(seconds=step)
        recent += [
            Asked(
                victim=ask.victim.copy,
                waiter=ask.waiter.copy,
                gpu=ask.waiter.gpu,
                at=now,
                ended=now,
                outcome=Outcome.OFFLOADED,
            )
            for ask in plan(waiters, residents, recent, rules, now).asks
        ]
    for each in recent:
        near = [other for other in recent if other.gpu == each.gpu and timedelta() <= other.at - each.at]
        assert sum(other.at - each.at < preemption.WINDOW for other in near) <= 4
