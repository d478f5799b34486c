"""How far a load is, told at once and then not too often, the newest last."""

import asyncio

from ocr_inference.protocol.engine import Progress
from ocr_inference.workers.progress import REPORT_SECONDS, ProgressReporter
from tests.support.patience import PATIENCE


def at(done: int) -> Progress:
    return Progress(phase="downloading", done_bytes=done, total_bytes=10)


async def test_the_first_is_told_at_once_and_the_newest_a_second_later() -> None:
    told: asyncio.Queue[Progress] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    began = loop.time()
    with ProgressReporter("m", told.put_nowait) as report:
        for done in range(5):
            report(at(done))
        assert told.get_nowait() == at(0)
        assert told.empty()
        async with asyncio.timeout(PATIENCE):
            assert await told.get() == at(4)
    assert loop.time() - began >= REPORT_SECONDS * 0.99
    assert told.empty()


async def test_nothing_is_told_after_the_end() -> None:
    told: list[Progress] = []
    with ProgressReporter("m", told.append) as report:
        report(at(0))
        report(at(1))
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(REPORT_SECONDS * 1.2, later.set)
    async with asyncio.timeout(PATIENCE):
        await later.wait()
    assert told == [at(0)]
