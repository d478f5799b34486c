import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from ocr_operator.controllers.workqueue import AtLatest, WorkQueue, soonest
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.resources.observed import Key
from tests.support.patience import PATIENCE

A, B = ("default", "a"), ("default", "b")
Reconcile = Callable[[Key], Awaitable[float | None]]


REF = api.Ref(api.OCR_DEPLOYMENT, "default", "a")


def new_queue(concurrency: int = 4, spacing: float = 0.0, metrics: Metrics | None = None) -> WorkQueue:
    return WorkQueue(
        concurrency=concurrency,
        time=asyncio.get_running_loop().time,
        rng=random.Random(1),
        metrics=metrics or Metrics(CollectorRegistry()),
        spacing=spacing,
    )


def counted(metrics: Metrics) -> dict[str, float]:
    [family] = metrics.reconciles.collect()
    return {each.labels["result"]: each.value for each in family.samples if each.name.endswith("_total")}


@asynccontextmanager
async def running(
    reconcile: Reconcile, *, concurrency: int = 4, spacing: float = 0.0
) -> AsyncIterator[WorkQueue]:
    queue = new_queue(concurrency, spacing)
    task = asyncio.create_task(queue.run(reconcile))
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.wait([task])


class Passes:
    """Counts passes; each waits for `gate`."""

    def __init__(self) -> None:
        self.began: list[Key] = []
        self.at: list[float] = []
        self.running: set[Key] = set()
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.again: float | None = None
        self.news = asyncio.Event()

    async def reconcile(self, key: Key) -> float | None:
        assert key not in self.running, "two passes over one object"
        self.running.add(key)
        self.most = max(self.most, len(self.running))
        self.began.append(key)
        self.at.append(asyncio.get_running_loop().time())
        self.news.set()
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
        finally:
            self.running.discard(key)
            self.news.set()
        return self.again

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self.news.clear()
                await self.news.wait()


async def test_many_wakeups_during_a_pass_make_one_more() -> None:
    recorded = Passes()
    recorded.gate.clear()
    async with running(recorded.reconcile) as queue:
        queue.enqueue(A)
        await recorded.until(lambda: len(recorded.began) == 1)
        for _ in range(100):
            queue.enqueue(A, urgent=True)
        recorded.gate.set()
        await recorded.until(lambda: len(recorded.began) == 2 and not recorded.running)
        queue.enqueue(B)
        await recorded.until(lambda: B in recorded.began)

    assert recorded.began == [A, A, B]


async def test_first_wakeup_acts_at_once_and_the_next_ones_keep_their_distance() -> None:
    recorded = Passes()
    async with running(recorded.reconcile, spacing=0.15) as queue:
        before = asyncio.get_running_loop().time()
        queue.enqueue(A)
        await recorded.until(lambda: len(recorded.at) == 1 and not recorded.running)
        queue.enqueue(A)
        queue.enqueue(A)
        await recorded.until(lambda: len(recorded.at) == 2)

    assert recorded.at[0] - before < 0.1
    assert recorded.at[1] - recorded.at[0] >= 0.149


async def test_urgent_wakeup_does_not_wait() -> None:
    recorded = Passes()
    async with running(recorded.reconcile, spacing=60) as queue:
        queue.enqueue(A)
        await recorded.until(lambda: len(recorded.at) == 1 and not recorded.running)
        queue.enqueue(A)
        queue.enqueue(A, urgent=True)
        await recorded.until(lambda: len(recorded.at) == 2)


async def test_a_pass_asks_for_its_next_one() -> None:
    recorded = Passes()
    recorded.again = 0.01
    async with running(recorded.reconcile) as queue:
        queue.enqueue(A)
        await recorded.until(lambda: len(recorded.began) >= 3)


async def test_earlier_wakeup_wins_over_a_later_one() -> None:
    recorded = Passes()
    async with running(recorded.reconcile) as queue:
        queue.enqueue_after(A, 60)
        queue.enqueue_after(A, 0.01)
        await recorded.until(lambda: recorded.began == [A])


async def test_forgotten_object_is_not_looked_at_until_woken() -> None:
    recorded = Passes()
    async with running(recorded.reconcile) as queue:
        queue.enqueue_after(A, 0.02)
        queue.forget(A)
        queue.enqueue_after(B, 0.05)
        await recorded.until(lambda: B in recorded.began)
        assert A not in recorded.began
        queue.enqueue(A)
        await recorded.until(lambda: A in recorded.began)


async def test_slow_objects_do_not_hold_up_others_until_all_slots_are_taken() -> None:
    recorded = Passes()
    recorded.gate.clear()
    keys = [("default", str(number)) for number in range(5)]
    async with running(recorded.reconcile, concurrency=2) as queue:
        for key in keys:
            queue.enqueue(key)
        await recorded.until(lambda: len(recorded.running) == 2)
        recorded.gate.set()
        await recorded.until(lambda: set(recorded.began) == set(keys))

    assert recorded.most == 2


async def test_a_pass_that_fails_is_counted_and_repeated_until_it_works() -> None:
    errors: list[Exception] = [
        RuntimeError("a fault"),
        api.Conflict(REF, 409, "changed"),
        api.Conflict(REF, 409, "changed"),
    ]
    recorded = Passes()

    async def reconcile(key: Key) -> float | None:
        again = await recorded.reconcile(key)
        if len(recorded.began) <= len(errors):
            raise errors[len(recorded.began) - 1]
        return again

    metrics = Metrics(CollectorRegistry())
    queue = new_queue(metrics=metrics)
    task = asyncio.create_task(queue.run(reconcile))
    queue.enqueue(A)
    await recorded.until(lambda: len(recorded.began) == 4 and not recorded.running)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert counted(metrics) == {"failed": 1, "conflict": 2, "done": 1}
    first, second, *_ = recorded.at
    assert second - first >= 0.25, "a fault waits for half of 0.5 s at least"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.integers(1, 3))
