"""Server-sent events to one client."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from typing import TypeVar

from aiohttp import web

_T = TypeVar("_T")

HEARTBEAT_SECONDS = 10.0
"""Time without an event after which a comment is sent: proxies cut idle connections."""


class Gone(Exception):
    """Client that has left, or accepts no data any more; its connection is closed."""


class Events:
    """Stream of events. Call `open` first; every method raises `Gone`."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )

    @property
    def opened(self) -> bool:
        return self.response.prepared

    async def open(self) -> None:
        """Send the head: from now on the status is 200, whatever happens."""
        await self.response.prepare(self._request)

    async def send(self, data: bytes, event: str | None = None) -> None:
        """Send an event; `data` is one line."""
        name = b"" if event is None else b"event: " + event.encode() + b"\n"
        await self._write(name + b"data: " + data + b"\n\n")

    async def heartbeat(self) -> None:
        await self._write(b": heartbeat\n\n")

    async def _write(self, message: bytes) -> None:
        try:
            await self.response.write(message)
        except ConnectionError as error:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise Gone from error


async def with_timeouts(source: AsyncGenerator[_T, None], seconds: float) -> AsyncGenerator[_T | None, None]:
    """Yield what `source` yields, and None whenever that takes longer than `seconds`; raises what `source` raises.

    `source` runs in one task of its own, so it may hold timeouts; it is closed when this generator is.
    """
    end = object()
    items: asyncio.Queue[object] = asyncio.Queue()

    async def pump() -> None:
        try:
            async with aclosing(source):
                async for item in source:
                    items.put_nowait(item)
        finally:
            items.put_nowait(end)

    task = asyncio.create_task(pump(), name="paced")
    try:
        while True:
            try:
                async with asyncio.timeout(seconds):
                    item = await items.get()
            except TimeoutError:
                yield None
                continue
            if item is end:
                await task  # Raises what `source` raised.
                return
            yield item  # type: ignore[misc]
    finally:
        task.cancel()
        await asyncio.wait({task})


async def changes(answers: AsyncIterable[_T | None]) -> AsyncGenerator[_T | None, None]:
    """Yield None as it comes, and answers that differ from the one before: what has changed may be nothing that clients
    see, such as the beginning of a page."""
    before: _T | None = None
    async for answer in answers:
        if answer is None or answer != before:
            yield answer
        before = answer or before
