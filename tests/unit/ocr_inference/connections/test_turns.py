"""Work on the loop in turns: who has used its time waits, and one goes on in each round."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ocr_inference.connections.turns import SLICE_SECONDS, Turns


class Clock:
    """Processor time, as the test says."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
async def rounds() -> AsyncIterator[list[int]]:
    """How often the loop has been around."""
    counted = [0]

    async def count() -> None:
        while True:
            counted[0] += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    yield counted
    counting.cancel()


async def test_work_within_its_slice_goes_on_at_once(rounds: list[int]) -> None:
    clock = Clock()
    work = Turns(clock).work()
    before = rounds[0]
    for _ in range(100):
        clock.seconds += SLICE_SECONDS / 200
        await work.pause()
    assert rounds[0] == before


async def test_of_many_that_work_one_goes_on_in_each_round_in_their_order(rounds: list[int]) -> None:
    clock = Clock()
    turns = Turns(clock)
    went_on: list[tuple[str, int]] = []

    async def work(name: str) -> None:
        mine = turns.work()
        for _ in range(3):
            clock.seconds += SLICE_SECONDS
            await mine.pause()
            went_on.append((name, rounds[0]))

    await asyncio.gather(*(work(name) for name in "abcd"))
    assert [name for name, _ in went_on] == list("abcd") * 3
    numbers = [number for _, number in went_on]
    assert len({*numbers}) == len(numbers), "two in one round"


async def test_who_leaves_holds_up_nobody() -> None:
    turns = Turns(Clock())
    first, second, third = (asyncio.create_task(turns.take()) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, third)
    await turns.take()