def test_every_wakeup_is_followed_by_a_pass(signals: list[tuple[str, bool]], slots: int) -> None:
    """Whatever the order: after the last signal of an object, a pass over it begins."""

    async def run() -> None:
        recorded, seen = Passes(), dict[str, int]()
        async with running(recorded.reconcile, concurrency=slots, spacing=0.001) as queue:
            for name, urgent in signals:
                queue.enqueue(("default", name), urgent=urgent)
                seen[name] = recorded.began.count(("default", name))
                await asyncio.sleep(0)
            await recorded.until(
                lambda: all(recorded.began.count(("default", name)) > n for name, n in seen.items())
            )

    asyncio.run(run())


def one_at_a_time(clock: list[float]) -> WorkQueue:
    """Return a queue that goes by the seconds in the list."""
    return WorkQueue(
        concurrency=1, time=lambda: clock[0], rng=random.Random(1), metrics=Metrics(CollectorRegistry())
    )


async def run_until(done: asyncio.Event, queue: WorkQueue, reconcile: Reconcile) -> None:
    task = asyncio.create_task(queue.run(reconcile))
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    task.cancel()
    await asyncio.wait([task])


async def test_lateness_is_by_how_much_the_last_pass_began_late() -> None:
    clock, late, done = [0.0], {}, asyncio.Event()
    queue = one_at_a_time(clock)

    async def reconcile(key: Key) -> None:
        late[key] = queue.lateness()
        clock[0] += 3.0
        if len(late) == 2:
            done.set()

    queue.enqueue(A)
    queue.enqueue(B)
    await run_until(done, queue, reconcile)

    assert late == {A: 0.0, B: 3.0}


async def test_what_was_due_before_passes_are_run_is_not_late() -> None:
    """A replica that waits for the Lease has all objects in its queue for hours."""
    clock, late, done = [0.0], list[float](), asyncio.Event()
    queue = one_at_a_time(clock)

    async def reconcile(_: Key) -> None:
        late.append(queue.lateness())
        done.set()

    queue.enqueue(A)
    clock[0] = 3600.0
    await run_until(done, queue, reconcile)

    assert late == [0.0]


async def test_pass_that_goes_on_for_long_makes_the_next_one_over_its_object_no_later() -> None:
    clock, done = [0.0], asyncio.Event()
    late: list[float] = []
    queue = one_at_a_time(clock)

    async def reconcile(key: Key) -> None:
        late.append(queue.lateness())
        if len(late) == 1:
            queue.enqueue(key, urgent=True)
            clock[0] += 20.0  # a webhook is slow
        else:
            done.set()

    queue.enqueue(A)
    await run_until(done, queue, reconcile)

    assert late == [0.0, 0.0]


async def passes_of(answer: Callable[[Key, int], float | None], *, until: int) -> list[tuple[Key, float]]:
    """Run passes of a second each over A and B, one at a time; return their objects with how late they began."""
    clock, began, done = [0.0], list[tuple[Key, float]](), asyncio.Event()
    queue = one_at_a_time(clock)

    async def reconcile(key: Key) -> float | None:
        began.append((key, queue.lateness()))
        clock[0] += 1.0
        if len(began) == until:
            done.set()
            await asyncio.Event().wait()
        return answer(key, len(began))

    queue.enqueue(A)
    queue.enqueue(B)
    await run_until(done, queue, reconcile)
    return began


async def test_pass_that_comes_at_the_latest_then_comes_once_no_other_is_due() -> None:
    began = await passes_of(lambda key, _: AtLatest(3600.0) if key == A else None, until=3)

    assert began == [(A, 0.0), (B, 1.0), (A, 0.0)]


async def test_pass_that_comes_at_the_latest_then_comes_then_where_others_are_always_due() -> None:
    began = await passes_of(lambda key, _: AtLatest(3.5) if key == A else 0.0, until=6)

    assert [key for key, _ in began] == [A, B, B, B, B, A]


async def test_pass_that_comes_in_so_many_seconds_comes_no_earlier() -> None:
    began = await passes_of(lambda key, number: 3600.0 if key == A else 0.0 if number < 5 else None, until=5)

    assert [key for key, _ in began] == [A, B, B, B, B]


async def test_pass_that_comes_at_the_latest_then_waits_for_calm_elsewhere_too() -> None:
    clock, began, calm, done = [0.0], list[float](), [False], asyncio.Event()
    queue = WorkQueue(
        concurrency=1,
        time=lambda: clock[0],
        rng=random.Random(1),
        metrics=Metrics(CollectorRegistry()),
        calm=lambda: calm[0],
    )

    async def reconcile(key: Key) -> float | None:
        began.append(clock[0])
        clock[0] += 1.0
        if key == B:
            calm[0] = clock[0] > 2.0
            return None if calm[0] else 0.0
        if len(began) == 4:
            done.set()
        return AtLatest(3600.0)

    queue.enqueue(A)
    queue.enqueue(B)
    await run_until(done, queue, reconcile)

    assert began == [0.0, 1.0, 2.0, 3.0], "A, B twice, for it isn't calm until then, and A again"


def test_the_soonest_of_some_waits_comes_earlier_where_one_of_them_does() -> None:
    found = soonest([None, 5.0, AtLatest(30.0)])

    assert (found, type(found)) == (5.0, AtLatest)
    assert type(soonest([5.0, 7.0])) is float
    assert soonest([None]) is None
