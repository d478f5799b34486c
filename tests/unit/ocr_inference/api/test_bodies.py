"""The owner of the budget; bodies themselves are read in the tests of the server."""

import asyncio
import resource
from contextlib import AsyncExitStack

import pytest

from ocr_inference.api.bodies import Bodies, Times
from ocr_inference.errors import ApiError
from tests.support.patience import PATIENCE


def bodies(limit: int = 100, wait_seconds: float = PATIENCE, most_waiting: int = 10) -> Bodies:
    return Bodies(limit, Times(wait=wait_seconds), most_waiting=most_waiting)


async def take(budget: Bodies, size: int, until: asyncio.Event) -> None:
    async with budget.admitted(size):
        await until.wait()


async def waiting(budget: Bodies, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while budget.usage().waiting != count:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_bytes_are_held_for_the_block_and_given_back() -> None:
    budget = bodies()
    async with budget.admitted(60) as reserved, budget.admitted(40):
        assert budget.usage().admitted_bytes == 100
        reserved.shrink(10)
        reserved.shrink(50)
        assert budget.usage().admitted_bytes == 50
    assert budget.usage().admitted_bytes == 0


async def test_bytes_are_held_as_long_as_a_file_is() -> None:
    """A worker may go on reading a page whose client has left."""
    budget = bodies()
    async with budget.admitted(60) as reserved:
        with reserved.file() as page:
            held = page.share()
        reserved.shrink(50)
    assert budget.usage().admitted_bytes == 50
    held.close()
    held.close()
    assert budget.usage().admitted_bytes == 0


async def test_a_thread_may_have_the_last_handle() -> None:
    budget = bodies()
    async with budget.admitted(60) as reserved:
        page = reserved.file()
        thread = asyncio.create_task(asyncio.to_thread(page.close))
        assert budget.usage().admitted_bytes == 60
    await thread
    async with asyncio.timeout(PATIENCE):
        while budget.usage().admitted_bytes:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_without_a_descriptor_left_a_page_is_refused() -> None:
    budget = bodies()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with budget.admitted(60) as reserved:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(ApiError) as caught:
                reserved.file()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (caught.value.status, caught.value.code) == (503, "out_of_descriptors")
    assert budget.usage().admitted_bytes == 0


async def test_a_failure_gives_them_back() -> None:
    budget = bodies()
    with pytest.raises(ApiError):
        async with budget.admitted(60):
            raise ApiError(400, "bad", "bad")
    assert budget.usage().admitted_bytes == 0


async def test_a_body_is_never_larger_than_the_budget() -> None:
    budget = bodies()
    async with budget.admitted(1000):
        assert budget.usage().admitted_bytes == 100


async def test_who_waits_is_admitted_when_another_is_answered() -> None:
    budget, answered = bodies(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        async with budget.admitted(100):
            tasks.create_task(take(budget, 100, answered))
            await waiting(budget, 1)
        await waiting(budget, 0)
        assert budget.usage().admitted_bytes == 100
        answered.set()
    assert budget.usage().admitted_bytes == 0


async def test_who_waits_in_vain_is_told_when_to_come_back() -> None:
    budget = bodies(wait_seconds=0)
    async with budget.admitted(100):
        with pytest.raises(ApiError) as caught:
            async with budget.admitted(1):
                raise AssertionError
        assert (caught.value.status, caught.value.code) == (429, "uploads_busy")
        assert caught.value.retry_after_seconds
        assert (budget.usage().waiting, budget.usage().refused) == (0, 1)
    async with budget.admitted(100):
        pass


async def test_a_crowd_is_refused_at_once() -> None:
    budget, answered = bodies(most_waiting=1), asyncio.Event()
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as held:
        await held.enter_async_context(budget.admitted(100))
        tasks.create_task(take(budget, 1, answered))
        await waiting(budget, 1)
        with pytest.raises(ApiError) as caught:
            await held.enter_async_context(budget.admitted(1))
        assert caught.value.code == "uploads_busy"
        assert budget.usage().waiting == 1
        answered.set()


@pytest.mark.parametrize("admitted_first", [False, True])
async def test_a_client_that_leaves_takes_nothing_along(admitted_first: bool) -> None:
    """Also in the moment in which it is admitted."""
    budget, never = bodies(), asyncio.Event()
    async with AsyncExitStack() as held:
        first = await held.enter_async_context(budget.admitted(100))
        leaving = asyncio.create_task(take(budget, 100, never))
        await waiting(budget, 1)
        if admitted_first:
            first.shrink(0)
        leaving.cancel()
        await asyncio.wait({leaving})
        assert budget.usage().waiting == 0
    assert budget.usage().admitted_bytes == 0
