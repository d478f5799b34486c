"""A real HTTP server in this process."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

ACCEPTING = 3
"""Turns of the loop from a connection that asyncio accepts until aiohttp knows of it."""


@asynccontextmanager
async def serving(
    app: web.Application, ip: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve while the block runs; yields the URL.

    No connection outlives it. If the server is closed in the turn in which a connection is accepted, neither asyncio
    (gh-109564) nor aiohttp closes that one: the socket is found by garbage collection in whatever test runs then.
    """
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.05)
    await runner.setup()
    try:
        listener = socket.create_server((ip, port))
        await web.SockSite(runner, listener, ssl_context=tls).start()
        try:
            yield f"{'https' if tls else 'http'}://{ip}:{listener.getsockname()[1]}"
        finally:
            asyncio.get_running_loop().remove_reader(listener)
            for _ in range(ACCEPTING):
                await asyncio.sleep(0)
    finally:
        await runner.cleanup()


@contextmanager
def serving_beside(app: web.Application, *, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The same for a test that isn't asynchronous: the server has a loop in a thread of its own."""
    url: Future[str] = Future()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def run() -> None:
        try:
            async with serving(app, tls=tls) as found:
                url.set_result(found)
                await over.wait()
        except Exception as error:
            if url.done():
                raise
            url.set_exception(error)

    def work() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(run())
            runner.run(_hang_up(loop))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield url.result(60)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


async def _hang_up(loop: asyncio.AbstractEventLoop) -> None:
    """End every connection of a loop that is about to be closed. One with TLS says goodbye in several turns, and one
    that still shakes hands is known to asyncio alone; nothing public lists them.
    """
    for transport in list(vars(loop)["_transports"].values()):
        transport.abort()
    for _ in range(ACCEPTING):
        await asyncio.sleep(0)
