"""Victims: enough, no more than that, the least worthy, whatever the order in which they are named."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.scheduling.eviction import Candidate, choose, idle_for_page
from ocr_inference.scheduling.lifecycle import Event
from ocr_inference.scheduling.state import Model, PendingRequest
from ocr_inference.scheduling.waiter_queue import Waiter, WaiterQueue
from ocr_wire.states import State
from tests.support.story import policy


def make(name: str, size: int = 10, **other: object) -> Candidate:
    base = Candidate(name=name, bytes=size, busy=False, priority=0, preload=False, last_granted=0.0)
    return replace(base, **other)  # type: ignore[arg-type]


def names(chosen: tuple[Candidate, ...] | None) -> list[str]:
    assert chosen is not None
    return [each.name for each in chosen]


candidates = st.lists(
    st.builds(
        Candidate,
        name=st.sampled_from("abcdefgh"),
        bytes=st.integers(0, 20),
        busy=st.booleans(),
        priority=st.integers(-2, 2),
        preload=st.booleans(),
        last_granted=st.floats(0, 100),
    ),
    unique_by=lambda each: each.name,
)


@given(st.integers(1, 60), candidates)
def test_frees_enough_with_no_victim_to_spare(needed: int, all_of_them: list[Candidate]) -> None:
    chosen = choose(needed, all_of_them)
    if chosen is None:
        assert sum(each.bytes for each in all_of_them) < needed
        return
    freed = sum(each.bytes for each in chosen)
    assert freed >= needed
    assert all(freed - each.bytes < needed for each in chosen)


@given(st.integers(1, 60), candidates, st.randoms(use_true_random=False))
def test_order_of_naming_does_not_matter(needed: int, some: list[Candidate], random: object) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(needed, some) == choose(needed, shuffled)


def test_idle_before_busy_low_before_high_lazy_before_preloaded_old_before_new() -> None:
    worth = [
        make("idle-low", priority=-1, last_granted=9),
        make("idle-old", last_granted=1),
        make("idle-new", last_granted=2),
        make("idle-preloaded", preload=True),
        make("idle-high", priority=1),
        make("busy", busy=True, priority=-9),
    ]
    assert names(choose(60, worth)) == [each.name for each in worth]
    for taken in range(1, 6):
        assert names(choose(10 * taken, worth)) == [each.name for each in worth[:taken]]


def test_small_ones_are_spared_when_a_large_one_is_needed_anyway() -> None:
    assert names(choose(50, [make("small", 5, last_granted=1), make("large", 50, last_granted=2)])) == [
        "large"
    ]


def test_what_makes_way_for_a_page_is_ready_idle_and_no_more_important() -> None:
    models = {
        "page": Model("page", policy(priority=1), state=State.READY, leases={1: 0.0}),
        "idle": Model("idle", policy(priority=1), state=State.READY),
        "low": Model("low", policy(priority=0, preload=True), state=State.READY),
        "preloaded": Model("preloaded", policy(priority=1, preload=True), state=State.READY),
        "high": Model("high", policy(priority=2), state=State.READY),
        "leased": Model("leased", policy(), state=State.READY, leases={2: 0.0}),
        "waited": Model("waited", policy(), state=State.READY, servable=WaiterQueue.of([Waiter(3, 0, 9)])),
        "going": Model(
            "going", policy(), state=State.READY, admin_request=PendingRequest(Event.OFFLOAD, (4,), 4)
        ),
        "asleep": Model("asleep", policy(), state=State.OFFLOADED),
        "loading": Model("loading", policy(), state=State.LOADING),
    }
    assert idle_for_page(models, "page") == ("idle", "low")
