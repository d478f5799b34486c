"""The queue of waiters as a value, against a sorted list; and that a decision doesn't go through it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.config.settings import Queue
from ocr_inference.scheduling import scheduler
from ocr_inference.scheduling.commands import Acquire, Cancel, Command, Release, Tick
from ocr_inference.scheduling.sorted_tuples import CHUNK, SortedTuples
from ocr_inference.scheduling.state import Model, SchedulerState
from ocr_inference.scheduling.waiter_queue import Waiter, WaiterQueue
from tests.support.story import Story, policy

TIMES = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, math.inf])


@given(
    st.lists(st.tuples(TIMES, TIMES), max_size=200),
    st.lists(st.integers(0, 199)),
    st.integers(0, 200),
    TIMES,
)
def test_a_queue_is_its_waiters_in_order(
    times: list[tuple[float, float]], leaving: list[int], bulk: int, now: float
) -> None:
    waiters = [Waiter(ticket, since, deadline) for ticket, (since, deadline) in enumerate(times)]
    queue = WaiterQueue.of(waiters[:bulk])
    for waiter in waiters[bulk:]:
        queue = queue.add(waiter)
    gone = {number for number in leaving if number < len(waiters)}
    whole, left = queue, [each for each in waiters if each.ticket not in gone]
    for number in gone:
        queue = queue.without([waiters[number]])
    assert list(whole) == sorted(waiters, key=lambda each: (each.since, each.ticket)), "it was changed"
    assert list(queue) == sorted(left, key=lambda each: (each.since, each.ticket))
    assert len(queue) == len(left)
    assert queue.oldest == next(iter(queue), None)
    assert [queue.get(each.ticket) for each in waiters] == [
        each if each in left else None for each in waiters
    ]
    assert {each.ticket for each in queue.late(now)} == {each.ticket for each in left if each.deadline <= now}
    assert queue.next_deadline(now) == min(
        (each.deadline for each in left if each.deadline > now), default=math.inf
    )
    assert queue == whole.without([waiters[number] for number in gone])


@given(st.integers(0, 1500), st.randoms(use_true_random=False))
def test_chunks_stay_small_and_few(count: int, random: Random) -> None:
    numbers = random.sample(range(3000), count)
    tuples: SortedTuples[tuple[int, str]] = SortedTuples()
    for number in numbers:
        tuples = tuples.add((number, "x"))
    for number in numbers[: random.randrange(count + 1)]:
        tuples = tuples.remove((number, "x"))
    assert all(0 < len(chunk) <= CHUNK for chunk in tuples._chunks)
    pairs = zip(tuples._chunks, tuples._chunks[1:], strict=False)
    assert not any(len(one) + len(other) < CHUNK // 4 for one, other in pairs)


class _Time(float):
    """Time that counts how often any of its kind is compared."""

    compared = 0

    def __lt__(self, other: float) -> bool:
        _Time.compared += 1
        return float(self) < other

    def __le__(self, other: float) -> bool:
        _Time.compared += 1
        return float(self) <= other

    def __gt__(self, other: float) -> bool:
        _Time.compared += 1
        return float(self) > other

    def __eq__(self, other: object) -> bool:
        _Time.compared += 1
        return float(self) == other

    __hash__ = float.__hash__


@contextmanager
def _few_looks() -> Iterator[None]:
    """Check that the block compares few times, though thousands wait."""
    before = _Time.compared
    yield
    assert _Time.compared - before < 200


def _crowded(waiting: int) -> Story:
    """Return a story in which so many wait for a model that is being loaded."""
    story = Story({"a": policy(), "b": policy()}, queue=Queue(10_000, 10_000, 10_000), max_pages=2)
    for _ in range(waiting):
        story.ticket += 1
        story.do(_acquire(story))
    return story


def _acquire(story: Story) -> Acquire:
    return Acquire(story.ticket, "a", _Time(500 + story.ticket % 7), _Time(story.now))


def test_no_decision_goes_through_thousands_of_waiters() -> None:
    story = _crowded(3000)
    story.ticket += 1
    commands: tuple[Command, ...] = (_acquire(story), Cancel(2000), Tick(), Cancel(story.ticket))
    for command in commands:
        with _few_looks():
            story.do(command)
    with _few_looks():
        story.end()
    assert story.granted(1)
    with _few_looks():
        story.do(Release(1))
    assert story.granted(3)


def test_a_state_that_was_given_in_stays_as_it_was() -> None:
    story = _crowded(200)
    before = story.scheduler_state
    copy = SchedulerState({name: _copied(model) for name, model in before.models.items()}, before.effective)
    scheduler.decide(before, Cancel(100), 1.0)
    scheduler.decide(before, Tick(), 600.0)
    assert {name: _copied(model) for name, model in before.models.items()} == copy.models


def _copied(model: Model) -> Model:
    return Model(model.name, model.policy, servable=WaiterQueue.of(tuple(model.servable)))
