import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.controllers.workqueue import Wakeups
from ocr_operator.resources.observed import Key
from tests.support.patience import PATIENCE

A, B = ("default", "a"), ("default", "b")
Look = Callable[[Key], Awaitable[float | None]]


@asynccontextmanager
async def running(look: Look, *, concurrency: int = 4, spacing: float = 0.0) -> AsyncIterator[Wakeups]:
    loop = asyncio.get_running_loop()
    wakeups = Wakeups(look, concurrency=concurrency, time=loop.time, spacing=spacing)
    task = asyncio.create_task(wakeups.run())
    try:
        yield wakeups
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

    async def look(self, key: Key) -> float | None:
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
    passes = Passes()
    passes.gate.clear()
    async with running(passes.look) as wakeups:
        wakeups.wake(A)
        await passes.until(lambda: len(passes.began) == 1)
        for _ in range(100):
            wakeups.wake(A, urgent=True)
        passes.gate.set()
        await passes.until(lambda: len(passes.began) == 2 and not passes.running)
        wakeups.wake(B)
        await passes.until(lambda: B in passes.began)

    assert passes.began == [A, A, B]


async def test_first_wakeup_acts_at_once_and_the_next_ones_keep_their_distance() -> None:
    passes = Passes()
    async with running(passes.look, spacing=0.15) as wakeups:
        before = asyncio.get_running_loop().time()
        wakeups.wake(A)
        await passes.until(lambda: len(passes.at) == 1 and not passes.running)
        wakeups.wake(A)
        wakeups.wake(A)
        await passes.until(lambda: len(passes.at) == 2)

    assert passes.at[0] - before < 0.1
    assert passes.at[1] - passes.at[0] >= 0.149


async def test_urgent_wakeup_does_not_wait() -> None:
    passes = Passes()
    async with running(passes.look, spacing=60) as wakeups:
        wakeups.wake(A)
        await passes.until(lambda: len(passes.at) == 1 and not passes.running)
        wakeups.wake(A)
        wakeups.wake(A, urgent=True)
        await passes.until(lambda: len(passes.at) == 2)


async def test_a_pass_asks_for_its_next_one() -> None:
    passes = Passes()
    passes.again = 0.01
    async with running(passes.look) as wakeups:
        wakeups.wake(A)
        await passes.until(lambda: len(passes.began) >= 3)


async def test_earlier_wakeup_wins_over_a_later_one() -> None:
    passes = Passes()
    async with running(passes.look) as wakeups:
        wakeups.wake_after(A, 60)
        wakeups.wake_after(A, 0.01)
        await passes.until(lambda: passes.began == [A])


async def test_forgotten_object_is_not_looked_at_until_woken() -> None:
    passes = Passes()
    async with running(passes.look) as wakeups:
        wakeups.wake_after(A, 0.02)
        wakeups.forget(A)
        wakeups.wake_after(B, 0.05)
        await passes.until(lambda: B in passes.began)
        assert A not in passes.began
        wakeups.wake(A)
        await passes.until(lambda: A in passes.began)


async def test_slow_objects_do_not_hold_up_others_until_all_slots_are_taken() -> None:
    passes = Passes()
    passes.gate.clear()
    keys = [("default", str(number)) for number in range(5)]
    async with running(passes.look, concurrency=2) as wakeups:
        for key in keys:
            wakeups.wake(key)
        await passes.until(lambda: len(passes.running) == 2)
        passes.gate.set()
        await passes.until(lambda: set(passes.began) == set(keys))

    assert passes.most == 2


async def test_an_error_that_escapes_ends_the_owner() -> None:
    async def look(key: Key) -> float | None:
        raise RuntimeError(key)

    loop = asyncio.get_running_loop()
    wakeups = Wakeups(look, concurrency=1, time=loop.time)
    wakeups.wake(A)
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(wakeups.run(), PATIENCE)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30), st.integers(1, 3))
def test_every_wakeup_is_followed_by_a_pass(signals: list[tuple[str, bool]], slots: int) -> None:
    """Whatever the order: after the last signal of an object, a pass over it begins."""

    async def run() -> None:
        passes, seen = Passes(), dict[str, int]()
        async with running(passes.look, concurrency=slots, spacing=0.001) as wakeups:
            for name, urgent in signals:
                wakeups.wake(("default", name), urgent=urgent)
                seen[name] = passes.began.count(("default", name))
                await asyncio.sleep(0)
            await passes.until(
                lambda: all(passes.began.count(("default", name)) > n for name, n in seen.items())
            )

    asyncio.run(run())
