"""Streams of events: what a client reads, and what becomes of their source."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from ocr_inference.api import sse
from tests.support.patience import PATIENCE


class Source:
    """Yields what it is given, then waits, ends or raises; says when it is closed."""

    def __init__(self, *items: str, end: BaseException | None = None, ends: bool = True) -> None:
        self.items = items
        self.end = end
        self.ends = ends
        self.begun = asyncio.Event()
        self.closed = asyncio.Event()
        self.tasks: set[asyncio.Task[object] | None] = set()

    async def read(self) -> AsyncGenerator[str, None]:
        self.begun.set()
        try:
            for item in self.items:
                self.tasks.add(asyncio.current_task())
                yield item
            if self.end is not None:
                raise self.end
            if not self.ends:
                await asyncio.Event().wait()
        finally:
            self.tasks.add(asyncio.current_task())
            self.closed.set()


async def heard(source: Source, seconds: float = 60.0, most: int = 100) -> list[str | None]:
    out: list[str | None] = []
    async with aclosing(sse.with_timeouts(source.read(), seconds)) as with_timeouts:
        async for item in with_timeouts:
            out.append(item)
            if len(out) == most:
                break
    return out


async def test_items_come_in_order_and_the_end_after_them() -> None:
    source = Source("a", "b", "c")
    assert await heard(source) == ["a", "b", "c"]
    assert source.closed.is_set()


async def test_silence_is_told_again_and_again() -> None:
    source = Source("a", ends=False)
    assert await heard(source, seconds=0.01, most=4) == ["a", None, None, None]
    assert source.closed.is_set()


async def test_what_the_source_raises_comes_after_its_items() -> None:
    with_timeouts = sse.with_timeouts(Source("a", "b", end=ValueError("broken")).read(), 60.0)
    assert [await anext(with_timeouts), await anext(with_timeouts)] == ["a", "b"]
    with pytest.raises(ValueError, match="broken"):
        await anext(with_timeouts)


async def test_the_source_runs_in_one_task() -> None:
    source = Source("a", "b")
    await heard(source)
    assert len(source.tasks) == 1


async def test_cancelling_the_reader_closes_the_source() -> None:
    source = Source("a", ends=False)
    reader = asyncio.create_task(heard(source))
    async with asyncio.timeout(PATIENCE):
        await source.begun.wait()
        reader.cancel()
        await asyncio.wait({reader})
    assert reader.cancelled()
    assert source.closed.is_set()


async def test_an_answer_that_comes_again_is_no_change() -> None:
    async def answers() -> AsyncGenerator[bytes | None]:
        for each in (b"queued", b"queued", None, b"queued", b"running", None, None, b"queued"):
            yield each

    found = [each async for each in sse.changes(answers())]
    assert found == [b"queued", None, b"running", None, None, b"queued"]
